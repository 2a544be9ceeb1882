"""Any order of what workers, clients and crashes do to turns, on both databases.

Several workers act on a few conversations in an order that hypothesis makes up. They keep what
they were given, fences above all, and use it as late as they like. After each step the table
has to be one that a reader of ARCHITECTURE.md expects.
"""

import uuid
from dataclasses import dataclass, field, replace

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import update

from app.database import accepting, conversations, erasure, leases, turns
from app.database.accepting import NewTurn
from app.database.database import Database
from app.database.tables import now
from app.database.tables import turns as table
from app.dialogue.turn import Reply, Turn, TurnStatus
from app.errors import Conflict, LostFence
from tests.unit.app.stored import NO_TIME, instant, open_ended, timing

WORKERS = ("red", "green", "blue")
PLACES = st.integers(0, 1)
ANY = st.integers(0, 1000)
SOME_WORKER = st.sampled_from(WORKERS)
OPEN = (TurnStatus.ACCEPTED, TurnStatus.GENERATING)


@dataclass(frozen=True)
class Handle:
    """What a worker was told when it began a turn; it may be long out of date."""

    worker: str
    turn: Turn


@dataclass
class Posted:
    """What a client was told."""

    id: str
    seq: int
    key: str | None
    text: str
    fence: int = 0
    final: Turn | None = None
    """As it was when it ended; it must not change until somebody retries it."""


@dataclass
class Place:
    id: str
    posted: list[Posted] = field(default_factory=list)


class Turns(RuleBasedStateMachine):
    database: Database

    @initialize()
    def conversations(self) -> None:
        self.handles: list[Handle] = []
        self.places = [
            Place(self._write(lambda c: conversations.create(c, "ada", variables=None)).id)
            for _ in range(2)
        ]

    def teardown(self) -> None:
        for place in getattr(self, "places", []):
            self._write(
                lambda c, place=place: erasure.erase_conversation(
                    c, "ada", place.id, by=erasure.By.OWNER
                )
            )

    # --- clients ---

    @rule(where=PLACES, decide=st.sampled_from([instant, open_ended]), worker=SOME_WORKER,
          keyed=st.booleans())  # fmt: skip
    def post(self, where: int, decide, worker: str, keyed: bool) -> None:
        place = self.places[where]
        key = uuid.uuid4().hex if keyed else None
        text = f"message {len(place.posted)}"
        new = NewTurn("ada", place.id, text, worker, key)
        turn = self._write(lambda c: accepting.accept(c, new, decide, timing))
        assert turn.seq == len(place.posted) + 1
        may_begin = all(one.final for one in place.posted)
        assert (turn.status is TurnStatus.ACCEPTED) == (not may_begin)
        place.posted.append(Posted(turn.id, turn.seq, key, text))
        if turn.status is TurnStatus.GENERATING:
            self.handles.append(Handle(worker, turn))

    @precondition(lambda self: any(one.key for one in self._all_posted()))
    @rule(which=ANY, worker=SOME_WORKER)
    def post_again(self, which: int, worker: str) -> None:
        keyed = [(place, one) for place in self.places for one in place.posted if one.key]
        place, posted = keyed[which % len(keyed)]
        before = self._row(posted)
        new = NewTurn("ada", place.id, posted.text, worker, posted.key)
        turn = self._write(lambda c: accepting.accept(c, new, instant, timing))
        assert turn == replace(before, replayed=True)

    @precondition(lambda self: self._all_posted())
    @rule(which=ANY)
    def cancel(self, which: int) -> None:
        posted = self._pick(which)
        before = self._row(posted)
        turn = self._write(lambda c: turns.cancel(c, "ada", posted.id))
        assert turn.reply == before.reply
        assert turn.status is (TurnStatus.CANCELLED if before.status in OPEN else before.status)

    @precondition(lambda self: self._all_posted())
    @rule(which=ANY, worker=SOME_WORKER)
    def retry(self, which: int, worker: str) -> None:
        posted = self._pick(which)
        place = next(one for one in self.places if posted in one.posted)
        before = self._row(posted)
        newest = posted is place.posted[-1]
        try:
            turn, begun = self._write(lambda c: turns.retry(c, "ada", posted.id, worker))
        except Conflict:
            assert not newest or before.status is TurnStatus.DONE
            return
        assert newest
        assert begun == (before.status not in OPEN)
        if begun:
            assert (turn.status, turn.reply) == (TurnStatus.ACCEPTED, None)
            posted.final = None

    # --- workers ---

    @precondition(lambda self: self._all_posted())
    @rule(which=ANY, worker=SOME_WORKER, decide=st.sampled_from([instant, open_ended]))
    def begin(self, which: int, worker: str, decide) -> None:
        posted = self._pick(which)
        place = next(one for one in self.places if posted in one.posted)
        before = self._row(posted)
        try:
            turn = self._write(lambda c: turns.begin(c, posted.id, decide, timing, worker=worker))
        except LostFence:
            assert before.status is TurnStatus.GENERATING
            return
        if turn is None:
            assert before.status is TurnStatus.ACCEPTED
        elif before.status is TurnStatus.ACCEPTED:
            assert all(one.final for one in place.posted if one.seq < posted.seq)
            assert turn.fence == before.fence + 1
            if turn.status is TurnStatus.GENERATING:
                self.handles.append(Handle(worker, turn))

    @precondition(lambda self: self.handles)
    @rule(which=ANY, words=st.text("ab ", max_size=5))
    def grow(self, which: int, words: str) -> None:
        turn, before = self._handled(which)
        self._write(lambda c: turns.grow(c, {(turn.id, turn.fence): Reply(words)}))
        after = self._get(turn.id)
        assert after == (
            replace(before, reply=Reply(words)) if self._is_ours(turn, before) else before
        )

    @precondition(lambda self: self.handles)
    @rule(which=ANY, fails=st.booleans())
    def end(self, which: int, fails: bool) -> None:
        turn, before = self._handled(which)
        try:
            if fails:
                self._write(lambda c: turns.fail(c, turn.id, turn.fence, "internal", NO_TIME))
            else:
                self._write(lambda c: turns.finish(c, turn.id, turn.fence, Reply("x"), NO_TIME))
        except LostFence:
            assert not self._is_ours(turn, before)
            assert self._get(turn.id) == before
        else:
            assert self._is_ours(turn, before)

    @precondition(lambda self: self._all_posted())
    @rule(which=ANY, worker=SOME_WORKER)
    def give_up_waiting(self, which: int, worker: str) -> None:
        posted = self._pick(which)
        before = self._row(posted)
        late = Reply("Sorry.", degraded="deadline")
        try:
            self._write(lambda c: turns.finish_waiting(c, posted.id, worker, late, NO_TIME))
        except LostFence:
            assert self._row(posted) == before
        else:
            assert before.status is TurnStatus.ACCEPTED

    @rule(worker=SOME_WORKER, crashed=st.booleans())
    def adopt(self, worker: str, crashed: bool) -> None:
        if crashed:
            ours = [place.id for place in self.places]
            self._write(
                lambda c: c.execute(
                    update(table)
                    .where(table.c.conversation_id.in_(ours), table.c.lease_until.is_not(None))
                    .values(lease_until=now() - 1)
                )
            )
        for turn in self._write(lambda c: leases.adopt_orphans(c, worker)):
            assert turn.status is TurnStatus.ACCEPTED

    @rule(worker=SOME_WORKER)
    def hand_over(self, worker: str) -> None:
        mine = {one.id for one in self._all_posted()}
        held = self.database.read_now(lambda c: leases.held(c, worker, mine))
        assert self._write(lambda c: leases.release(c, worker)) == len(held)
        assert self.database.read_now(lambda c: leases.held(c, worker, mine)) == set()

    # --- what always holds ---

    @invariant()
    def the_table_is_in_order(self) -> None:
        for place in getattr(self, "places", []):
            rows = self._page(place)
            assert [(one.id, one.seq) for one in rows] == [
                (one.id, number) for number, one in enumerate(place.posted, 1)
            ]
            first_open = next((one.seq for one in rows if one.status in OPEN), None)
            generating = [one.seq for one in rows if one.status is TurnStatus.GENERATING]
            assert generating in ([], [first_open])
            for posted, row in zip(place.posted, rows, strict=True):
                assert row.fence >= posted.fence
                posted.fence = row.fence
                if posted.final is not None:
                    assert row == posted.final, "a final turn was written again"
                elif row.status not in OPEN:
                    posted.final = row

    # --- helpers ---

    def _write(self, operation):
        return self.database.write_now(operation)

    def _get(self, turn_id: str) -> Turn:
        return self.database.read_now(lambda c: turns.get(c, "ada", turn_id))

    def _row(self, posted: Posted) -> Turn:
        return self._get(posted.id)

    def _page(self, place: Place) -> list[Turn]:
        page = lambda c: turns.page(c, "ada", place.id, limit=1000, cursor=None)  # noqa: E731
        return self.database.read_now(page)[0]

    def _all_posted(self) -> list[Posted]:
        return [one for place in getattr(self, "places", []) for one in place.posted]

    def _pick(self, which: int) -> Posted:
        return self._all_posted()[which % len(self._all_posted())]

    def _handled(self, which: int) -> tuple[Turn, Turn]:
        """What a worker believes of a turn, and what is true."""
        turn = self.handles[which % len(self.handles)].turn
        return turn, self._get(turn.id)

    @staticmethod
    def _is_ours(believed: Turn, true: Turn) -> bool:
        return true.status is TurnStatus.GENERATING and true.fence == believed.fence


def test_whatever_happens_in_whatever_order_turns_stay_in_order_and_are_answered_once(
    database: Database,
) -> None:
    class OnThis(Turns):
        pass

    OnThis.database = database
    run_state_machine_as_test(
        OnThis,
        settings=hypothesis.settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )

"""Turns: accepted once, in order, and written by one worker at a time.

A conversation's `next_seq` is its lock: one UPDATE … RETURNING checks the owner, draws the
number and holds back every other turn of the conversation until the commit. `fence` counts
who may write: a worker that comes back late carries an old one, and changes no row.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Row,
    ScalarSelect,
    Select,
    String,
    and_,
    bindparam,
    case,
    exists,
    func,
    null,
    select,
    text,
    true,
    update,
)
from sqlalchemy.sql import ClauseElement

from app.database.ids import new_id
from app.database.prepared import Prepared
from app.database.tables import conversations, now, turns
from app.dialogue.routing import Decision
from app.dialogue.state import DialogueState, Option
from app.dialogue.turn import Decide, Feedback, Reply, Timing, Turn, TurnStatus, Verdict
from app.errors import Conflict, IdempotencyMismatch, InvalidInput, LostFence, NotFound, Overloaded
from generator.interface import ChatMessage, Citation

LEASE_SECONDS = 15.0
MOST_STARTS = 2
"""A turn whose worker died is answered again, but a turn that kills workers is not."""

_OPEN = text("turns.status IN ('accepted', 'generating')")
"""Literal, not parameters: so that both databases see that their partial indexes fit."""


@dataclass(frozen=True, slots=True)
class NewTurn:
    owner: str
    conversation_id: str
    text: str
    worker: str
    idempotency_key: str | None = None
    deadline_seconds: float | None = None
    id: str = field(default_factory=new_id)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.conversation_id}\0{self.text}".encode()).hexdigest()


def accept(
    connection: Connection, new: NewTurn, decide: Decide, timing: Callable[[], Timing]
) -> Turn:
    """Store the utterance with the next number of its conversation; when no earlier turn is
    open, decide it as well, and finish it when a reply is at hand. A request whose key was
    seen before gets the turn that is stored already."""
    conversation = _DRAW_NUMBER(
        connection, {"conversation": new.conversation_id, "whose": new.owner}
    )
    if conversation is None:
        raise NotFound("conversation")
    seq, state, title = conversation
    verdict: Verdict | None = decide(DialogueState.from_json(_parsed(state)))
    turn = _insert(connection, new, seq, verdict, timing()) or _seen(connection, new)
    if turn is None:  # an earlier turn is open: this one waits, and is decided when it begins
        verdict = None
        turn = _insert(connection, new, seq, None, timing()) or _seen(connection, new)
    if turn is None:
        raise Overloaded("this request is being stored by another server; try again shortly")
    if turn.replayed:
        _GIVE_NUMBER_BACK(connection, {"conversation": new.conversation_id})
        return turn
    remembered = {
        "conversation": new.conversation_id,
        "new_title": title or _title_from(new.text),
        "new_state": json.dumps(verdict.state.to_json()) if verdict else None,
    }
    _REMEMBER(connection, remembered)
    return turn


def begin(
    connection: Connection,
    turn_id: str,
    decide: Decide,
    timing: Callable[[], Timing],
    *,
    worker: str,
) -> Turn | None:
    """Take up a stored turn, if it is this one's time; None while an earlier one is open."""
    taken = connection.execute(_BEGIN, {"turn_id": turn_id, "me": worker}).one_or_none()
    if taken is None:
        turn = _load(connection, turn_id)
        if turn.status is TurnStatus.GENERATING:
            raise LostFence("this turn was taken over by another worker")
        return turn if turn.status.is_final else None
    if taken.decision is None:
        state = connection.scalar(
            update(conversations)
            .where(conversations.c.id == taken.conversation_id)
            .values(updated_at=now())
            .returning(conversations.c.state)
        )
        verdict = decide(DialogueState.from_json(state or {}))
        connection.execute(
            update(turns).where(turns.c.id == turn_id).values(_decided(verdict, timing))
        )
        connection.execute(
            update(conversations)
            .where(conversations.c.id == taken.conversation_id)
            .values(state=verdict.state.to_json())
        )
    return _load(connection, turn_id)


def retry(connection: Connection, owner: str, turn_id: str, worker: str) -> tuple[Turn, bool]:
    """Answer a failed or cancelled turn again, as long as it is the newest of its conversation.

    Also says whether it was us who began this: of several retries one does, the others get the
    open turn. Raises Conflict."""
    # Takes the conversation's lock: no newer turn can come in between.
    newest = connection.execute(
        update(conversations)
        .where(
            conversations.c.owner == owner,
            conversations.c.id == _of_turn(turns.c.conversation_id, turn_id, owner),
            conversations.c.next_seq == _of_turn(turns.c.seq + 1, turn_id, owner),
        )
        .values(next_seq=conversations.c.next_seq)
    )
    if newest.rowcount == 0:
        get(connection, owner, turn_id)
        raise Conflict(
            "only the newest turn of a conversation can be answered again; send a new message",
            code="not_the_newest_turn",
        )
    begun = connection.execute(
        update(turns)
        .where(
            turns.c.id == turn_id,
            turns.c.owner == owner,
            turns.c.status.in_((TurnStatus.FAILED, TurnStatus.CANCELLED)),
        )
        .values(
            status=TurnStatus.ACCEPTED,
            starts=0,
            worker=worker,
            lease_until=now() + LEASE_SECONDS,
            deadline_at=None,
            reply=None,
            citations=[],
            choices=[],
            generator=None,
            degraded=None,
            error_code=None,
            first_piece_ms=None,
            total_ms=None,
            finished_at=None,
        )
    )
    turn = get(connection, owner, turn_id)
    if turn.status is TurnStatus.DONE:
        raise Conflict("this turn is answered already", code="turn_is_answered")
    return turn, begun.rowcount == 1


def grow(connection: Connection, replies: Mapping[tuple[str, int], str]) -> None:
    """All streams' replies so far, by (turn, fence), in one commit; renews their leases."""
    if not replies:
        return
    connection.execute(
        update(turns)
        .where(
            turns.c.id == bindparam("turn_id"),
            turns.c.fence == bindparam("mine"),
            turns.c.status == TurnStatus.GENERATING,
        )
        .values(reply=bindparam("so_far"), lease_until=now() + LEASE_SECONDS),
        [
            {"turn_id": turn_id, "mine": fence, "so_far": reply}
            for (turn_id, fence), reply in replies.items()
        ],
    )


def renew(connection: Connection, worker: str, turn_ids: Sequence[str]) -> set[str]:
    """Keep the leases of this worker's open turns; returns those that are still its own."""
    return set(
        connection.scalars(
            update(turns)
            .where(turns.c.id.in_(turn_ids), turns.c.worker == worker, _OPEN)
            .values(lease_until=now() + LEASE_SECONDS)
            .returning(turns.c.id)
        )
    )


def held(connection: Connection, worker: str, turn_ids: Collection[str]) -> set[str]:
    """Which of these this worker still has to answer; the others were cancelled, taken over or
    deleted."""
    return set(
        connection.scalars(
            select(turns.c.id).where(turns.c.id.in_(turn_ids), turns.c.worker == worker, _OPEN)
        )
    )


def finish(connection: Connection, turn_id: str, fence: int, reply: Reply, timing: Timing) -> Turn:
    return _close(connection, turn_id, fence, {**_said(reply), "status": TurnStatus.DONE}, timing)


def finish_waiting(
    connection: Connection, turn_id: str, worker: str, reply: Reply, timing: Timing
) -> Turn:
    """End a turn whose time has not come; the earlier ones stay open."""
    closed = connection.execute(
        update(turns)
        .where(
            turns.c.id == turn_id,
            turns.c.worker == worker,
            turns.c.status == TurnStatus.ACCEPTED,
        )
        .values(
            **_said(reply),
            status=TurnStatus.DONE,
            finished_at=now(),
            lease_until=None,
            total_ms=timing.total_ms,
        )
    )
    if closed.rowcount == 0:
        raise LostFence("this turn was cancelled or taken over by somebody else")
    return _load(connection, turn_id)


def fail(connection: Connection, turn_id: str, fence: int, code: str, timing: Timing) -> Turn:
    """The partial reply stays, so that people see what was said."""
    return _close(
        connection, turn_id, fence, {"status": TurnStatus.FAILED, "error_code": code}, timing
    )


def cancel(connection: Connection, owner: str, turn_id: str) -> Turn:
    """Ends an open turn; a turn that is final already stays as it is."""
    connection.execute(
        update(turns)
        .where(turns.c.id == turn_id, turns.c.owner == owner, _OPEN)
        .values(status=TurnStatus.CANCELLED, finished_at=now(), lease_until=None)
    )
    return get(connection, owner, turn_id)


def release(connection: Connection, worker: str) -> int:
    """Hand over what this worker has open: whoever looks next adopts it at once. A start that
    ends like this does not count against the turn."""
    return connection.execute(
        update(turns)
        .where(turns.c.worker == worker, _OPEN)
        .values(
            status=TurnStatus.ACCEPTED,
            starts=case(
                (turns.c.status == TurnStatus.GENERATING, turns.c.starts - 1),
                else_=turns.c.starts,
            ),
            worker=None,
            lease_until=0,
        )
    ).rowcount


def orphans_exist(connection: Connection) -> bool:
    """A look that costs next to nothing, for every second."""
    return bool(connection.scalar(select(exists().where(_OPEN, turns.c.lease_until < now()))))


def adopt_orphans(
    connection: Connection,
    worker: str,
    *,
    answering: Collection[str] = (),
    all_open: bool = False,
    most: int = 32,
) -> list[Turn]:
    """Take over turns whose worker is gone: its lease is over, or (`all_open`, where only one
    process can exist) this process has just started. Too often started: failed. Not more than
    `most` at a time, so that the replicas share them.

    `answering` are the turns that this worker is at work on. Its others are orphans like
    anybody's: it gave them up when the database did not take their end."""
    orphaned = _OPEN if all_open else and_(_OPEN, turns.c.lease_until < now())
    orphaned = and_(orphaned, turns.c.id.not_in(answering))
    connection.execute(
        update(turns)
        .where(orphaned, turns.c.starts >= MOST_STARTS)
        .values(
            status=TurnStatus.FAILED, error_code="orphaned", finished_at=now(), lease_until=None
        )
    )
    mine = orphaned
    if not all_open:
        some = select(turns.c.id).where(orphaned).order_by(turns.c.created_at).limit(most)
        mine = and_(orphaned, turns.c.id.in_(some))
    adopted = connection.scalars(
        update(turns)
        .where(mine, turns.c.starts < MOST_STARTS)  # a lease may have ended since that update
        .values(status=TurnStatus.ACCEPTED, worker=worker, lease_until=now() + LEASE_SECONDS)
        .returning(turns.c.id)
    ).all()
    rows = connection.execute(
        select(turns).where(turns.c.id.in_(adopted)).order_by(turns.c.conversation_id, turns.c.seq)
    )
    return [_from_row(row) for row in rows]


def seconds_left(connection: Connection, turn_ids: Collection[str]) -> dict[str, float]:
    """Until the deadlines of those that have one, by the database's clock."""
    rows = connection.execute(
        select(turns.c.id, turns.c.deadline_at - now()).where(
            turns.c.id.in_(turn_ids), turns.c.deadline_at.is_not(None)
        )
    )
    return {row.id: max(0.0, row[1]) for row in rows}


def get(connection: Connection, owner: str, turn_id: str) -> Turn:
    return _one(connection, select(turns).where(turns.c.id == turn_id, turns.c.owner == owner))


def page(
    connection: Connection, owner: str, conversation_id: str, *, limit: int, cursor: str | None
) -> tuple[list[Turn], str | None]:
    """The newest turns, oldest first within the page; the cursor leads to older ones."""
    known = connection.scalar(
        select(
            exists().where(conversations.c.id == conversation_id, conversations.c.owner == owner)
        )
    )
    if not known:
        raise NotFound("conversation")
    query = (
        select(turns)
        .where(turns.c.conversation_id == conversation_id, turns.c.owner == owner)
        .order_by(turns.c.seq.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 9):
            raise InvalidInput("this cursor is not one of ours", code="bad_cursor")
        query = query.where(turns.c.seq < int(cursor))
    rows = connection.execute(query).all()
    shown = [_from_row(row) for row in reversed(rows[:limit])]
    return shown, str(shown[0].seq) if len(rows) > limit else None


def history(connection: Connection, turn: Turn, *, most_turns: int = 20) -> list[ChatMessage]:
    """What was said before this turn, oldest first."""
    rows = connection.execute(
        select(turns.c.text, turns.c.reply)
        .where(
            turns.c.conversation_id == turn.conversation_id,
            turns.c.owner == turn.owner,
            turns.c.seq < turn.seq,
            turns.c.status == TurnStatus.DONE,
        )
        .order_by(turns.c.seq.desc())
        .limit(most_turns)
    ).all()
    messages: list[ChatMessage] = []
    for said, reply in reversed(rows):
        messages += [ChatMessage("user", said), ChatMessage("assistant", reply or "")]
    return messages


def rate(connection: Connection, owner: str, turn_id: str, feedback: Feedback | None) -> Turn:
    rated = connection.execute(
        update(turns)
        .where(turns.c.id == turn_id, turns.c.owner == owner)
        .values(
            rating=feedback.rating if feedback else None,
            comment=feedback.comment if feedback else None,
        )
    )
    if rated.rowcount == 0:
        raise NotFound("turn")
    return get(connection, owner, turn_id)


def _of_turn(column: ColumnElement[Any], turn_id: str, owner: str) -> ScalarSelect[Any]:
    return select(column).where(turns.c.id == turn_id, turns.c.owner == owner).scalar_subquery()


# --- the statements of an instant turn, built once: three, whatever the conversation holds ---

_HERE = conversations.c.id == bindparam("conversation")

_DRAW_NUMBER = Prepared(
    lambda _: (
        update(conversations)
        .where(_HERE, conversations.c.owner == bindparam("whose"))
        .values(next_seq=conversations.c.next_seq + 1)
        .returning(conversations.c.next_seq - 1, conversations.c.state, conversations.c.title)
    )
)
_GIVE_NUMBER_BACK = Prepared(
    lambda _: update(conversations).where(_HERE).values(next_seq=conversations.c.next_seq - 1)
)
_REMEMBER = Prepared(
    lambda _: (
        update(conversations)
        .where(_HERE)
        .values(
            title=bindparam("new_title"),
            updated_at=now(),
            state=func.coalesce(
                bindparam("new_state", type_=conversations.c.state.type), conversations.c.state
            ),
        )
    )
)

_STORED = (
    "id conversation_id owner seq idempotency_key fingerprint text status fence starts worker "
    "reply citations choices route intent decision model_version generator degraded "
    "classify_ms total_ms"
).split()


def _inserting(dialect: Any, *, alone: bool) -> ClauseElement:
    """One row, unless its key is there already or (`alone`) an earlier turn is open."""
    is_done = bindparam("status", type_=String) == "done"
    values = {
        **{name: bindparam(name, type_=turns.c[name].type) for name in _STORED},
        "lease_until": case((is_done, null()), else_=now() + LEASE_SECONDS),
        "deadline_at": now() + bindparam("deadline_seconds", type_=Double),
        "created_at": now(),
        "finished_at": case((is_done, now())),
    }
    row = select(*values.values())
    if alone:
        row = row.where(
            ~exists().where(turns.c.conversation_id == bindparam("conversation_id"), _OPEN)
        )
    else:
        row = row.where(true())
    inserting: ClauseElement = (
        dialect.insert(turns)
        .from_select(list(values), row)
        .on_conflict_do_nothing(index_elements=["owner", "idempotency_key"])
        .returning(turns.c.created_at, turns.c.finished_at)
    )
    return inserting


_INSERT_BEGUN = Prepared(partial(_inserting, alone=True))
_INSERT_WAITING = Prepared(partial(_inserting, alone=False))

_earlier = turns.alias("earlier")

_BEGIN = (
    update(turns)
    .where(
        turns.c.id == bindparam("turn_id"),
        turns.c.status == TurnStatus.ACCEPTED,
        turns.c.worker == bindparam("me"),
        ~exists(
            select(_earlier.c.id).where(
                _earlier.c.conversation_id == turns.c.conversation_id,
                _earlier.c.seq < turns.c.seq,
                text("earlier.status IN ('accepted', 'generating')"),
            )
        ),
    )
    .values(
        status=TurnStatus.GENERATING,
        fence=turns.c.fence + 1,
        starts=turns.c.starts + 1,
        lease_until=now() + LEASE_SECONDS,
        reply=None,
        citations=[],
    )
    .returning(turns.c.conversation_id, turns.c.decision)
)


def _insert(
    connection: Connection, new: NewTurn, seq: int, verdict: Verdict | None, timing: Timing
) -> Turn | None:
    """The new turn: decided, or without a verdict waiting. None when its key is there already,
    or when it is decided while an earlier turn is open."""
    reply = verdict.reply if verdict else None
    if reply is not None:
        status = TurnStatus.DONE
    else:
        status = TurnStatus.GENERATING if verdict else TurnStatus.ACCEPTED
        timing = replace(timing, total_ms=None)
    started = int(verdict is not None)
    insert = _INSERT_BEGUN if verdict else _INSERT_WAITING
    row = insert(
        connection,
        {
            "id": new.id,
            "conversation_id": new.conversation_id,
            "owner": new.owner,
            "seq": seq,
            "idempotency_key": new.idempotency_key,
            "fingerprint": new.fingerprint,
            "text": new.text,
            "status": status.value,
            "fence": started,
            "starts": started,
            "worker": new.worker,
            "deadline_seconds": new.deadline_seconds,
            "route": verdict.decision.route if verdict else None,
            "intent": verdict.decision.intent if verdict else None,
            "decision": json.dumps(verdict.decision.to_json()) if verdict else None,
            "model_version": verdict.model_version if verdict else None,
            "classify_ms": timing.classify_ms if verdict else None,
            "total_ms": timing.total_ms,
            **(_as_text(_said(reply)) if reply else _NOTHING_SAID),
        },
    )
    if row is None:
        return None
    created_at, finished_at = row
    return Turn(
        id=new.id,
        conversation_id=new.conversation_id,
        owner=new.owner,
        seq=seq,
        status=status,
        text=new.text,
        fence=started,
        reply=reply,
        decision=verdict.decision if verdict else None,
        model_version=verdict.model_version if verdict else None,
        timing=Timing(timing.classify_ms if verdict else None, None, timing.total_ms),
        created_at=datetime.fromtimestamp(created_at, UTC),
        finished_at=datetime.fromtimestamp(finished_at, UTC) if finished_at else None,
    )


def _as_text(said: dict[str, Any]) -> dict[str, Any]:
    return said | {name: json.dumps(said[name]) for name in ("citations", "choices")}


def _parsed(value: Any) -> Any:
    """JSON as the driver gives it: SQLite's is text."""
    return json.loads(value) if isinstance(value, str) else value


def _seen(connection: Connection, new: NewTurn) -> Turn | None:
    if new.idempotency_key is None:
        return None
    row = connection.execute(
        select(turns).where(
            turns.c.owner == new.owner, turns.c.idempotency_key == new.idempotency_key
        )
    ).one_or_none()
    if row is None:
        return None
    if row.fingerprint != new.fingerprint:
        raise IdempotencyMismatch
    return replace(_from_row(row), replayed=True)


def _decided(verdict: Verdict, timing: Callable[[], Timing]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "status": TurnStatus.GENERATING,
        "route": verdict.decision.route,
        "intent": verdict.decision.intent,
        "decision": verdict.decision.to_json(),
        "model_version": verdict.model_version,
        "classify_ms": timing().classify_ms,
    }
    if verdict.reply is not None:
        values |= {
            **_said(verdict.reply),
            "status": TurnStatus.DONE,
            "finished_at": now(),
            "lease_until": None,
            "total_ms": timing().total_ms,
        }
    return values


_NOTHING_SAID: dict[str, Any] = {
    "reply": None,
    "citations": "[]",
    "choices": "[]",
    "generator": None,
    "degraded": None,
}


def _said(reply: Reply) -> dict[str, Any]:
    return {
        "reply": reply.text,
        "citations": [
            [one.passage_id, one.document, one.title, one.quote] for one in reply.citations
        ],
        "choices": [[one.intent, one.title] for one in reply.choices],
        "generator": reply.generator,
        "degraded": reply.degraded,
    }


def _close(
    connection: Connection, turn_id: str, fence: int, values: dict[str, Any], timing: Timing
) -> Turn:
    closed = connection.execute(
        update(turns)
        .where(
            turns.c.id == turn_id,
            turns.c.fence == fence,
            turns.c.status == TurnStatus.GENERATING,
        )
        .values(
            finished_at=now(),
            lease_until=None,
            first_piece_ms=timing.first_piece_ms,
            total_ms=timing.total_ms,
            **values,
        )
    )
    if closed.rowcount == 0:
        raise LostFence("this turn was finished, cancelled or taken over by somebody else")
    return _load(connection, turn_id)


def _load(connection: Connection, turn_id: str) -> Turn:
    return _one(connection, select(turns).where(turns.c.id == turn_id))


def _one(connection: Connection, query: Select[Any]) -> Turn:
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("turn")
    return _from_row(row)


def _from_row(row: Row[Any]) -> Turn:
    reply = None
    if row.reply is not None:
        reply = Reply(
            text=row.reply,
            citations=tuple(Citation(*one) for one in row.citations),
            choices=tuple(Option(*one) for one in row.choices),
            generator=row.generator,
            degraded=row.degraded,
        )
    return Turn(
        id=row.id,
        conversation_id=row.conversation_id,
        owner=row.owner,
        seq=row.seq,
        status=TurnStatus(row.status),
        text=row.text,
        fence=row.fence,
        reply=reply,
        decision=Decision.from_json(row.decision) if row.decision else None,
        model_version=row.model_version,
        timing=Timing(row.classify_ms, row.first_piece_ms, row.total_ms),
        feedback=Feedback(row.rating, row.comment) if row.rating else None,
        error_code=row.error_code,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        finished_at=datetime.fromtimestamp(row.finished_at, UTC) if row.finished_at else None,
    )


def _title_from(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 80 else words[:79].rstrip() + "…"

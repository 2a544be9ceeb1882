"""Runs turns to their end, whether or not anybody listens, and lets people listen.

A turn belongs to the worker (one per server process) whose name is on its row while its lease
lasts. The runner answers its own turns, keeps their leases and partial replies fresh, and
adopts turns whose worker is gone. One that goes in peace hands its open turns over.
"""

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Mapping,
    Sequence,
)
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import structlog
from sqlalchemy import Connection

from app.database import accepting, leases, turns
from app.database.accepting import NewTurn
from app.database.database import Database
from app.dialogue.chatbot import Accepted, Chatbot, Finished
from app.dialogue.turn import Decide, Reply, Timing, Turn, TurnStatus
from app.errors import Overloaded, TwofoldError
from app.live_turn import LiveTurn
from app.turn_places import TurnPlaces, generators_full
from generator.interface import ChatMessage, Usage

GROW_SECONDS = 0.25
RENEW_SECONDS = 4.0
RECOVER_SECONDS = 1.0
POLL_SECONDS = 0.25
"""How often we look at a turn, or for our turn to come, where another replica may be at work."""

log = structlog.get_logger(__name__)


class TurnRunner:
    def __init__(
        self, database: Database, chatbot: Chatbot, *, places: TurnPlaces | None = None
    ) -> None:
        self.places = places or TurnPlaces()
        self._database = database
        self._chatbot = chatbot
        self._worker = uuid4().hex
        self._live: dict[str, LiveTurn] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._beats: set[asyncio.Task[None]] = set()
        self._ends: dict[str, asyncio.Event] = {}
        """By conversation: set when one of its turns ends here. Only while somebody waits."""
        self._draining = self._closing = False
        self._closed = asyncio.Event()
        self._enough = asyncio.Event()
        self._growing = asyncio.Lock()
        """Whoever waits for `_grow` waits for the text of a beat under way, too."""

    async def start(self) -> None:
        """Takes up what an earlier process left open, then keeps leases and looks for more."""
        await self._adopt(all_open=self._database.is_sqlite)
        for beat, every in (
            (self._grow_and_check, GROW_SECONDS),
            (self._renew, RENEW_SECONDS),
            (self._recover, RECOVER_SECONDS),
        ):
            self._spawn(self._regularly(beat, every), self._beats)

    def drain(self) -> None:
        """Tell that this replica is about to go; it still takes everything."""
        self._draining = True

    @property
    def is_draining(self) -> bool:
        return self._draining

    def hurry(self) -> None:
        """Open turns get no more time: `close` hands them over at once."""
        self._enough.set()

    async def close(self, drain_seconds: float = 5.0) -> None:
        """Takes nothing new, gives open turns a little time, and hands what is not done then
        over: another replica, or the next start, adopts it at once. Whoever listens hears no
        end, and can go on listening there. Called again, it waits for the same end."""
        if self._closing:
            await self._closed.wait()
            return
        self._draining = self._closing = True
        try:
            await self._until_answered(drain_seconds)
            await self._hand_over()
        finally:
            self._closed.set()

    async def post(
        self,
        owner: str,
        conversation_id: str,
        text: str,
        *,
        idempotency_key: str | None = None,
        deadline_seconds: float | None = None,
    ) -> Turn:
        """Returns when the turn is stored: it may be done already, or still be answered."""
        self._admit()
        new = NewTurn(owner, conversation_id, text, self._worker, idempotency_key, deadline_seconds)
        with self.places.arriving(owner):
            live = LiveTurn()
            self._run(live, text, _Journal(self, live, new), deadline_seconds)
            return await live.accepted

    async def retry(self, owner: str, turn_id: str) -> Turn:
        """Answer a failed or cancelled turn again, from the start; only the newest of its
        conversation. One that is being answered already goes on. Raises Conflict."""
        self._admit()
        self.places.check(owner)
        turn, begun = await self._database.write(
            lambda c: turns.retry(c, owner, turn_id, self._worker)
        )
        if begun:
            await self._stop_answering(turn_id)
            self._take_up(turn)
        return turn

    async def watch(self, owner: str, turn_id: str) -> AsyncGenerator[Turn]:
        """The turn as it is, and again whenever it has grown, until it is final or this replica
        closes.

        Works for any turn of this owner, whichever replica answers it. Who listens slowly
        misses states in between, never the last one: nothing is kept for them."""
        turn = await self._database.read(lambda c: turns.get(c, owner, turn_id))
        live = self._live.get(turn_id)
        if live is not None and not turn.status.is_final:
            async with aclosing(live.watch()) as grown:
                async for turn in grown:
                    yield turn
            if turn.status.is_final:
                return
            turn = await self._database.read(lambda c: turns.get(c, owner, turn_id))
        while True:
            yield turn
            if turn.status.is_final or self._closed.is_set():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), POLL_SECONDS)
            turn = await self._database.read(lambda c: turns.get(c, owner, turn_id))

    async def final(self, owner: str, turn_id: str, *, wait_seconds: float | None = None) -> Turn:
        """The turn when it is final, or as it is when the wait is over or this replica closes."""
        turn = await self._database.read(lambda c: turns.get(c, owner, turn_id))
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(wait_seconds),
                aclosing(self.watch(owner, turn_id)) as grown,
            ):
                async for grown_turn in grown:
                    turn = grown_turn
        return turn

    async def cancel(self, owner: str, turn_id: str) -> Turn:
        await self._grow()  # what people have read already stays
        turn = await self._database.write(lambda c: turns.cancel(c, owner, turn_id))
        if (live := self._live.get(turn_id)) is not None and live.task:
            live.task.cancel()
        return turn

    def stop(self, turn_ids: Collection[str]) -> None:
        """Those of them that this process answers: they are no longer there."""
        for turn_id in turn_ids:
            live = self._live.get(turn_id)
            if live is not None and live.task and not live.is_final:
                live.task.cancel()

    # --- inside ---

    def _admit(self) -> None:
        if self._closing:
            raise Overloaded("this server is shutting down; try again, it or another will answer")

    def _take_up(self, turn: Turn, deadline_seconds: float | None = None) -> None:
        if self._closing:
            return  # it is ours on record: `_hand_over` gives it on
        live = LiveTurn(turn)
        self._live[turn.id] = live
        self.places.keep(live, turn)
        self._run(live, turn.text, _Journal(self, live, turn), deadline_seconds)

    def _run(
        self,
        live: LiveTurn,
        text: str,
        journal: "_Journal",
        deadline_seconds: float | None = None,
    ) -> None:
        live.task = self._spawn(
            self._answer(live, text, journal, deadline_seconds), self._answering
        )

    async def _answer(
        self,
        live: LiveTurn,
        text: str,
        journal: "_Journal",
        deadline_seconds: float | None,
    ) -> None:
        try:
            async with aclosing(
                self._chatbot.answer(text, journal, deadline_seconds=deadline_seconds)
            ) as events:
                async for event in events:
                    # What was said in between the journal tells whoever listens.
                    if isinstance(event, Accepted | Finished):
                        live.show(event.turn)
        except TwofoldError as error:  # refused before it was stored, or taken away from us
            live.refuse(error)
        except Exception as error:
            # A defect of ours: the turn says so, the log has the traceback, the chat goes on.
            log.exception("turn failed", turn=live.turn.id if live.turn else None)
            live.refuse(error)
            if live.turn is not None and not live.is_final:
                await self._close_broken(live.turn)
        finally:
            self.places.release(live)
            if live.turn is not None and self._live.get(live.turn.id) is live:
                del self._live[live.turn.id]
            live.end()
            if live.turn and (ended := self._ends.pop(live.turn.conversation_id, None)):
                ended.set()

    async def _close_broken(self, turn: Turn) -> None:
        try:
            await self._grow()
            await self._database.write(
                lambda c: turns.fail(c, turn.id, turn.fence, "internal", Timing())
            )
        except TwofoldError as error:
            log.warning("turn left open", turn=turn.id, error=error.code)

    def next_end(self, conversation_id: str) -> asyncio.Event:
        """Is set when a turn of the conversation ends on this replica."""
        return self._ends.setdefault(conversation_id, asyncio.Event())

    async def _stop_answering(self, turn_id: str) -> None:
        """A task that has not heard yet that its turn was cancelled elsewhere."""
        live = self._live.get(turn_id)
        if live is not None and live.task:
            live.task.cancel()
            await asyncio.wait({live.task})

    async def _until_answered(self, seconds: float) -> None:
        """Or until the time is over, or somebody is in a hurry."""
        answered = asyncio.gather(*self._answering, return_exceptions=True)
        answered.add_done_callback(lambda _: self._enough.set())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._enough.wait(), seconds)

    async def _hand_over(self) -> None:
        await self._stop(self._beats)  # one of them adopts
        with suppress(TwofoldError):  # a database that is gone must not keep us from closing
            await self._grow()
        await self._stop(self._answering)
        with suppress(TwofoldError):
            released = await self._database.write(lambda c: leases.release(c, self._worker))
            if released:
                log.info("turns handed over", turns=released)

    @staticmethod
    async def _stop(tasks: set[asyncio.Task[None]]) -> None:
        stopped = list(tasks)
        for task in stopped:
            task.cancel()
        await asyncio.gather(*stopped, return_exceptions=True)

    @staticmethod
    def _spawn(
        work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        among.add(task)
        task.add_done_callback(among.discard)
        return task

    async def _regularly(self, beat: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await beat()
            except TwofoldError as error:
                log.warning("beat failed", error=error.code)
            except Exception:  # a defect of ours; without its beats every turn would be lost
                log.exception("beat failed")

    async def _grow(self) -> None:
        async with self._growing:
            grown = {
                (live.turn.id, live.turn.fence): Reply(live.text, usage=live.usage)
                for live in self._live.values()
                if live.turn is not None and live.take_dirty()
            }
            if grown:
                await self._database.write(lambda c: turns.grow(c, grown))

    async def _grow_and_check(self) -> None:
        """Also for turns that have said nothing yet: whoever cancels one, on any replica, stops
        its engine within a beat."""
        await self._grow()
        if mine := dict(self._live):
            kept = await self._database.read(lambda c: leases.held(c, self._worker, mine))
            self._stop_all_but(kept, mine)

    async def _renew(self) -> None:
        if mine := dict(self._live):
            kept = await self._database.write(lambda c: leases.renew(c, self._worker, list(mine)))
            self._stop_all_but(kept, mine)

    def _stop_all_but(self, kept: Collection[str], mine: Mapping[str, LiveTurn]) -> None:
        for turn_id, live in mine.items():
            if turn_id not in kept and live.task and not live.is_final:
                live.task.cancel()  # cancelled or taken over elsewhere: stop the engine

    async def _recover(self) -> None:
        if await self._database.read(leases.orphans_exist):
            await self._adopt()

    async def _adopt(self, *, all_open: bool = False) -> None:
        def adopt(connection: Connection) -> tuple[list[Turn], dict[str, float]]:
            adopted = leases.adopt_orphans(
                connection, self._worker, answering=list(self._live), all_open=all_open
            )
            return adopted, turns.seconds_left(connection, [turn.id for turn in adopted])

        adopted, left = await self._database.write(adopt)
        for turn in adopted:
            log.info("turn adopted", turn=turn.id, fence=turn.fence)
            self._take_up(turn, left.get(turn.id))


@dataclass(slots=True)
class _Journal:
    """The durable record of one turn, in the database; see `TurnJournal`."""

    runner: TurnRunner
    live: LiveTurn
    subject: NewTurn | Turn
    """What was posted, or a stored turn whose worker is gone."""

    async def accept(self, decide: Decide, timing: Callable[[], Timing]) -> Turn:
        turn = await self._stored(decide, timing)
        if not turn.replayed and not turn.status.is_final:
            self.runner._live[turn.id] = self.live
        return turn

    async def begin(self, decide: Decide, timing: Callable[[], Timing], *, deadline: float) -> Turn:
        turn, worker = self._turn, self.runner._worker
        while True:
            ended = self.runner.next_end(turn.conversation_id)
            begun = await self._database.write(
                lambda c: turns.begin(c, turn.id, decide, timing, worker=worker)
            )
            if begun is not None:
                self.runner.places.keep(self.live, begun)
                return begun
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                raise TimeoutError
            with suppress(TimeoutError):  # look again also without: they end elsewhere, too
                await asyncio.wait_for(ended.wait(), min(POLL_SECONDS, seconds))

    async def _stored(self, decide: Decide, timing: Callable[[], Timing]) -> Turn:
        match self.subject:
            case Turn() as turn:
                return turn
            case NewTurn() as new:
                if self.runner.places.generators_are_full:
                    await self._refuse_open_ended(new, decide)
                return await self._database.write(lambda c: self._accepted(c, new, decide, timing))

    async def _refuse_open_ended(self, new: NewTurn, decide: Decide) -> None:
        """Ahead of the writer: those it will store do not wait for those it would take back."""
        state = await self._database.read(lambda c: accepting.state_to_decide_in(c, new))
        if state is not None and decide(state).reply is None:
            raise generators_full()

    def _accepted(
        self, connection: Connection, new: NewTurn, decide: Decide, timing: Callable[[], Timing]
    ) -> Turn:
        turn = accepting.accept(connection, new, decide, timing)
        if not turn.replayed:
            self.runner.places.hold(self.live, turn)  # no place: the row is taken back
        return turn

    async def history(self) -> Sequence[ChatMessage]:
        turn = self._turn
        return await self._database.read(lambda c: turns.history(c, turn))

    async def grow(self, text: str, usage: Usage | None = None) -> None:
        """Heard at once; the runner's next beat writes it, with those of all other turns."""
        self.live.grow(text, usage)

    async def finish(self, reply: Reply, timing: Timing) -> Turn:
        turn, worker = self._turn, self.runner._worker
        if turn.status is TurnStatus.ACCEPTED:
            return await self._database.write(
                lambda c: turns.finish_waiting(c, turn.id, worker, reply, timing)
            )
        return await self._database.write(
            lambda c: turns.finish(c, turn.id, turn.fence, reply, timing)
        )

    async def fail(self, code: str, timing: Timing) -> Turn:
        turn = self._turn
        await self.runner._grow()  # the partial reply stays on record, to its last piece
        return await self._database.write(
            lambda c: turns.fail(c, turn.id, turn.fence, code, timing)
        )

    @property
    def _database(self) -> Database:
        return self.runner._database

    @property
    def _turn(self) -> Turn:
        assert self.live.turn is not None
        return self.live.turn

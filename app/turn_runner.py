"""Runs turns to their end, whether or not anybody listens, and lets people listen.

A turn belongs to the worker (one per server process) whose name is on its row while its lease
lasts. The runner answers its own turns, keeps their leases and partial replies fresh, and
adopts turns whose worker is gone.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import structlog

from app.database import erasure, turns
from app.database.database import Database
from app.database.turns import NewTurn
from app.dialogue.chatbot import Accepted, Chatbot, Delta, Finished
from app.dialogue.turn import Decide, Reply, Timing, Turn, TurnStatus
from app.errors import Overloaded, TwofoldError, Unavailable
from generator.interface import ChatMessage

GROW_SECONDS = 0.25
RENEW_SECONDS = 4.0
RECOVER_SECONDS = 5.0
ERASED_SECONDS = 0.5
POLL_SECONDS = 0.25
"""How often we look at a turn, or for our turn to come, where another replica may be at work."""

log = structlog.get_logger(__name__)


class TurnRunner:
    def __init__(self, database: Database, chatbot: Chatbot, *, max_open: int = 256) -> None:
        self._database = database
        self._chatbot = chatbot
        self._max_open = max_open
        self._worker = uuid4().hex
        self._live: dict[str, _LiveTurn] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = 0
        self._turn_ended = asyncio.Event()
        self._closing = False
        self._growing = asyncio.Lock()
        """Whoever waits for `_grow` waits for the text of a beat under way, too."""

    async def start(self) -> None:
        """Takes up what an earlier process left open, then keeps leases and looks for more."""
        await self._recover(all_open=self._database.is_sqlite)
        for beat, every in (
            (self._grow, GROW_SECONDS),
            (self._renew, RENEW_SECONDS),
            (self._recover, RECOVER_SECONDS),
            (self._stop_erased, ERASED_SECONDS),
        ):
            self._spawn(self._regularly(beat, every))

    async def close(self, drain_seconds: float = 5.0) -> None:
        """Gives open turns a little time; what is not done then is adopted later by others."""
        self._closing = True
        answering = [one.task for one in self._live.values() if one.task]
        if answering:
            await asyncio.wait(answering, timeout=drain_seconds)
        with suppress(TwofoldError):  # a database that is gone must not keep us from closing
            await self._grow()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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
        if self._closing or self._open >= self._max_open:
            raise Overloaded("too many turns are being answered; try again shortly")
        new = NewTurn(owner, conversation_id, text, self._worker, idempotency_key)
        live = _LiveTurn()
        self._run(live, text, _Journal(self, live, new), deadline_seconds)
        return await live.accepted

    async def watch(self, owner: str, turn_id: str) -> AsyncGenerator[Turn]:
        """The turn as it is, and again whenever it has grown, until it is final.

        Works for any turn of this owner, whichever replica answers it."""
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
            if turn.status.is_final:
                return
            await asyncio.sleep(POLL_SECONDS)
            turn = await self._database.read(lambda c: turns.get(c, owner, turn_id))

    async def final(self, owner: str, turn_id: str, *, wait_seconds: float | None = None) -> Turn:
        """The turn when it is final, or as it is when the wait is over."""
        turn = await self._database.read(lambda c: turns.get(c, owner, turn_id))
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(wait_seconds),
                aclosing(self.watch(owner, turn_id)) as grown,
            ):
                async for now in grown:
                    turn = now
        return turn

    async def cancel(self, owner: str, turn_id: str) -> Turn:
        await self._grow()  # what people have read already stays
        turn = await self._database.write(lambda c: turns.cancel(c, owner, turn_id))
        live = self._live.get(turn_id)
        if live is not None and live.task:
            live.task.cancel()
        return turn

    def stop(self, turn_ids: Collection[str]) -> None:
        """Those of them that this process answers: they are no longer there."""
        for turn_id in turn_ids:
            live = self._live.get(turn_id)
            if live is not None and live.task and not live.is_final:
                live.task.cancel()

    # --- inside ---

    def _run(
        self,
        live: "_LiveTurn",
        text: str,
        journal: "_Journal",
        deadline_seconds: float | None = None,
    ) -> None:
        self._open += 1
        live.task = self._spawn(self._answer(live, text, journal, deadline_seconds))

    async def _answer(
        self,
        live: "_LiveTurn",
        text: str,
        journal: "_Journal",
        deadline_seconds: float | None,
    ) -> None:
        try:
            async with aclosing(
                self._chatbot.answer(text, journal, deadline_seconds=deadline_seconds)
            ) as events:
                async for event in events:
                    match event:
                        case Accepted(turn) | Finished(turn):
                            live.show(turn)
                        case Delta():
                            pass  # the journal has it, and tells whoever listens
        except TwofoldError as error:  # refused before it was stored, or taken away from us
            live.refuse(error)
        except Exception as error:
            # A defect of ours: the turn says so, the log has the traceback, the chat goes on.
            log.exception("turn failed", turn=live.turn.id if live.turn else None)
            live.refuse(error)
            if live.turn is not None and not live.is_final:
                await self._close_broken(live.turn)
        finally:
            self._open -= 1
            if live.turn is not None and self._live.get(live.turn.id) is live:
                del self._live[live.turn.id]
            live.end()
            self._turn_ended.set()
            self._turn_ended = asyncio.Event()

    async def _close_broken(self, turn: Turn) -> None:
        try:
            await self._grow()
            await self._database.write(
                lambda c: turns.fail(c, turn.id, turn.fence, "internal", Timing())
            )
        except TwofoldError as error:
            log.warning("turn left open", turn=turn.id, error=error.code)

    async def until_a_turn_ends(self) -> None:
        """Or POLL_SECONDS, for those that end on other replicas."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._turn_ended.wait(), POLL_SECONDS)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
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
                (live.turn.id, live.turn.fence): live.text
                for live in self._live.values()
                if live.turn is not None and live.take_dirty()
            }
            if grown:
                await self._database.write(lambda c: turns.grow(c, grown))

    async def _renew(self) -> None:
        mine = list(self._live)
        if not mine:
            return
        kept = await self._database.write(lambda c: turns.renew(c, self._worker, mine))
        for turn_id in set(mine) - kept:
            live = self._live.get(turn_id)
            if live is not None and live.task and not live.is_final:
                live.task.cancel()  # cancelled or taken over elsewhere: stop the engine

    async def _stop_erased(self) -> None:
        """Another replica, or a command, may have taken out what we are answering."""
        if mine := list(self._live):
            self.stop(await self._database.read(lambda c: erasure.gone(c, mine)))

    async def _recover(self, *, all_open: bool = False) -> None:
        adopted = await self._database.write(
            lambda c: turns.adopt_orphans(
                c, self._worker, answering=list(self._live), all_open=all_open
            )
        )
        for turn in adopted:
            log.info("turn adopted", turn=turn.id, fence=turn.fence)
            live = _LiveTurn(turn)
            self._live[turn.id] = live
            self._run(live, turn.text, _Journal(self, live, turn))


@dataclass(eq=False)
class _LiveTurn:
    """A turn this process is answering, and the people who listen."""

    turn: Turn | None = None
    text: str = ""
    task: "asyncio.Task[None] | None" = None
    accepted: "asyncio.Future[Turn]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _dirty: bool = False
    _ended: bool = False

    def __post_init__(self) -> None:
        if self.turn is not None:
            self.accepted.set_result(self.turn)

    @property
    def is_final(self) -> bool:
        return self.turn is not None and self.turn.status.is_final

    def show(self, turn: Turn) -> None:
        if self.turn is None or turn.fence != self.turn.fence:
            self.text = ""
        self.turn = turn
        if not self.accepted.done():
            self.accepted.set_result(turn)
        self._tell()

    def grow(self, piece: str) -> None:
        self.text += piece
        self._dirty = True
        self._tell()

    def refuse(self, error: Exception) -> None:
        if not self.accepted.done():
            self.accepted.set_exception(error)

    def end(self) -> None:
        self._ended = True
        self.refuse(Unavailable("the server is shutting down"))
        self._tell()

    def take_dirty(self) -> bool:
        dirty, self._dirty = self._dirty, False
        return dirty and not self.is_final

    async def watch(self) -> AsyncGenerator[Turn]:
        """Every state that a listener who keeps up can see; the last one always."""
        while True:
            changed, ended, final = self._changed, self._ended, self.is_final
            if self.turn is not None:
                yield self.turn if final else _with_text(self.turn, self.text)
            if ended or final:
                return
            await changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _with_text(turn: Turn, text: str) -> Turn:
    return replace(turn, reply=replace(turn.reply or Reply(""), text=text)) if text else turn


@dataclass(slots=True)
class _Journal:
    """The durable record of one turn, in the database; see `TurnJournal`."""

    runner: TurnRunner
    live: _LiveTurn
    subject: NewTurn | Turn
    """What was posted, or a stored turn whose worker is gone."""

    async def accept(self, decide: Decide, timing: Callable[[], Timing]) -> Turn:
        turn = await self._stored(decide, timing)
        if turn.replayed:
            return turn
        self.runner._live[turn.id] = self.live
        self.live.show(turn)
        turn_id, worker = turn.id, self.runner._worker
        while turn.status is TurnStatus.ACCEPTED:
            begun = await self._database.write(
                lambda c: turns.begin(c, turn_id, decide, timing, worker=worker)
            )
            if begun is None:
                await self.runner.until_a_turn_ends()
            else:
                turn = begun
        return turn

    async def _stored(self, decide: Decide, timing: Callable[[], Timing]) -> Turn:
        match self.subject:
            case Turn() as turn:
                return turn
            case NewTurn() as new:
                return await self._database.write(lambda c: turns.accept(c, new, decide, timing))

    async def history(self) -> Sequence[ChatMessage]:
        turn = self._turn
        return await self._database.read(lambda c: turns.history(c, turn))

    async def grow(self, text: str) -> None:
        """Heard at once; the runner's next beat writes it, with those of all other turns."""
        self.live.grow(text)

    async def finish(self, reply: Reply, timing: Timing) -> Turn:
        turn = self._turn
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

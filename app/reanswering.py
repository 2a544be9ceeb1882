"""Proves what the split is worth: lets the generator answer some instant turns as well, in idle
moments, and compares.

One replica does it for all. It leaves at once when people want the generator, here, and within a
moment when they do elsewhere; what it had by then is thrown away, and begun anew another time.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from uuid import uuid4

import structlog

from app.database import duties, reanswers
from app.database.database import Database
from app.database.reanswers import Reanswer
from app.dialogue.chatbot import Chatbot
from app.dialogue.pressure import Pressure
from app.dialogue.turn import Turn
from app.errors import TwofoldError
from app.lanes import PeopleFirst
from generator.agreement import Agreement
from generator.interface import ChatMessage, GeneratorError, Usage

DUTY = "reanswering"
POLL_SECONDS = 5.0
LOOK_SECONDS = 0.25
"""How often we look whether people wait on another replica."""
REST_SECONDS = 60.0
"""After the generator did not answer: it may be out of order."""
MOST_FAILURES = 3
"""Of one turn; then it is noted that there is nothing to compare."""

Compare = Callable[[str, str], Agreement]

log = structlog.get_logger(__name__)


class Reanswerer:
    def __init__(
        self,
        database: Database,
        chatbot: Chatbot,
        lane: PeopleFirst,
        compare: Compare,
        *,
        share: float,
    ) -> None:
        """`chatbot` answers people, by `lane`; `share` of its instant turns is answered again."""
        self._database = database
        self._chatbot = replace(chatbot, generator=lane.generator)
        self._lane = lane
        self._compare = compare
        self._share = share
        self._worker = uuid4().hex
        self._failures: Counter[str] = Counter()

    async def run_forever(self) -> None:
        while self._share > 0:
            seconds = POLL_SECONDS
            try:
                while await self.answer_next():
                    pass
            except TwofoldError as error:
                log.warning("cannot look for turns to answer again", error=error.code)
            except GeneratorError as error:
                log.info("a turn was not answered again", error=error.code)
                seconds = REST_SECONDS
            except Exception:  # a defect of ours; the proof goes on, and chats are not its matter
                log.exception("a turn was not answered again")
                seconds = REST_SECONDS
            await asyncio.sleep(seconds)

    async def release(self) -> None:
        """Another replica may go on."""
        with suppress(TwofoldError):
            await self._database.write(lambda c: duties.release(c, DUTY, self._worker))

    async def answer_next(self) -> bool:
        """Whether a turn was answered again; False when there is none, when it is not our duty,
        when generating is dear now, or when people came in between. Raises GeneratorError."""
        if not self._lane.is_idle or self._chatbot.press() is not Pressure.NONE:
            return False
        given_up = [turn_id for turn_id, n in self._failures.items() if n >= MOST_FAILURES]
        found = await self._database.read(
            lambda c: reanswers.next_turn(c, self._share, but=given_up)
        )
        if found is None:
            return False
        if not await self._database.write(lambda c: duties.take(c, DUTY, self._worker)):
            return False
        turn, before = found
        try:
            reanswer = await self._unless_wanted(turn, before)
        except GeneratorError as error:
            self._failures[turn.id] += 1
            if self._failures[turn.id] >= MOST_FAILURES:
                code = error.code
                nothing = Reanswer(turn.id, None, None, False, None, None, None, 0.0, code)
                await self._database.write(lambda c: reanswers.store(c, nothing))
            raise
        if reanswer is None:
            return False
        self._failures.pop(turn.id, None)
        await self._database.write(lambda c: reanswers.store(c, reanswer))
        return True

    async def _unless_wanted(self, turn: Turn, before: Sequence[ChatMessage]) -> Reanswer | None:
        """None when people came first."""
        answering = asyncio.create_task(self._answer(turn, before))
        leaving = [
            asyncio.create_task(self._lane.wanted()),
            asyncio.create_task(self._wanted_elsewhere()),
        ]
        try:
            await asyncio.wait([answering, *leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, *leaving):
                task.cancel()
            ended, *_ = await asyncio.gather(answering, *leaving, return_exceptions=True)
        if isinstance(ended, asyncio.CancelledError):
            return None
        if isinstance(ended, BaseException):
            raise ended
        return ended

    async def _wanted_elsewhere(self) -> None:
        while True:
            if await self._database.read(reanswers.somebody_waits):
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _answer(self, turn: Turn, before: Sequence[ChatMessage]) -> Reanswer:
        """As `Chatbot.answer` lets it be generated. Raises GeneratorError, also where the chain's
        first choice did not answer: its costs are not the generator's."""
        assert turn.reply is not None
        start = time.perf_counter()
        deadline = time.monotonic() + self._chatbot.limits.seconds
        text, answered = "", True
        first_piece_ms: float | None = None
        usage: Usage | None = None
        generator: str | None = None
        messages = [*before, ChatMessage("user", turn.text)]
        found = await self._chatbot.find_passages(messages)
        async with aclosing(self._chatbot.generate(messages, found, deadline)) as pieces:
            async for piece in pieces:
                if piece.skipped:
                    raise _FirstChoiceFailed(piece.skipped[0].error)
                first_piece_ms = first_piece_ms or (time.perf_counter() - start) * 1000
                text += piece.text
                answered = answered and piece.answered
                generator, usage = piece.generator, piece.usage or usage
        total_ms = (time.perf_counter() - start) * 1000
        compared = await asyncio.to_thread(self._compare, turn.reply.text, text)
        return Reanswer(
            turn.id, text, generator, answered, compared, usage, first_piece_ms, total_ms
        )


class _FirstChoiceFailed(GeneratorError):
    def __init__(self, code: str) -> None:
        super().__init__("the first generator of the chain did not answer")
        self.code = code

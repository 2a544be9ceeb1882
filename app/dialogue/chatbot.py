"""One turn, start to finish. Read this first.

A message is read by the intent network, a policy decides its route, and the reply comes
either from the operator's own words (at once) or from a generator (streamed). The journal
makes each step durable before anybody hears of it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import Protocol

from app.dialogue import pressure
from app.dialogue.cost import Effort
from app.dialogue.pressure import Press, Pressure
from app.dialogue.responses import ReplyBook
from app.dialogue.routing import NO_GROUNDS, Cause, Decision, Grounds, Route, RoutingPolicy
from app.dialogue.state import DialogueState
from app.dialogue.turn import (
    OVER_BUDGET,
    Reply,
    Timing,
    Turn,
    TurnJournal,
    TurnStatus,
    Verdict,
)
from app.dialogue.wording import APOLOGY, NOT_TODAY, ask_which, chosen_option
from generator.interface import (
    ChatMessage,
    Citation,
    Generator,
    GeneratorError,
    GeneratorTimeout,
    Limits,
    Passage,
    Piece,
    Skipped,
    Usage,
)
from intent.interface import Continuation, Prediction, RankedIntent, TopicTracker


@dataclass(frozen=True, slots=True)
class Found:
    passages: Sequence[Passage]
    """Those that may answer the last message, best first."""
    cpu_seconds: float = 0.0
    """Of the network that searched."""


FindPassages = Callable[[Sequence[ChatMessage]], Awaitable[Found]]

SHARE_OF_ANSWERED = 0.55
"""Of the belief about topics, for an intent that was just answered at once."""

SAME_MOMENT_SECONDS = 0.1
"""How far two timers for one deadline may be apart."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the live network made of an utterance; `prediction` is None before the first
    model version is promoted."""

    prediction: Prediction | None
    model_version: int | None
    replies: ReplyBook
    classify_ms: float
    grounds: Grounds = NO_GROUNDS
    classify_cpu_ms: float = 0.0
    tracker: TopicTracker | None = None
    """Of the same network; None where it cannot follow topics."""

    def continuation(self, topics: Sequence[RankedIntent]) -> Continuation | None:
        """The utterance in its conversation; None where no topic came before it."""
        if self.tracker is None or self.prediction is None or not topics:
            return None
        return self.tracker.follow(self.prediction, topics)


class Reader(Protocol):
    async def read(self, text: str) -> Reading: ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """The turn is stored: it will be answered, whatever happens to this process. Told again when
    a turn that had to wait begins."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Delta:
    text: str
    offset: int
    """Characters of the reply before this piece."""


@dataclass(frozen=True, slots=True)
class Finished:
    turn: Turn


TurnEvent = Accepted | Delta | Finished


def _nobody_counts(effort: Effort) -> None:
    return


@dataclass(frozen=True, slots=True)
class Chatbot:
    reader: Reader
    policy: RoutingPolicy
    generator: Generator
    find_passages: FindPassages
    limits: Limits = field(default_factory=Limits)
    system_prompt: str = ""
    press: Press = pressure.none
    """What speaks against generating now."""
    spend: Callable[[Effort], None] = _nobody_counts
    """Hears what generating takes, as it takes it."""

    async def answer(
        self, text: str, journal: TurnJournal, *, deadline_seconds: float | None = None
    ) -> AsyncGenerator[TurnEvent]:
        due = inf if deadline_seconds is None else time.monotonic() + deadline_seconds
        reading = await self.reader.read(text)
        clock = _Stopwatch(reading)
        decide = partial(self.decide, text, reading, pressure=self.press())

        # Durable before audible: an instant answer is accepted and done in one commit.
        turn = await journal.accept(decide, clock.timing)
        yield Accepted(turn)
        if turn.replayed:
            return  # posted before: whoever answers it goes on doing so
        if turn.status is TurnStatus.ACCEPTED:  # an earlier turn is still being answered
            try:
                turn = await journal.begin(decide, clock.timing, deadline=due)
            except TimeoutError:
                late = Reply(APOLOGY, generator="fixed", degraded="deadline")
                yield Finished(await journal.finish(late, clock.timing()))
                return
            yield Accepted(turn)
        if turn.status.is_final:
            yield Finished(turn)
            return

        # Asked here as well: a turn may have waited, or been decided by an earlier process.
        if self.press() is Pressure.SPENT:
            yield Delta(NOT_TODAY, offset=0)
            said = Reply(NOT_TODAY, generator="fixed", degraded=OVER_BUDGET, usage=Usage())
            yield Finished(await journal.finish(said, clock.timing()))
            return

        # Open-ended: a generator writes the reply, and the journal keeps what it has so far.
        draft = _Draft()
        deadline = min(due, time.monotonic() + self.limits.seconds)
        try:
            async with aclosing(
                _until(deadline, self._write(text, journal, deadline, clock))
            ) as pieces:
                async for piece in pieces:
                    if piece.text:
                        clock.heard()
                        yield Delta(piece.text, offset=len(draft.text))
                    draft.add(piece)
                    await journal.grow(piece.text, draft.usage)
        except TimeoutError:
            draft.degraded = "deadline"
        except GeneratorError as error:
            in_time = time.monotonic() < deadline - SAME_MOMENT_SECONDS
            if in_time or not isinstance(error, GeneratorTimeout):
                yield Finished(await journal.fail(error.code, clock.timing()))
                return
            draft.degraded = "deadline"  # it was told of ours, and may be the first to notice
        if not draft.text:
            yield Delta(APOLOGY, offset=0)
            draft.apologise()
        yield Finished(await journal.finish(draft.reply(), clock.timing()))

    def decide(
        self,
        text: str,
        reading: Reading,
        state: DialogueState,
        *,
        pressure: Pressure = Pressure.NONE,
    ) -> Verdict:
        """Route this utterance and, unless it is open-ended, word the reply. Pure."""
        picked = chosen_option(text, state.pending)
        if picked:
            decision, continuation = self.policy.chosen(picked), None
        else:
            continuation = reading.continuation(state.topics)
            decision = self.policy.choose(
                reading.prediction, state, reading.grounds, continuation, pressure
            )
        topics = topics_after(decision, continuation) if reading.tracker else state.topics
        match decision.route:
            case Route.INSTANT:
                assert decision.intent is not None
                said = reading.replies.reply(decision.intent, state)
                if said is not None:
                    after = state.after_answer(decision.intent, topics)
                    return Verdict(decision, Reply(said), after, reading.model_version)
                decision = replace(decision, route=Route.GENERATE, cause=Cause.NO_REPLY)
            case Route.CLARIFY:
                options = tuple(
                    reading.replies.option(one.intent) for one in decision.alternatives[:2]
                )
                question = Reply(ask_which(options), choices=options)
                after = state.after_asking(options, topics)
                return Verdict(decision, question, after, reading.model_version)
            case Route.GENERATE:
                pass
        return Verdict(decision, None, state.after_answer(None, topics), reading.model_version)

    async def explain(self, text: str, state: DialogueState) -> tuple[Prediction | None, Decision]:
        """What `answer` would decide; says and stores nothing."""
        reading = await self.reader.read(text)
        verdict = self.decide(text, reading, state, pressure=self.press())
        return reading.prediction, verdict.decision

    async def _write(
        self, text: str, journal: TurnJournal, deadline: float, clock: "_Stopwatch"
    ) -> AsyncGenerator[Piece]:
        messages = [*await journal.history(), ChatMessage("user", text)]
        with clock.searching():
            found = await self.find_passages(messages)
        async with aclosing(self.generate(messages, found, deadline)) as pieces:
            async for piece in pieces:
                yield piece

    async def generate(
        self, messages: Sequence[ChatMessage], found: Found, deadline: float
    ) -> AsyncGenerator[Piece]:
        """The generator's reply; what the search took counts as its own."""
        if self.system_prompt:
            messages = [ChatMessage("system", self.system_prompt), *messages]
        limits = replace(self.limits, seconds=max(deadline - time.monotonic(), 0.0))
        pieces = self.generator.stream(messages, found.passages, limits)
        told = Effort(found.cpu_seconds)
        self.spend(told)
        try:
            async for piece in pieces:
                whole = _with_search(piece, found)
                if whole.usage is not None:
                    so_far = Effort.of(whole.usage)
                    self.spend(so_far - told)
                    told = so_far
                yield whole
        finally:
            # Now, not when the garbage collector comes by: an engine is at work behind it.
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()


def _with_search(piece: Piece, found: Found) -> Piece:
    if piece.usage is None:
        return piece
    cpu_seconds = piece.usage.cpu_seconds + found.cpu_seconds
    return replace(piece, usage=replace(piece.usage, cpu_seconds=cpu_seconds))


def topics_after(decision: Decision, continuation: Continuation | None) -> tuple[RankedIntent, ...]:
    """What a conversation is about once this is decided."""
    if continuation is not None and decision.cause is Cause.CONFIDENT:
        return _answered(decision.alternatives[0].intent, continuation.topics)
    if continuation is not None:
        return continuation.topics
    if decision.cause is Cause.CHOSEN and decision.intent is not None:
        return (RankedIntent(decision.intent, decision.confidence),)
    if decision.cause is Cause.OUT_OF_SCOPE:
        return ()
    return decision.alternatives


def _answered(intent: str, topics: Sequence[RankedIntent]) -> tuple[RankedIntent, ...]:
    """What was just answered is what people go on with, whatever they may have meant: it has more
    than half of the belief."""
    rest = 1 - SHARE_OF_ANSWERED
    others = [RankedIntent(one, rest * share) for one, share in topics if one != intent]
    before = sum([share for one, share in topics if one == intent])
    return (RankedIntent(intent, SHARE_OF_ANSWERED + rest * before), *others)[: len(topics)]


async def _until(deadline: float, pieces: AsyncGenerator[Piece]) -> AsyncGenerator[Piece]:
    """The same pieces; raises TimeoutError and stops their source at `deadline` (monotonic)."""
    async with aclosing(pieces):
        while True:
            try:
                yield await asyncio.wait_for(anext(pieces), deadline - time.monotonic())
            except StopAsyncIteration:
                return


class _Stopwatch:
    def __init__(self, reading: Reading) -> None:
        self._start = time.perf_counter() - reading.classify_ms / 1000
        self._reading = reading
        self._search_ms: float | None = None
        self._first_piece_ms: float | None = None

    @contextmanager
    def searching(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._search_ms = (time.perf_counter() - start) * 1000

    def heard(self) -> None:
        self._first_piece_ms = self._first_piece_ms or self._elapsed_ms()

    def timing(self) -> Timing:
        return Timing(
            classify_ms=self._reading.classify_ms,
            first_piece_ms=self._first_piece_ms,
            total_ms=self._elapsed_ms(),
            search_ms=self._search_ms,
            classify_cpu_ms=self._reading.classify_cpu_ms,
        )

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._start) * 1000


@dataclass(slots=True)
class _Draft:
    """The reply as far as it has come."""

    text: str = ""
    citations: tuple[Citation, ...] = ()
    generator: str | None = None
    degraded: str | None = None
    skipped: tuple[Skipped, ...] = ()
    usage: Usage | None = None

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.citations = tuple(dict.fromkeys((*self.citations, *piece.citations)))
        self.generator = piece.generator
        self.usage = piece.usage or self.usage
        if piece.skipped:
            self.skipped, self.degraded = piece.skipped, "fallback"

    def apologise(self) -> None:
        self.text, self.generator = APOLOGY, "fixed"
        self.degraded = self.degraded or "no_reply"

    def reply(self) -> Reply:
        return Reply(
            self.text,
            self.citations,
            (),
            self.generator,
            self.degraded,
            self.skipped,
            self.usage,
        )

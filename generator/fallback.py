"""The next generator when one fails, is late or is full, before its first piece."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from generator.closing import close
from generator.interface import (
    ChatMessage,
    Generator,
    GeneratorError,
    GeneratorTimeout,
    GeneratorUnavailable,
    Limits,
    Passage,
    Piece,
    Skipped,
)

OnFailure = Callable[[str, Exception], None]
"""Called with the name of the link and what went wrong with it."""

KEPT_SECONDS = 1.0
"""Of the time that is left, for the links behind one that is late; half of it when it is short."""


@dataclass(frozen=True, slots=True)
class Link:
    generator: Generator
    first_piece_seconds: float = 10.0


class FallbackGenerator:
    """Asks its links in order. Once a link has said something, its errors are the caller's."""

    def __init__(
        self,
        links: Sequence[Link | Generator],
        *,
        name: str = "fallback",
        on_failure: OnFailure | None = None,
        on_start_failure: OnFailure | None = None,
    ) -> None:
        if not links:
            raise ValueError("a fallback chain needs at least one link")
        self._links = [link if isinstance(link, Link) else Link(link) for link in links]
        self._name = name
        self._on_failure = on_failure
        self._on_start_failure = on_start_failure

    @property
    def name(self) -> str:
        return self._name

    async def start(self) -> None:
        """Loads what its links load, now; a link that cannot is told of, and tried again when
        it is asked."""
        for link in self._links:
            start = getattr(link.generator, "start", None)
            if start is None:
                continue
            try:
                await start()
            except Exception as error:
                if self._on_start_failure is not None:
                    self._on_start_failure(link.generator.name, error)

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        passages: Sequence[Passage] = (),
        limits: Limits = Limits(),  # noqa: B008 - frozen, safe to share
    ) -> AsyncIterator[Piece]:
        clock = asyncio.get_running_loop().time
        deadline = clock() + limits.seconds
        skipped: list[Skipped] = []
        last_error: Exception | None = None
        for number, link in enumerate(self._links):
            left = deadline - clock()
            kept = min(KEPT_SECONDS, left / 2)
            if number == len(self._links) - 1:
                # The last link is there so that nobody meets silence, however late it is.
                left, kept = max(left, link.first_piece_seconds), 0.0
            if left <= 0:
                self._report(link, skipped, GeneratorTimeout("no time was left for it"))
                continue
            pieces = link.generator.stream(messages, passages, replace(limits, seconds=left))
            try:
                first = await _first_piece(pieces, min(left - kept, link.first_piece_seconds))
            except Exception as error:
                # Not only GeneratorError: a bug in one link must not silence the chat,
                # and on_failure hears of it.
                last_error = error
                self._report(link, skipped, error)
                await close(pieces)
                continue
            try:
                yield replace(first, skipped=tuple(skipped))
                async for piece in pieces:
                    yield piece
            finally:
                await close(pieces)
            return
        failures = "; ".join(f"{one.generator}: {one.error}" for one in skipped)
        raise GeneratorUnavailable(f"no link answered: {failures}") from last_error

    def _report(self, link: Link, skipped: list[Skipped], error: Exception) -> None:
        name = link.generator.name
        code = error.code if isinstance(error, GeneratorError) else type(error).__name__
        skipped.append(Skipped(name, code))
        if self._on_failure is not None:
            self._on_failure(name, error)

    async def aclose(self) -> None:
        async with AsyncExitStack() as stack:
            for link in self._links:
                stack.push_async_callback(link.generator.aclose)


class FixedGenerator:
    """Says one sentence, always: the end of a fallback chain."""

    def __init__(self, sentence: str, *, name: str = "fixed") -> None:
        self._sentence = sentence
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        passages: Sequence[Passage] = (),
        limits: Limits = Limits(),  # noqa: B008 - frozen, safe to share
    ) -> AsyncIterator[Piece]:
        yield Piece(self._sentence, self._name, answered=False)

    async def aclose(self) -> None:
        return


async def _first_piece(pieces: AsyncIterator[Piece], seconds: float) -> Piece:
    """The first piece with a text; an empty stream counts as a failure."""
    try:
        async with asyncio.timeout(seconds):
            async for piece in pieces:
                if piece.text:
                    return piece
    except TimeoutError as error:
        raise GeneratorTimeout(f"no first piece within {seconds:.1f} s") from error
    raise GeneratorUnavailable("the reply was empty")

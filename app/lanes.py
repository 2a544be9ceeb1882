"""One generator for people and, while it has nothing to do, for others."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from generator.closing import close
from generator.interface import ChatMessage, Generator, Limits, Passage, Piece


class PeopleFirst:
    """A `Generator` that tells when people want it, so that whoever else uses it can leave."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self._streams = 0
        self._wanted = asyncio.Event()

    @property
    def name(self) -> str:
        return self.generator.name

    @property
    def is_idle(self) -> bool:
        return not self._streams

    async def wanted(self) -> None:
        """Returns when somebody begins to use it, or at once while somebody does."""
        await self._wanted.wait()

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        passages: Sequence[Passage] = (),
        limits: Limits = Limits(),  # noqa: B008 - frozen, safe to share
    ) -> AsyncIterator[Piece]:
        self._streams += 1
        self._wanted.set()
        pieces = self.generator.stream(messages, passages, limits)
        try:
            async for piece in pieces:
                yield piece
        finally:
            self._streams -= 1
            if not self._streams:
                self._wanted.clear()
            await close(pieces)

    async def aclose(self) -> None:
        await self.generator.aclose()

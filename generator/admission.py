"""How many requests a generator works on at once, and how many may wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from generator.interface import GeneratorOverloaded, GeneratorTimeout


class Admission:
    def __init__(self, *, running: int, waiting: int) -> None:
        if running < 1 or waiting < 0:
            raise ValueError("an admission needs running >= 1 and waiting >= 0")
        self._places = asyncio.Semaphore(running)
        self._most_waiting = waiting
        self._waiting = 0

    @asynccontextmanager
    async def place(self, deadline: float) -> AsyncIterator[None]:
        """One place until the block ends. `deadline` is in the running loop's time."""
        if self._places.locked() and self._waiting >= self._most_waiting:
            raise GeneratorOverloaded(f"{self._most_waiting} requests are waiting already")
        self._waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
        except TimeoutError as error:
            raise GeneratorTimeout("the deadline passed while waiting for a free place") from error
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

"""A generator that says its lines; for tests and for trying out a page."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from generator.interface import ChatMessage, Citation, Limits, Passage, Piece, Usage


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    messages: tuple[ChatMessage, ...]
    passages: tuple[Passage, ...]
    limits: Limits


class ScriptedGenerator:
    """The n-th call gets the n-th line, the last line again when they have run out.

    A line is cut into a piece per word. `wait_before` maps the number of a piece (0 is the
    first) to an event that must be set before it is said. `error` is raised once `error_after`
    pieces are out. `usage` comes with each piece. `calls` holds what was asked, `pieces_said`
    counts over all calls, and `abandoned` counts the streams that were closed before their end.
    """

    def __init__(
        self,
        lines: Sequence[str],
        *,
        name: str = "scripted",
        wait_before: Mapping[int, asyncio.Event] | None = None,
        error: Exception | None = None,
        error_after: int = 0,
        citations: Sequence[Citation] = (),
        answered: bool = True,
        usage: Usage | None = None,
    ) -> None:
        self.calls: list[ScriptedCall] = []
        self.pieces_said = 0
        self.abandoned = 0
        self.closed = False
        self._lines = tuple(lines)
        self._name = name
        self._wait_before = dict(wait_before or {})
        self._error = error
        self._error_after = error_after
        self._citations = tuple(citations)
        self._answered = answered
        self._usage = usage

    @property
    def name(self) -> str:
        return self._name

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        passages: Sequence[Passage] = (),
        limits: Limits = Limits(),  # noqa: B008 - frozen, safe to share
    ) -> AsyncIterator[Piece]:
        self.calls.append(ScriptedCall(tuple(messages), tuple(passages), limits))
        line = self._lines[min(len(self.calls), len(self._lines)) - 1] if self._lines else ""
        finished = False
        try:
            words = re.findall(r"\S+\s*|\s+", line)
            for number, word in enumerate(words):
                await self._get_ready(number)
                self.pieces_said += 1
                citations = self._citations if number == 0 else ()
                yield Piece(word, self._name, citations, answered=self._answered, usage=self._usage)
            await self._get_ready(len(words))
            finished = True
        finally:
            self.abandoned += not finished

    async def _get_ready(self, number: int) -> None:
        if number in self._wait_before:
            await self._wait_before[number].wait()
        if self._error is not None and number == self._error_after:
            raise self._error

    async def aclose(self) -> None:
        self.closed = True

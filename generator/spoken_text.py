"""Tokens made texts that need never be taken back."""

from collections.abc import Callable


class SpokenText:
    """Turns tokens into texts that need never be taken back.

    A character may take several tokens, and a stop string several texts, so what could still
    change is held back. The texts, joined, are the decoded tokens up to the first stop string.
    """

    def __init__(
        self,
        decode: Callable[[list[int]], str],
        emit: Callable[[str], None],
        stops: tuple[str, ...] = (),
    ) -> None:
        self.stopped = False
        self._decode = decode
        self._emit = emit
        self._stops = tuple(stop for stop in stops if stop)
        self._ids: list[int] = []
        self._said = ""

    def add(self, ids: list[int]) -> None:
        if self.stopped:
            return
        self._ids.extend(ids)
        text = self._cut_at_stop(self._decode(self._ids))
        if not self.stopped:
            text = text.rstrip("\ufffd")
            held = max((_overlap(text, stop) for stop in self._stops), default=0)
            text = text[: len(text) - held]
        self._say(text)

    def finish(self) -> None:
        if not self.stopped:
            self._say(self._cut_at_stop(self._decode(self._ids)))

    def _cut_at_stop(self, text: str) -> str:
        ends = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        self.stopped = self.stopped or bool(ends)
        return text[: min(ends)] if ends else text

    def _say(self, text: str) -> None:
        if len(text) > len(self._said) and text.startswith(self._said):
            self._emit(text[len(self._said) :])
            self._said = text


def _overlap(text: str, stop: str) -> int:
    """How many of the last characters of `text` could be the beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0

"""Stand-ins for the networks: an utterance says itself what is to become of it.

`hello …` is an instant turn. `say 12 at 0.02 …` is written by the generator, twelve words,
one every 20 ms. `hm …` is so close between two intents that the bot asks back.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

from generator.interface import ChatMessage, Limits, Passage, Piece
from intent.interface import Certificate, Doubt, Prediction, Promise
from tests.fakes import NOTHING, prediction
from tests.proof.points import Points

GREETINGS = ("Hello!", "Hi there!", "Good day!", "Welcome!", "Nice to see you!")
"""Variants take turns: the n-th greeting of a conversation tells what it remembers."""


class ByFirstWord:
    intents = ("greet",)
    topic_tracker = None
    card: dict[str, Any] = {"intents": {}}  # noqa: RUF012 - nobody writes to it

    def certify(self, promise: Promise) -> Certificate:
        return Certificate(promise, doubt=Doubt.NOTHING_UNSEEN)

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]:
        sure = prediction(("greet", 0.97), ("other", 0.03))
        return [sure if text.startswith("hello ") else NOTHING for text in texts]


class EchoGenerator:
    """Every reply says which history it was asked with, and which start of the turn wrote it."""

    name = "echo"

    def __init__(self, points: Points | None = None) -> None:
        self._points = points or Points(None, lambda _: None)

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        passages: Sequence[Passage] = (),
        limits: Limits = Limits(),  # noqa: B008 - frozen, safe to share
    ) -> AsyncIterator[Piece]:
        self._points.passed("generator: asked")
        history = [(one.role, one.text) for one in messages if one.role != "system"][:-1]
        count, seconds = pace(messages[-1].text)
        start = uuid4().hex[:8]
        for number in range(count):
            await asyncio.sleep(seconds)
            if number == 1:
                self._points.passed("generator: first piece")
            word = f"[{digest(history)} {start}] " if number == 0 else f"{start}-{number} "
            yield Piece(word, self.name)
        self._points.passed("generator: last piece")

    async def aclose(self) -> None:
        pass


def pace(utterance: str) -> tuple[int, float]:
    found = re.match(r"say (\d+) at ([\d.]+) ", utterance)
    return (int(found[1]), float(found[2])) if found else (8, 0.005)


def digest(history: Sequence[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps(list(history)).encode()).hexdigest()[:16]


def start_in(reply: str | None) -> str | None:
    """The name that the generator gave to the start of the turn that wrote this."""
    found = re.match(r"\[[0-9a-f]{16} ([0-9a-f]{8})\]", reply or "")
    return found[1] if found else None


def digest_in(reply: str) -> str | None:
    found = re.match(r"\[([0-9a-f]{16}) ", reply)
    return found[1] if found else None

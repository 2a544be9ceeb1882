"""Requests that meet at the classifier share its work, and none waits in vain."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from app.classifying import LARGEST_BATCH, Classified, ClassifierThread
from intent.interface import Prediction
from tests.fakes import prediction


class Gate:
    """A classifier that answers when it is let through, and remembers what it was given."""

    intents = ("greet",)

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[str]] = []

    def classify(self, text: str) -> Prediction:
        return self.classify_batch([text])[0]

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]:
        self.batches.append(list(texts))
        self.entered.set()
        assert self.open.wait(timeout=10)
        if "poison" in texts:
            raise ValueError("poison")
        return [prediction((f"intent of {text}", 0.9)) for text in texts]


async def behind_the_gate(
    thread: ClassifierThread, gate: Gate, texts: Sequence[str]
) -> list[Classified | BaseException]:
    """The first text goes in alone; the others gather behind it."""
    first = asyncio.create_task(thread.classify(gate, "first"))
    await asyncio.to_thread(gate.entered.wait, 10)
    others = [asyncio.create_task(thread.classify(gate, text)) for text in texts]
    await asyncio.sleep(0)  # each has handed its text over
    gate.open.set()
    return await asyncio.gather(first, *others, return_exceptions=True)


@pytest.fixture
def thread() -> ClassifierThread:
    return ClassifierThread()


def test_what_gathers_goes_through_together_and_each_gets_its_own(
    thread: ClassifierThread,
) -> None:
    gate = Gate()
    texts = [f"text {number}" for number in range(LARGEST_BATCH + 6)]
    answers = asyncio.run(behind_the_gate(thread, gate, texts))
    thread.close()
    intents = [one.prediction.intent if isinstance(one, Classified) else one for one in answers]
    assert intents == [f"intent of {text}" for text in ["first", *texts]]
    assert list(map(len, gate.batches)) == [1, LARGEST_BATCH, 6]


def test_a_text_that_breaks_the_classifier_fails_alone(thread: ClassifierThread) -> None:
    answers = asyncio.run(behind_the_gate(thread, Gate(), ["a", "poison", "b"]))
    thread.close()
    assert [type(one) for one in answers] == [Classified, Classified, ValueError, Classified]


def test_requests_of_two_versions_are_not_mixed(thread: ClassifierThread) -> None:
    old, new = Gate(), Gate()
    new.open.set()

    async def scene() -> None:
        first = asyncio.create_task(thread.classify(old, "1"))
        await asyncio.to_thread(old.entered.wait, 10)
        others = [thread.classify(gate, "2") for gate in (old, new, old, new)]
        waiting = [asyncio.create_task(one) for one in others]
        await asyncio.sleep(0)
        old.open.set()
        await asyncio.gather(first, *waiting)

    asyncio.run(scene())
    thread.close()
    assert old.batches == [["1"], ["2", "2"]]
    assert new.batches == [["2", "2"]]


def test_who_gave_up_is_left_out(thread: ClassifierThread) -> None:
    gate = Gate()

    async def scene() -> None:
        first = asyncio.create_task(thread.classify(gate, "first"))
        await asyncio.to_thread(gate.entered.wait, 10)
        gone, there = (
            asyncio.create_task(thread.classify(gate, text)) for text in ("gone", "there")
        )
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(first, there)

    asyncio.run(scene())
    thread.close()
    assert gate.batches == [["first"], ["there"]]


def test_closing_waits_for_what_is_under_way(thread: ClassifierThread) -> None:
    async def scene() -> list[Classified]:
        gate = Gate()
        gate.open.set()
        waiting = [asyncio.create_task(thread.classify(gate, text)) for text in "abc"]
        await asyncio.sleep(0)
        await asyncio.to_thread(thread.close)
        return await asyncio.gather(*waiting)

    assert [one.prediction.intent for one in asyncio.run(scene())] == [
        f"intent of {text}" for text in "abc"
    ]

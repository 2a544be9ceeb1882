"""One thread that classifies, for all requests of this process."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from intent.interface import IntentClassifier, Prediction

LARGEST_BATCH = 64

LoadClassifier = Callable[[bytes], IntentClassifier]
"""From the bytes of an artefact; raises IntentError."""


@dataclass(frozen=True, slots=True)
class Classified:
    prediction: Prediction
    cpu_seconds: float
    """Of the thread: an equal part of what its batch took."""


@dataclass(slots=True, eq=False)
class _Request:
    classifier: IntentClassifier
    text: str
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Classified]
    outcome: Classified | Exception | None = None

    def settle(self) -> None:
        if self.answer.done():  # whoever asked has given up
            return
        if isinstance(self.outcome, Exception):
            self.answer.set_exception(self.outcome)
        elif self.outcome is not None:
            self.answer.set_result(self.outcome)
        else:
            self.answer.cancel()


class ClassifierThread:
    """What gathers while the network is at work goes through it together: under load a message
    costs less, and without load none waits for company."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="classifier", daemon=True)
        self._thread.start()

    async def classify(self, classifier: IntentClassifier, text: str) -> Classified:
        loop = asyncio.get_running_loop()
        request = _Request(classifier, text, loop, loop.create_future())
        self._requests.put(request)
        return await request.answer

    def close(self) -> None:
        """Waits for what is under way; whoever comes later gets a CancelledError."""
        self._requests.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (batch := self._gather()) is not None:
            for classifier in {id(one.classifier): one.classifier for one in batch}.values():
                _answer(classifier, [one for one in batch if one.classifier is classifier])
            _settle_all(batch)
        while not self._requests.empty():
            left = self._requests.get()
            if left is not None:
                _settle_all([left])

    def _gather(self) -> list[_Request] | None:
        """At least one request; None at the end."""
        batch: list[_Request] = []
        while len(batch) < LARGEST_BATCH and not (batch and self._requests.empty()):
            request = self._requests.get()
            if request is None:
                if batch:
                    self._requests.put(None)  # for the next time
                    return batch
                return None
            if not request.answer.cancelled():
                batch.append(request)
        return batch


def _answer(classifier: IntentClassifier, requests: Sequence[_Request]) -> None:
    start = time.thread_time()
    try:
        predictions = classifier.classify_batch([one.text for one in requests])
    except Exception as error:
        if len(requests) == 1:
            requests[0].outcome = error
        else:  # one bad text fails alone
            for one in requests:
                _answer(classifier, [one])
        return
    each = (time.thread_time() - start) / len(requests)
    for one, prediction in zip(requests, predictions, strict=True):
        one.outcome = Classified(prediction, each)


def _settle_all(requests: Sequence[_Request]) -> None:
    """One call into each event loop, however many wait there."""
    for loop in {one.loop for one in requests}:
        theirs = [one for one in requests if one.loop is loop]
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, theirs)


def _settle(requests: Sequence[_Request]) -> None:
    for one in requests:
        one.settle()

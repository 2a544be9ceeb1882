"""One thread that classifies, for all requests of this process."""

import asyncio
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from intent.interface import IntentClassifier, Prediction

LARGEST_BATCH = 64


@dataclass(frozen=True, slots=True)
class _Request:
    classifier: IntentClassifier
    text: str
    answer: Future[Prediction] = field(default_factory=Future)


class ClassifierThread:
    """What gathers while the network is at work goes through it together: under load a message
    costs less, and without load none waits for company."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="classifier", daemon=True)
        self._thread.start()

    async def classify(self, classifier: IntentClassifier, text: str) -> Prediction:
        request = _Request(classifier, text)
        self._requests.put(request)
        return await asyncio.wrap_future(request.answer)

    def close(self) -> None:
        """Waits for what is under way; whoever comes later gets a CancelledError."""
        self._requests.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (batch := self._gather()) is not None:
            for classifier in {id(one.classifier): one.classifier for one in batch}.values():
                _answer(classifier, [one for one in batch if one.classifier is classifier])
        while not self._requests.empty():
            left = self._requests.get()
            if left is not None:
                left.answer.cancel()

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
            if request.answer.set_running_or_notify_cancel():
                batch.append(request)
        return batch


def _answer(classifier: IntentClassifier, requests: Sequence[_Request]) -> None:
    try:
        predictions = classifier.classify_batch([one.text for one in requests])
    except Exception as error:
        if len(requests) == 1:
            requests[0].answer.set_exception(error)
        else:  # one bad text fails alone
            for one in requests:
                _answer(classifier, [one])
        return
    for one, prediction in zip(requests, predictions, strict=True):
        one.answer.set_result(prediction)

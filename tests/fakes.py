"""Fakes that stand in for networks, so that a test says what is predicted."""

from collections.abc import Mapping, Sequence

from intent.assurance import assurance as assurance_of
from intent.interface import (
    Certificate,
    Continuation,
    Doubt,
    Prediction,
    Promise,
    RankedIntent,
    TopicTracker,
)


def prediction(
    *ranking: tuple[str, float], in_scope: bool = True, assurance: float | None = None
) -> Prediction:
    """`prediction(("greet", 0.9), ("goodbye", 0.1))`; in scope it is very much like an example."""
    ranked = tuple(RankedIntent(intent, confidence) for intent, confidence in ranking)
    best, score = ranked[0], 9.0 if in_scope else -9.0
    if assurance is None:
        assurance = assurance_of(best.confidence, score)
    return Prediction(best.intent, best.confidence, ranked, in_scope, score, assurance=assurance)


NOTHING = prediction(("greet", 0.1), ("goodbye", 0.1), in_scope=False)


class FakeTracker:
    """Says of every utterance that it goes on with the same topics, this probably."""

    def __init__(self, probability: float) -> None:
        self._probability = probability

    def follow(self, prediction: Prediction, topics: Sequence[RankedIntent]) -> Continuation:
        return Continuation(self._probability, tuple(topics))


class FakeClassifier:
    """Predicts what it was told for a text, and nothing in scope for any other; certifies what
    it was told, or nothing."""

    def __init__(
        self, predictions: Mapping[str, Prediction], certificate: Certificate | None = None
    ) -> None:
        self._predictions = predictions
        self._certificate = certificate

    @property
    def intents(self) -> tuple[str, ...]:
        return tuple(sorted({one.intent for one in self._predictions.values()}))

    topic_tracker: TopicTracker | None = None

    def certify(self, promise: Promise) -> Certificate:
        return self._certificate or Certificate(promise, doubt=Doubt.NOTHING_UNSEEN)

    def classify(self, text: str) -> Prediction:
        return self._predictions.get(text.casefold(), NOTHING)

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]:
        return [self.classify(text) for text in texts]

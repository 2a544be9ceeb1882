"""Fakes that stand in for networks, so that a test says what is predicted."""

from collections.abc import Mapping, Sequence

from intent.interface import Prediction, RankedIntent


def prediction(*ranking: tuple[str, float], in_scope: bool = True) -> Prediction:
    """`prediction(("greet", 0.9), ("goodbye", 0.1))`"""
    ranked = tuple(RankedIntent(intent, confidence) for intent, confidence in ranking)
    return Prediction(ranked[0].intent, ranked[0].confidence, ranked, in_scope)


NOTHING = prediction(("greet", 0.1), ("goodbye", 0.1), in_scope=False)


class FakeClassifier:
    """Predicts what it was told for a text, and nothing in scope for any other."""

    def __init__(self, predictions: Mapping[str, Prediction]) -> None:
        self._predictions = predictions

    @property
    def intents(self) -> tuple[str, ...]:
        return tuple(sorted({one.intent for one in self._predictions.values()}))

    def classify(self, text: str) -> Prediction:
        return self._predictions.get(text.casefold(), NOTHING)

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]:
        return [self.classify(text) for text in texts]

"""A classifier whose answers can be worked out by hand."""

from collections.abc import Sequence
from typing import Any

from intent.interface import NearestExample, Prediction, RankedIntent


class Parrot:
    """The words of a text vote for the intents of their name; ties go by the alphabet. Words of
    no intent lower the scope score, and a text without any such word is out of scope."""

    def __init__(self, *intents: str, examples: Sequence[tuple[str, str]] = ()) -> None:
        self.intents = tuple(sorted(intents))
        self.card: dict[str, Any] = {"intents": {}}
        self.classified = 0
        self._examples = list(examples)

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]:
        self.classified += len(texts)
        return [self._classify(text.split()) for text in texts]

    def nearest(self, texts: Sequence[str], count: int = 3) -> list[list[NearestExample]]:
        return [
            [NearestExample(*example, 0.5) for example in self._examples[:count]] for _ in texts
        ]

    def examples(self) -> list[tuple[str, str]]:
        return self._examples

    def _classify(self, words: Sequence[str]) -> Prediction:
        votes = {intent: 2 ** words.count(intent) for intent in self.intents}
        best = sorted(votes, key=lambda intent: (-votes[intent], intent))[:5]
        ranking = tuple(
            RankedIntent(intent, votes[intent] / sum(votes.values())) for intent in best
        )
        known = sum(word in self.intents for word in words)
        score = known - 0.25 * (len(words) - known) if known else -1.0
        return Prediction(best[0], ranking[0].confidence, ranking, score >= 0, score)

"""Tells utterances that resemble the training data from those that do not.

Five signals are added, each measured in standard deviations around its mean over in-scope
utterances. Two say where an utterance lies in feature space: the mean cosine to the nearest
training examples of the likeliest intents, and the cosine to the nearest of those intents'
prototypes, the mean direction of their examples. Two more count half: how little the network
hesitates between intents, and its largest logit for the length of the features, which is how
squarely they point at an intent. The familiarity of the words, the mean share of their n-grams
seen in training, counts a quarter. The weights were chosen with intents left out of training
(docs/decisions/0021).

Two rules come on top. An utterance is out of scope where none of its words looks like any
training word, and where an example of the reserved intent is nearer than every other example.

Shapes: B utterances, F features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intent.neighbours import Array, Comparison, StoredExamples, directions
from intent.text import is_word, ngram_hashes

WEIGHTS = np.array((1.0, 1.0, 0.5, 0.5, 0.25), np.float32)
SIGNALS = len(WEIGHTS)
LEAST_SIGNAL = -4.0
LEAST_DEVIATION = 0.05
"""Of every signal: a few utterances all alike are no reason to call the next best one strange."""
CACHED_WORDS = 50_000
LEAST_FAMILIARITY = 0.4
"""The share of a word's n-grams seen in training that makes it look like a training word."""

PASS_RATE = 0.96
"""Without out-of-scope examples, the threshold lets this share of in-scope utterances pass."""
LEAST_PASS_RATE = 0.92
"""With them it may be stricter, down to this."""
FEWEST_NEGATIVES = 10
FLATTERY = 1.0
"""How much lower than the worst score known an utterance in scope may have, where too few are
known: those it was trained on, or a handful that was not."""


@dataclass(frozen=True)
class ScopeDetector:
    inside: StoredExamples
    outside: StoredExamples  # of the reserved intent, all labelled 0; may be empty
    seen_ngrams: NDArray[np.uint32]  # (G,), sorted CRC-32 of every n-gram in the training words
    means: tuple[float, ...]  # of each signal, over in-scope utterances not trained on
    deviations: tuple[float, ...]
    threshold: float


class ScopeScorer:
    """A `ScopeDetector` made ready for use."""

    def __init__(self, detector: ScopeDetector) -> None:
        self._means = np.array(detector.means, np.float32)
        self._deviations = np.array(detector.deviations, np.float32)
        self._outside = directions(detector.outside.features.astype(np.float32))
        self._seen = frozenset(detector.seen_ngrams.tolist())
        self._familiarities: dict[str, float] = {}

    def scores(self, signals: Array) -> Array:
        """(B, SIGNALS) to (B,), higher for utterances more like the training data."""
        return combine(signals, self._means, self._deviations)

    def familiarities(self, tokens: Sequence[str]) -> list[float]:
        """Of each word, or of each token where none is a word."""
        known = [self._familiarity(token) for token in tokens]
        return [one for one in known if one >= 0] or [self._seen_share(one) for one in tokens]

    def signals(
        self,
        logits: Array,
        certainties: Array,
        compared: Sequence[Comparison],
        familiarities: Sequence[Sequence[float]],
    ) -> Array:
        """(B, SIGNALS). `logits`: (B, I), as the network gave them; `certainties`: (B,), the
        negative entropies of the confidences."""
        rows = [
            (one.nearness, one.prototype, sure, largest / one.length, sum(familiar) / len(familiar))
            for one, sure, largest, familiar in zip(
                compared,
                certainties.tolist(),
                logits.max(axis=1).tolist(),
                familiarities,
                strict=True,
            )
        ]
        return np.array(rows, np.float32).reshape(-1, SIGNALS)

    def resembles_outside(
        self, features: Array, compared: Sequence[Comparison]
    ) -> NDArray[np.bool_]:
        """(B,) true where an out-of-scope example is nearer than every other."""
        if not len(self._outside):
            return np.zeros(len(features), np.bool_)
        outside = (directions(features) @ self._outside.T).max(axis=1)
        inside = np.array([one.largest for one in compared])
        nearer: NDArray[np.bool_] = outside > inside
        return nearer

    def _familiarity(self, token: str) -> float:
        """1 for every word of the training data, below 0 for what is no word."""
        found = self._familiarities.get(token)
        if found is None:
            found = self._seen_share(token) if is_word(token) else -1.0
            if len(self._familiarities) >= CACHED_WORDS:
                self._familiarities.clear()
            self._familiarities[token] = found
        return found

    def _seen_share(self, token: str) -> float:
        hashes = ngram_hashes(token)
        return sum(value in self._seen for value in hashes) / len(hashes)


def is_unfamiliar(familiarities: Sequence[float]) -> bool:
    """True where no word looks like any training word, as with keyboard noise."""
    return max(familiarities) < LEAST_FAMILIARITY


def combine(signals: Array, means: Array, deviations: Array) -> Array:
    """(B,). None of the signals can outvote the others by itself."""
    summed: Array = np.maximum((signals - means) / deviations, LEAST_SIGNAL) @ WEIGHTS
    return summed


def choose_threshold(inside: Array, outside: Array) -> float:
    """From scores of utterances that were not trained on.

    With enough out-of-scope ones: where the sum of both error rates is smallest, as long as
    `LEAST_PASS_RATE` of the others pass. Otherwise where `PASS_RATE` of the others pass.
    """
    ordered: list[float] = np.sort(inside).tolist()
    # So many of those to come are expected below the lowest; too few to know: below all of them.
    refused = math.floor((1 - PASS_RATE) * (len(ordered) + 1))
    usual = ordered[refused - 1] if refused else ordered[0] - FLATTERY
    if len(outside) < FEWEST_NEGATIVES:
        return usual
    strictest = ordered[math.floor((1 - LEAST_PASS_RATE) * len(ordered))]
    candidates: list[float] = [value for value in ordered if value <= strictest]

    def errors(threshold: float) -> float:
        return float((inside < threshold).mean() + (outside >= threshold).mean())

    return min(candidates, key=errors)

"""Tells utterances that resemble the training data from those that do not.

Four signals are added, each measured in standard deviations around its mean over in-scope
utterances. Two say where an utterance lies in feature space: the mean cosine to the nearest
training examples of the likeliest intents, and the cosine to the nearest of those intents'
prototypes, the mean direction of their examples. Two more count half: how little the network
hesitates between intents, and the familiarity of the words, the mean share of their n-grams
seen in training.

Two rules come on top. An utterance is out of scope where none of its words looks like any
training word, and where an example of the reserved intent is nearer than every other example.

Shapes: B utterances, F features, I intents, N stored examples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intent.quantization import quantize
from intent.text import is_word, ngram_hashes

Array = NDArray[np.float32]
Numbers = NDArray[np.int64]

WEIGHTS = (1.0, 1.0, 0.5, 0.5)
SIGNALS = len(WEIGHTS)
LEAST_SIGNAL = -4.0
LEAST_DEVIATION = 1e-3
NEAREST = 5
LIKELIEST = 3
"""Of so many intents the examples are compared: the nearest are hardly ever elsewhere, and a
message is spared thousands of comparisons."""
MAX_STORED_EXAMPLES = 6_000
CACHED_WORDS = 50_000
LEAST_FAMILIARITY = 0.4
"""The share of a word's n-grams seen in training that makes it look like a training word."""

PASS_RATE = 0.96
"""Without out-of-scope examples, the threshold lets this share of in-scope utterances pass."""
LEAST_PASS_RATE = 0.92
"""With them it may be stricter, down to this."""
FEWEST_NEGATIVES = 10


@dataclass(frozen=True)
class StoredExamples:
    """Training examples as the network sees them; those of one intent stand together."""

    features: NDArray[np.int8]  # (N, F); only the direction counts
    labels: Numbers  # (N,), ascending
    texts: tuple[str, ...]


@dataclass(frozen=True)
class ScopeDetector:
    inside: StoredExamples
    outside: StoredExamples  # of the reserved intent, all labelled 0; may be empty
    seen_ngrams: NDArray[np.uint32]  # (G,), sorted CRC-32 of every n-gram in the training words
    means: tuple[float, ...]  # of each signal, over in-scope utterances not trained on
    deviations: tuple[float, ...]
    threshold: float


def store(features: Array, labels: Numbers, texts: Sequence[str]) -> StoredExamples:
    """`labels` must be ascending."""
    return StoredExamples(quantize(features).values, labels, tuple(texts))


def choose_stored(labels: Numbers) -> Numbers:
    """Indices of the examples to store, intent by intent: all, or evenly many of each intent
    when they are too many."""
    if not len(labels):
        return np.empty(0, np.int64)
    intents = int(labels.max()) + 1
    most = max(NEAREST, MAX_STORED_EXAMPLES // intents)
    return np.concatenate([np.flatnonzero(labels == intent)[:most] for intent in range(intents)])


@dataclass(frozen=True, slots=True)
class Comparison:
    """An utterance beside the stored examples of its likeliest intents."""

    places: list[tuple[int, int]]  # where each of those intents' examples begin and end
    cosines: Array  # to those examples, in the order of `places`
    prototype: float  # the largest cosine to one of those intents' prototypes

    def nearest(self, count: int) -> list[tuple[int, float]]:
        """Number and cosine of the nearest examples, best first."""
        numbers = np.concatenate([np.arange(start, end) for start, end in self.places])
        best = np.argsort(-self.cosines, kind="stable")[:count]
        return [(int(numbers[place]), float(self.cosines[place])) for place in best]


class ScopeScorer:
    """A `ScopeDetector` made ready for use."""

    def __init__(self, detector: ScopeDetector, intents: int) -> None:
        self._means = np.array(detector.means, np.float32)
        self._deviations = np.array(detector.deviations, np.float32)
        self._inside = directions(detector.inside.features.astype(np.float32))
        self._outside = directions(detector.outside.features.astype(np.float32))
        sums = np.zeros((intents, self._inside.shape[1]), np.float32)
        np.add.at(sums, detector.inside.labels, self._inside)
        self._prototypes = directions(sums)
        self._starts = np.searchsorted(detector.inside.labels, np.arange(intents + 1)).tolist()
        self._seen = frozenset(detector.seen_ngrams.tolist())
        self._familiarities: dict[str, float] = {}

    def scores(self, signals: Array) -> Array:
        """(B, SIGNALS) to (B,), higher for utterances more like the training data."""
        return combine(signals, self._means, self._deviations)

    def compare(self, logits: Array, features: Array) -> list["Comparison"]:
        """Each utterance with the stored examples of its likeliest intents."""
        count = min(LIKELIEST, logits.shape[1])
        chosen = np.argpartition(logits, -count, axis=1)[:, -count:]
        compared = []
        for direction, intents in zip(directions(features), chosen, strict=True):
            prototype = float((self._prototypes[intents] @ direction).max())
            places = [(self._starts[intent], self._starts[intent + 1]) for intent in intents]
            cosines = [self._inside[start:end] @ direction for start, end in places]
            compared.append(Comparison(places, np.concatenate(cosines), prototype))
        return compared

    def familiarities(self, tokens: Sequence[str]) -> list[float]:
        """Of each word, or of each token where none is a word."""
        words = [token for token in tokens if is_word(token)] or tokens
        return [self._familiarity(word) for word in words]

    def signals(
        self,
        confidences: Array,
        compared: Sequence["Comparison"],
        familiarities: Sequence[Sequence[float]],
        *,
        skip_self: bool = False,
    ) -> Array:
        """(B, SIGNALS). `skip_self` leaves out the nearest example, which for a stored one is
        itself."""
        found = np.empty((len(confidences), SIGNALS), np.float32)
        found[:, 0] = [_mean_of_largest(one.cosines, NEAREST, int(skip_self)) for one in compared]
        found[:, 1] = [one.prototype for one in compared]
        found[:, 2] = (confidences * np.log(confidences + 1e-12)).sum(axis=1)
        found[:, 3] = [sum(one) / len(one) for one in familiarities]
        return found

    def resembles_outside(
        self, features: Array, compared: Sequence["Comparison"]
    ) -> NDArray[np.bool_]:
        """(B,) true where an out-of-scope example is nearer than every other."""
        if not len(self._outside):
            return np.zeros(len(features), np.bool_)
        outside = (directions(features) @ self._outside.T).max(axis=1)
        inside = np.array([one.cosines.max(initial=-1.0) for one in compared])
        nearer: NDArray[np.bool_] = outside > inside
        return nearer

    def _familiarity(self, word: str) -> float:
        """1 for every word of the training data."""
        found = self._familiarities.get(word)
        if found is None:
            hashes = ngram_hashes(word)
            found = sum(value in self._seen for value in hashes) / len(hashes)
            if len(self._familiarities) >= CACHED_WORDS:
                self._familiarities.clear()
            self._familiarities[word] = found
        return found


def is_unfamiliar(familiarities: Sequence[float]) -> bool:
    """True where no word looks like any training word, as with keyboard noise."""
    return max(familiarities) < LEAST_FAMILIARITY


def directions(features: Array) -> Array:
    """(N, F), each of length 1, or 0 where it was 0."""
    lengths = np.sqrt(np.einsum("ij,ij->i", features, features))
    scaled: Array = features / np.maximum(lengths, 1e-12)[:, None]
    return scaled


def combine(signals: Array, means: Array, deviations: Array) -> Array:
    """(B,). None of the signals can outvote the others by itself."""
    weights = np.array(WEIGHTS, np.float32)
    summed: Array = np.maximum((signals - means) / deviations, LEAST_SIGNAL) @ weights
    return summed


def choose_threshold(inside: Array, outside: Array) -> float:
    """From scores of utterances that were not trained on.

    With enough out-of-scope ones: where the sum of both error rates is smallest, as long as
    `LEAST_PASS_RATE` of the others pass. Otherwise where `PASS_RATE` of the others pass.
    """
    ordered = np.sort(inside).tolist()
    usual: float = ordered[math.floor((1 - PASS_RATE) * len(ordered))]
    if len(outside) < FEWEST_NEGATIVES:
        return usual
    strictest = ordered[math.floor((1 - LEAST_PASS_RATE) * len(ordered))]
    candidates: list[float] = [value for value in ordered if value <= strictest]

    def errors(threshold: float) -> float:
        return float((inside < threshold).mean() + (outside >= threshold).mean())

    return min(candidates, key=errors)


def _mean_of_largest(values: Array, count: int, skipped: int) -> float:
    """Of the `count` largest after the `skipped` largest; of all where they are fewer."""
    if len(values) > count + skipped:
        values = np.partition(values, len(values) - count - skipped)[-(count + skipped) :]
    if skipped and len(values) > skipped:
        values = np.sort(values)[:-skipped]
    return float(values.mean()) if len(values) else -1.0

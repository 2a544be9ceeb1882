"""An utterance beside the training examples that the file stores, in the encoder's space.

The network's judgement leans on them: an intent whose examples lie near gains
(Khandelwal et al. 2020 do so with language models). What is out of scope looks at them, too.

Shapes: B utterances, F features, I intents, N stored examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from intent.quantization import quantize

Array = NDArray[np.float32]
Numbers = NDArray[np.int64]

LIKELIEST = 3
"""Of so many intents the examples are compared: the nearest are hardly ever elsewhere, and a
message is spared thousands of comparisons."""
NEAREST = 2
"""So many of all compared examples say how near an utterance is to what was trained on."""
CLOSEST = 2
"""So many of an intent's examples say how near that is."""
LEANING = 4.0
"""What a cosine of 1 adds to a logit; chosen on validation sets."""
MAX_STORED_EXAMPLES = 6_000
FEWEST_OF_AN_INTENT = 5


@dataclass(frozen=True)
class StoredExamples:
    """Training examples as the network sees them; those of one intent stand together."""

    features: NDArray[np.int8]  # (N, F); only the direction counts
    labels: Numbers  # (N,), ascending
    texts: tuple[str, ...]


def store(features: Array, labels: Numbers, texts: Sequence[str]) -> StoredExamples:
    """`labels` must be ascending."""
    return StoredExamples(quantize(features).values, labels, tuple(texts))


def choose_stored(labels: Numbers) -> Numbers:
    """Indices of the examples to store, intent by intent: all, or evenly many of each intent
    when they are too many."""
    if not len(labels):
        return np.empty(0, np.int64)
    intents = int(labels.max()) + 1
    most = max(FEWEST_OF_AN_INTENT, MAX_STORED_EXAMPLES // intents)
    return np.concatenate([np.flatnonzero(labels == intent)[:most] for intent in range(intents)])


@dataclass(frozen=True, slots=True)
class Comparison:
    """An utterance beside the stored examples of its likeliest intents."""

    direction: Array  # (F,), its features, divided by
    length: float  # theirs
    intents: list[int]
    places: list[tuple[int, int]]  # where each of those intents' examples begin and end
    cosines: list[Array]  # to each of those intents' examples
    closeness: list[float]  # of each of those intents: the mean of its largest cosines
    nearness: float  # the mean of the largest of all cosines
    prototype: float  # the largest cosine to one of those intents' prototypes

    @property
    def largest(self) -> float:
        return max((float(each.max()) for each in self.cosines if len(each)), default=-1.0)

    def nearest(self, count: int) -> list[tuple[int, float]]:
        """Number and cosine of the nearest examples, best first."""
        numbers = np.concatenate([np.arange(start, end) for start, end in self.places])
        cosines = np.concatenate(self.cosines)
        best = np.argsort(-cosines, kind="stable")[:count]
        return [(int(numbers[place]), float(cosines[place])) for place in best]


class Neighbours:
    """`StoredExamples` made ready for use."""

    def __init__(self, stored: StoredExamples, intents: int) -> None:
        examples = directions(stored.features.astype(np.float32))
        sums = np.zeros((intents, examples.shape[1]), np.float32)
        np.add.at(sums, stored.labels, examples)
        starts = np.searchsorted(stored.labels, np.arange(intents + 1))
        self._starts: list[int] = starts.tolist()
        # Before the examples of each intent stands its prototype, so that one product has all.
        self._directions = np.insert(examples, starts[:-1], directions(sums), axis=0)

    def compare(
        self, likeliest: Numbers, features: Array, *, skip_self: bool = False
    ) -> list[Comparison]:
        """Each utterance with the stored examples of its likeliest intents, (B, K). `skip_self`
        leaves the nearest example out of what is averaged: for a stored one that is itself."""
        starts, skipped = self._starts, int(skip_self)
        lengths = _lengths(features)
        compared = []
        for direction, length, intents in zip(
            features / lengths[:, None], lengths.tolist(), likeliest.tolist(), strict=True
        ):
            places = [(starts[intent], starts[intent + 1]) for intent in intents]
            blocks = [
                self._directions[start + intent : end + intent + 1] @ direction
                for intent, (start, end) in zip(intents, places, strict=True)
            ]
            prototype = max(block.item(0) for block in blocks)
            cosines = [block[1:] for block in blocks]
            best = [_largest(each, NEAREST + skipped) for each in cosines]
            closeness = [_mean(each[skipped : skipped + CLOSEST]) for each in best]
            overall = sorted(chain.from_iterable(best), reverse=True)
            nearness = _mean(overall[skipped : skipped + NEAREST])
            compared.append(
                Comparison(
                    direction, length, intents, places, cosines, closeness, nearness, prototype
                )
            )
        return compared


def likeliest(logits: Array, count: int) -> Numbers:
    """(B, I) to (B, `count`), or all where they are fewer; best first."""
    count = min(count, logits.shape[1])
    found = np.argpartition(logits, -count, axis=1)[:, -count:]
    rows = np.arange(len(found))[:, None]
    order = np.argsort(-logits[rows, found], axis=1, kind="stable")
    best: Numbers = found[rows, order]
    return best


def lean(logits: Array, compared: Sequence[Comparison]) -> Array:
    """(B, I): logits that also heed how near an intent's examples are. An intent that was not
    compared counts as no nearer than those that were."""
    leaning = logits.copy()
    for row, one in zip(leaning, compared, strict=True):
        least = min(one.closeness)
        for intent, closeness in zip(one.intents, one.closeness, strict=True):
            row[intent] += LEANING * (closeness - least)
    return leaning


def directions(features: Array) -> Array:
    """(N, F), each of length 1, or 0 where it was 0."""
    scaled: Array = features / _lengths(features)[:, None]
    return scaled


def _lengths(features: Array) -> Array:
    """(N,), above 0"""
    lengths: Array = np.maximum(np.sqrt(np.einsum("ij,ij->i", features, features)), 1e-12)
    return lengths


def _largest(values: Array, count: int) -> list[float]:
    """Best first."""
    if len(values) > 4 * count:
        values = np.partition(values, len(values) - count)[-count:]
    best: list[float] = values.tolist()
    best.sort(reverse=True)
    return best[:count]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else -1.0

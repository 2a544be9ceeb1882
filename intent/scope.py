"""Tells utterances that resemble the training data from those that do not.

Three signals are added, each measured in standard deviations around its mean over in-scope
utterances: the largest logit; the mean cosine to the nearest stored training examples in feature
space; and the familiarity of the words, the mean share of their n-grams seen in training.

Two rules come on top. An utterance is out of scope where none of its words looks like any
training word, and where an example of the reserved intent is nearer than every other example.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from intent.text import is_word, ngram_hashes

SIGNALS = 3
LEAST_SIGNAL = -3.0
LEAST_DEVIATION = 1e-3
NEAREST = 5
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
class ScopeDetector:
    inside: Tensor  # (N, F) int8, features of training examples; only their direction counts
    outside: Tensor  # (M, F) int8, M may be 0
    seen_ngrams: Tensor  # (G,) int64, sorted CRC-32 of every n-gram in the training words
    means: tuple[float, ...]  # of each signal, over in-scope utterances not trained on
    deviations: tuple[float, ...]
    threshold: float


def quantize(features: Tensor) -> Tensor:
    """(N, F) floats to int8 with the same direction, to within half a step of 1/127."""
    largest = features.abs().amax(1, keepdim=True).clamp_min(1e-12)
    return (features / largest * 127).round().to(torch.int8)


def choose_stored(labels: Tensor) -> Tensor:
    """Indices of the examples to store: all, or evenly many of each intent when too many."""
    intents = int(labels.max()) + 1
    most = max(NEAREST, MAX_STORED_EXAMPLES // intents)
    return torch.cat([torch.nonzero(labels == intent)[:most, 0] for intent in range(intents)])


class ScopeScorer:
    """A `ScopeDetector` made ready for use."""

    def __init__(self, detector: ScopeDetector) -> None:
        self._means = torch.tensor(detector.means)
        self._deviations = torch.tensor(detector.deviations)
        self._inside = functional.normalize(detector.inside.float(), dim=1)
        self._outside = functional.normalize(detector.outside.float(), dim=1)
        self._seen = frozenset(detector.seen_ngrams.tolist())
        self._familiarities: dict[str, float] = {}

    def scores(
        self, logits: Tensor, features: Tensor, tokenized: Sequence[Sequence[str]]
    ) -> Tensor:
        """(B,), higher for utterances more like the training data."""
        return combine(self.signals(logits, features, tokenized), self._means, self._deviations)

    def signals(
        self,
        logits: Tensor,
        features: Tensor,
        tokenized: Sequence[Sequence[str]],
        *,
        skip_self: bool = False,
    ) -> Tensor:
        """(B, SIGNALS): largest logit, similarity to the stored examples, familiarity of words.

        `skip_self` leaves out the nearest example, which for a stored one is itself.
        """
        cosines = functional.normalize(features, dim=1) @ self._inside.T  # (B, N)
        count = min(NEAREST + skip_self, cosines.shape[1])
        nearest = cosines.topk(count, dim=1).values
        if skip_self and count > 1:
            nearest = nearest[:, 1:]
        familiar = torch.tensor([_mean(self._words(tokens)) for tokens in tokenized])
        return torch.stack([logits.amax(1), nearest.mean(1), familiar.to(logits.dtype)], dim=1)

    def resembles_outside(self, features: Tensor) -> Tensor:
        """(B,) true where the nearest example of all is an out-of-scope one."""
        if not len(self._outside):
            return torch.zeros(len(features), dtype=torch.bool)
        features = functional.normalize(features, dim=1)
        outside: Tensor = (features @ self._outside.T).amax(1)
        return outside > (features @ self._inside.T).amax(1)

    def is_unfamiliar(self, tokens: Sequence[str]) -> bool:
        """True where no word looks like any training word, as with keyboard noise."""
        return max(self._words(tokens)) < LEAST_FAMILIARITY

    def _words(self, tokens: Sequence[str]) -> list[float]:
        words = [token for token in tokens if is_word(token)] or tokens
        return [self._familiarity(word) for word in words]

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


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def combine(signals: Tensor, means: Tensor, deviations: Tensor) -> Tensor:
    """(B,). Each signal counts alike, and none can outvote the others by itself."""
    return ((signals - means) / deviations).clamp_min(LEAST_SIGNAL).sum(1)


def choose_threshold(inside: Tensor, outside: Tensor) -> float:
    """From scores of utterances that were not trained on.

    With enough out-of-scope ones: where the sum of both error rates is smallest, as long as
    `LEAST_PASS_RATE` of the others pass. Otherwise where `PASS_RATE` of the others pass.
    """
    ordered = inside.sort().values
    usual = float(ordered[math.floor((1 - PASS_RATE) * len(ordered))])
    if len(outside) < FEWEST_NEGATIVES:
        return usual
    strictest = float(ordered[math.floor((1 - LEAST_PASS_RATE) * len(ordered))])
    candidates: list[float] = [value for value in ordered.tolist() if value <= strictest]

    def errors(threshold: float) -> float:
        missed, let_through = (inside < threshold).float(), (outside >= threshold).float()
        return missed.mean().item() + let_through.mean().item()

    return min(candidates, key=errors)

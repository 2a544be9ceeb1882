"""The likeliest label sequences of a linear chain, and how sure each label is.

Imports no torch. Shapes: T tokens of the longest utterance, B utterances, L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Numbers = NDArray[np.int64]
LEAST = 1e-25
"""No label of a token counts as less likely than this against the token's likeliest, before its
neighbours are heard, so that a sequence whose best labels are illegal still has a share."""
STEPS_IN_RANGE = 8
"""So many steps stay inside the range of 64-bit numbers without being brought back to one."""


@dataclass(frozen=True, slots=True)
class Tagged:
    labels: list[int]
    probabilities: list[float]
    """Of each label, whatever the others are."""


class Decoder:
    def __init__(self, transitions: Array, first: Array, last: Array) -> None:
        """(L, L) from row to column, (L,), (L,); very low where illegal."""
        self._into = np.ascontiguousarray(transitions.T)
        self._first, self._last = first, last
        possible = np.exp(transitions.astype(np.float64))
        self._both_ways = np.stack([possible, possible.T])
        self._ends = np.exp(np.stack([first, last]).astype(np.float64))[:, None]

    def decode(self, scores: Array, lengths: Sequence[int]) -> list[Tagged]:
        """scores: (T, B, L). The likeliest legal sequence of each utterance."""
        own = np.exp((scores - scores.max(axis=2, keepdims=True)).astype(np.float64))
        shares = self._marginals(np.maximum(own, LEAST), np.asarray(lengths))
        likeliest: Numbers = shares.argmax(axis=2)
        places = np.arange(len(scores))[:, None], np.arange(len(lengths)), likeliest
        sure = np.where(own[places] > LEAST, shares[places], 0)
        found = []
        for row, length in enumerate(lengths):
            labels = likeliest[:length, row].tolist()
            probabilities = sure[:length, row].tolist()
            # Where the tokens' doubts add up to less than a half, the sequence has more than half
            # of the probability, and no other can have more: LEAST only flatters those others.
            if length - sum(probabilities) >= 0.5:
                labels = self._viterbi(scores[:length, row])
                probabilities = shares[np.arange(length), row, labels].tolist()
            found.append(Tagged(labels, probabilities))
        return found

    def _marginals(self, own: NDArray[np.float64], lengths: Numbers) -> NDArray[np.float64]:
        """(T, B, L) from each token's own likelihoods, (T, B, L), by the forward-backward
        algorithm, both ways at once; anything where there is no token."""
        longest, count, _ = own.shape
        if count == 1:
            turned = own[::-1]
        else:
            places = np.maximum(lengths - 1 - np.arange(longest)[:, None], 0)  # (T, B)
            rows = np.arange(count)
            turned = own[places, rows]
        both = np.stack([own, turned], axis=1)  # (T, 2, B, L)
        before = np.empty_like(both)  # each label's share by all that comes before it
        before[0] = self._ends
        here = before[0] * both[0]
        for step in range(1, longest):
            if step % STEPS_IN_RANGE == 0:
                here /= here.sum(axis=2, keepdims=True)
            np.matmul(here, self._both_ways, out=before[step])
            here = before[step] * both[step]
        after = before[::-1, 1] if count == 1 else before[places, 1, rows]
        # Each factor is brought to one first: their product must not leave the range.
        ahead = before[:, 0] * own
        shares: NDArray[np.float64] = ahead / ahead.sum(axis=2, keepdims=True) * after
        shares /= shares.sum(axis=2, keepdims=True)
        return shares

    def _viterbi(self, scores: Array) -> list[int]:
        """scores: (T, L), of one utterance."""
        length, count = scores.shape
        numbers = np.arange(count)
        came_from = np.empty((length, count), np.int64)
        reached = self._first + scores[0]
        for step in range(1, length):
            totals = self._into + reached  # (L, L), a row per label that is entered
            came_from[step] = totals.argmax(axis=1)
            reached = totals[numbers, came_from[step]] + scores[step]
        label = int((reached + self._last).argmax())
        labels = [label]
        for sources in came_from[:0:-1]:
            label = int(sources[label])
            labels.append(label)
        return labels[::-1]

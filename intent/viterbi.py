"""The likeliest label sequence of a linear chain, exactly, at a fraction of Viterbi's usual cost.

Of the L labels only a few are in the running at any token. The search keeps those within a
margin of the best possible sequence, and proves afterwards that the others could not have won,
or widens the margin until it can. Imports no torch. Shapes: T tokens, L labels.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import exp, fsum, log

import numpy as np
from numpy.typing import NDArray

from intent.slots import OUTSIDE

Array = NDArray[np.float32]
FIRST_MARGIN = 8.0
"""In nats. Rarely has to be widened; what is below it has next to no probability."""
NEGLIGIBLE = 7.0
"""So many nats below the best sequence, others no longer count for its probability."""
SLACK = 1e-3
"""Scores are 32-bit: sums of them are only equal to about so much."""


class Decoder:
    def __init__(self, transitions: Array, first: Array, last: Array) -> None:
        """(L, L) from row to column, (L,), (L,); at most -1e4 where it may not be."""
        self._transitions: list[list[float]] = transitions.tolist()
        self._first: list[float] = first.tolist()
        self._last: list[float] = last.tolist()
        self._first_scores, self._last_scores = first, last
        self._best_step = transitions.max(axis=1)

    def decode(self, scores: Array) -> tuple[list[int], list[float]]:
        """(T,) the likeliest legal sequence, and how probable each of its labels is. Where all
        are outside, no probabilities are worked out and the list is empty."""
        # No sequence can score more than `bound`, and one that has a label with a deficit falls
        # short of the bound by that much.
        optimistic = scores + self._best_step
        optimistic[-1] = scores[-1] + self._last_scores
        optimistic[0] += self._first_scores
        most = optimistic.max(axis=1, keepdims=True)
        bound, deficits = float(most.sum()), most - optimistic
        margin = FIRST_MARGIN
        while True:
            candidates = _candidates(scores, deficits, margin)
            labels, best = self._search(candidates)
            if best >= bound - margin:
                break
            # Illegal sequences count as very unlikely ones, so that the search always ends.
            margin = bound - best + SLACK
        if all(label == OUTSIDE for label in labels):
            return labels, []
        wider = max(margin, bound - best + NEGLIGIBLE)
        return labels, self._probabilities(_candidates(scores, deficits, wider), labels)

    def _search(self, candidates: "Candidates") -> tuple[list[int], float]:
        transitions = self._transitions
        reached = [(self._first[label] + score) for label, score in candidates[0]]
        came_from: list[list[int]] = []
        before = candidates[0]
        for here in candidates[1:]:
            best_of, sources = [], []
            for label, score in here:
                source, best = 0, -1e30
                for place, (from_label, _) in enumerate(before):
                    total = reached[place] + transitions[from_label][label]
                    if total > best:
                        source, best = place, total
                best_of.append(best + score)
                sources.append(source)
            came_from.append(sources)
            reached, before = best_of, here
        totals = [
            total + self._last[label] for total, (label, _) in zip(reached, before, strict=True)
        ]
        best = max(totals)
        place = totals.index(best)
        labels = [before[place][0]]
        for sources, here in zip(reversed(came_from), reversed(candidates[:-1]), strict=True):
            place = sources[place]
            labels.append(here[place][0])
        return labels[::-1], best

    def _probabilities(self, candidates: "Candidates", labels: Sequence[int]) -> list[float]:
        """Forward and backward over the candidates."""
        transitions = self._transitions
        ahead = [[self._first[label] + score for label, score in candidates[0]]]
        for before, here in pairwise(candidates):
            ahead.append(
                [
                    score
                    + _log_sum(
                        [
                            total + transitions[from_label][label]
                            for total, (from_label, _) in zip(ahead[-1], before, strict=True)
                        ]
                    )
                    for label, score in here
                ]
            )
        behind = [[self._last[label] for label, _ in candidates[-1]]]
        for here, after in zip(candidates[-2::-1], candidates[:0:-1], strict=True):
            behind.append(
                [
                    _log_sum(
                        [
                            total + score + transitions[label][to_label]
                            for total, (to_label, score) in zip(behind[-1], after, strict=True)
                        ]
                    )
                    for label, _ in here
                ]
            )
        found = []
        for label, here, left, right in zip(labels, candidates, ahead, behind[::-1], strict=True):
            totals = [a + b for a, b in zip(left, right, strict=True)]
            place = [one for one, _ in here].index(label)
            found.append(min(1.0, exp(totals[place] - _log_sum(totals))))
        return found


Candidates = list[list[tuple[int, float]]]
"""Per token: label, score."""


def _candidates(scores: Array, deficits: Array, margin: float) -> Candidates:
    tokens, labels = np.nonzero(deficits <= margin)
    found: Candidates = [[] for _ in scores]
    for token, label, score in zip(
        tokens.tolist(), labels.tolist(), scores[tokens, labels].tolist(), strict=True
    ):
        found[token].append((label, score))
    return found


def _log_sum(values: Sequence[float]) -> float:
    most = max(values)
    return most + log(fsum(exp(value - most) for value in values))

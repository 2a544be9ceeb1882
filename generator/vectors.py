"""What passages are found by: vectors of their sentences, and of their single words.

Shapes: S sentences of a passage and L words, T words of a question; D width, W the narrow width of
single words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from generator.interface import Passage

MATCHED_WEIGHT = 2.0
"""Of how well the words of a question are matched, beside the closeness of a sentence. Chosen on
ten departments of benchmarks/answers/town."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PassageVectors:
    """What a passage is found by."""

    sentences: Array  # (S, D)
    words: Array  # (L, W), of length one


@dataclass(frozen=True, slots=True)
class QuestionVectors:
    """What passages are searched with."""

    whole: Array  # (D,), of length one
    words: Array  # (T, W), of length one
    weights: Array  # (T,), how much each word counts; they add up to one

    def cosines(self, words: Array) -> Array:
        """(T,): of each of the question's words to the closest of others (L, W)."""
        return np.asarray((self.words @ words.T).max(axis=1, initial=-1.0), np.float32)

    def matched(self, words: Array) -> float:
        """How much of the question stands in other words (L, W): the mean of its cosines."""
        return float(self.cosines(words) @ self.weights)


def closest(
    asked: QuestionVectors,
    passages: Sequence[Passage],
    vectors: Sequence[PassageVectors],
    *,
    most: int = 8,
) -> list[Passage]:
    """The passages that are found by a question, the closest first; `vectors` as
    `Reader.passage_vectors` gives them."""
    scores = [
        float((each.sentences @ asked.whole).max(initial=-1.0))
        + MATCHED_WEIGHT * asked.matched(each.words)
        for each in vectors
    ]
    scored = [replace(one, score=score) for one, score in zip(passages, scores, strict=True)]
    return sorted(scored, key=lambda passage: -passage.score)[:most]


def pooled(states: Array, spans: Sequence[tuple[int, int]]) -> Array:
    """(S, D): the mean over the tokens of each sentence; `states`: (L, D)."""
    vectors = np.zeros((len(spans), states.shape[1]), np.float32)
    for number, (start, end) in enumerate(spans):
        vectors[number] = states[start:end].mean(axis=0)
    return vectors


def unit(vectors: Array) -> Array:
    """Of length one, along the last axis."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), np.float32)

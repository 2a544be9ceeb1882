"""How well each sentence of a passage answers a question that was read beside it.

Two small networks score the sentences, and "nothing here answers"; a pointer beside them says at
which single words the question looks for its answer (Vinyals et al. 2015).

Shapes: S sentences of a passage, L tokens; T tokens of a question; D width, H heads, W the narrow
width of single words.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generator.vectors import Array, QuestionVectors, pooled, unit

POINTER_SCALE = 10.0
"""About the root of the pointer's width."""
MOST_POINTED, LEAST_SUM = 10.0, 1e-6


@dataclass(frozen=True, slots=True)
class Told:
    """A passage, read by itself."""

    states: Array  # (L, D)
    words: Array  # (L, W), of length one
    spots: Array  # (L, W), what a pointer is compared with
    looked_at: Mapping[str, NDArray[np.float16]]
    """Its keys and values (H, L, d) in the layers that read together, by their graph's names."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A passage beside a question."""

    scores: Array  # (S,), how well each sentence answers; 0 is as well as none
    matched: Array  # (S,), how much of the question stands in each
    closeness: float  # of the closest sentence
    whole: tuple[float, float]
    """How much of the question stands in it, and of the two words that do least."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logistic regression (Platt 1999), fitted on questions that no training saw."""

    odds: float
    closeness: float
    lead: float
    length: float
    matched: float
    least: float
    offset: float

    def support(
        self,
        nothing: float,
        closeness: Sequence[float],
        tokens: int,
        *,
        matched: float,
        least: float,
    ) -> float:
        """`nothing`: the share of "nothing here answers". `closeness`: of each passage's closest
        sentence to the question, the closest first. `tokens`: of the question. `matched` and
        `least`: how much of it stands in the passage that holds most of it, and of the two words
        that do least."""
        odds = math.log(max(1 - nothing, 1e-6) / max(nothing, 1e-6))
        lead = closeness[0] - closeness[1] if len(closeness) > 1 else 0.0
        value = (
            self.odds * odds
            + self.closeness * closeness[0]
            + self.lead * lead
            + self.length * math.log(tokens)
            + self.matched * matched
            + self.least * least
            + self.offset
        )
        return 1 / (1 + math.exp(-value))


class Judge:
    def __init__(self, stored: Mapping[str, NDArray[Any]]) -> None:
        """`stored`: the reader's file. Raises KeyError."""
        heads = ("score.in", "nothing.in", "point")
        self._matrices = {name: stored[name] * stored[f"{name}.scale"] for name in heads}
        self._vectors = {
            name: stored[name]
            for name in (
                *(f"{name}.bias" for name in (*heads, "score.out", "nothing.out")),
                *("score.out", "nothing.out", "looked", "closeness"),
            )
        }

    def judge(
        self,
        told: Told,
        spans: Sequence[tuple[int, int]],
        states: Array,
        attention: Array,
        asked: QuestionVectors,
        alone: Array,
    ) -> Judged:
        """`spans`: where the sentences stand among the passage's tokens. `states` (T, D) and
        `attention` (H, T, L): the question's, read beside it. `alone`: its vector without that."""
        vectors = pooled(told.states, spans)
        mean = states.mean(axis=0)
        read = np.concatenate([states[0], mean])
        close = unit(vectors) @ alone
        looked = self._looked(attention, spans)
        pointed = self._pointed(read, told, spans)
        best = pointed.max()
        wide = np.broadcast_to(mean, vectors.shape)
        columns = np.stack([4 * close, looked, pointed, pointed - best], axis=1)
        features = [wide, vectors, wide * vectors, np.abs(wide - vectors), columns]
        score = self._head("score", np.concatenate(features, axis=1))
        score = score + 0.3 * np.exp(self._vectors["closeness"]) * close + looked
        nothing = self._head("nothing", np.append(read, best)[None])

        matched = [asked.matched(told.words[start:end]) for start, end in spans]
        least = float(np.sort(asked.cosines(told.words))[:2].mean())
        return Judged(
            scores=np.asarray(score - nothing, np.float32),
            matched=np.array(matched, np.float32),
            closeness=float(close.max()),
            whole=(asked.matched(told.words), least),
        )

    def _looked(self, attention: Array, spans: Sequence[tuple[int, int]]) -> Array:
        """(S,): what the attention that each sentence got speaks for."""
        paid = attention.mean(axis=1)  # (H, L)
        sums = np.stack([paid[:, start:end].sum(axis=1) for start, end in spans])
        mass = np.log(sums + np.float32(1e-4))
        looked: Array = np.concatenate([mass, mass - mass.max(axis=0)], axis=1)
        return np.asarray(looked @ self._vectors["looked"], np.float32)

    def _pointed(self, read: Array, told: Told, spans: Sequence[tuple[int, int]]) -> Array:
        """(S,): what the pointer says for the tokens of each sentence, against none."""
        *pointer, none = read @ self._matrices["point"] + self._vectors["point.bias"]
        tokens = told.spots @ np.array(pointer, np.float32) / POINTER_SCALE - none
        largest = max(tokens[start:end].max() for start, end in spans)
        powers = np.exp(tokens - largest)
        sums = np.array([powers[start:end].sum() for start, end in spans], np.float32)
        summed = np.log(sums + LEAST_SUM) + largest
        return np.asarray(summed.clip(-MOST_POINTED, MOST_POINTED) / MOST_POINTED, np.float32)

    def _head(self, name: str, features: Array) -> Array:
        inner = _gelu(features @ self._matrices[f"{name}.in"] + self._vectors[f"{name}.in.bias"])
        output = inner @ self._vectors[f"{name}.out"] + self._vectors[f"{name}.out.bias"]
        return np.asarray(output, np.float32)


def softmax_with_zero(scores: Array) -> tuple[Array, float]:
    """Shares of the scores and of a score of zero."""
    largest = max(float(scores.max()), 0.0)
    powers, zero = np.exp(scores - largest), float(np.exp(-largest))
    whole = float(powers.sum()) + zero
    return powers / np.float32(whole), zero / whole


def _gelu(values: Array) -> Array:
    """Its approximation by tanh (Hendrycks and Gimpel 2016)."""
    bent = np.tanh(np.float32(np.sqrt(2 / np.pi)) * (values + np.float32(0.044715) * values**3))
    return np.asarray(np.float32(0.5) * values * (1 + bent), np.float32)

"""How a reply is chosen, word by word: the best one found, or a drawn one. Knows no network."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Decoding(Protocol):
    """One reply on its way, in several hypotheses side by side."""

    def step(self, tokens: Sequence[int], parents: Sequence[int]) -> Array:
        """(K, V) log-probabilities of what follows, when hypothesis `parents[k]` of the last step
        goes on with `tokens[k]`. At first there is hypothesis 0, which has said nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Hypothesis:
    tokens: tuple[int, ...]
    log_probability: float


def sample(
    decoding: Decoding,
    *,
    begin: int,
    end: int,
    most_tokens: int,
    temperature: float = 0.0,
    seed: int | None = None,
) -> Iterator[int]:
    """Draws each token; at temperature 0 it is the likeliest. `end` is not among them, and not
    drawn first: a reply says something."""
    draw = np.random.default_rng(seed)
    token = begin
    for place in range(most_tokens):
        logits = decoding.step([token], [0])[0]
        if place == 0:
            logits[end] = -np.inf
        if temperature > 0:
            # The largest of logits with Gumbel noise is a draw from their softmax.
            logits = logits / temperature + draw.gumbel(size=logits.shape)
        token = int(logits.argmax())
        if token == end:
            return
        yield token


def beam_search(
    decoding: Decoding,
    *,
    begin: int,
    end: int,
    most_tokens: int,
    width: int,
    length_penalty: float,
) -> Iterator[int]:
    """The tokens of the hypothesis with the best normalised score, `end` not among them; each as
    soon as all that could still win agree on it. `most_tokens` counts `end`, which never comes
    first."""
    live = [Hypothesis((), 0.0)]
    best: Hypothesis | None = None  # of those that have ended
    best_score = -math.inf
    said = 0
    tokens, parents = [begin], [0]
    for length in range(1, most_tokens + 1):
        totals = decoding.step(tokens, parents) + np.array(
            [[one.log_probability] for one in live], np.float32
        )  # (K, V)
        if length == 1:
            totals[:, end] = -np.inf
        for hypothesis, total in zip(live, totals[:, end], strict=True):
            score = normalised(float(total), length, length_penalty)
            if score > best_score:
                best, best_score = Hypothesis(hypothesis.tokens, float(total)), score
        totals[:, end] = -np.inf
        live, tokens, parents = _continued(live, totals, width)
        # A live one can get no better than by ending at its greatest length for nothing.
        if not live or best_score >= normalised(
            live[0].log_probability, most_tokens, length_penalty
        ):
            break
        rivals = [one.tokens for one in live] + ([best.tokens] if best else [])
        agreed = common_prefix(rivals)
        yield from agreed[said:]
        said = max(said, len(agreed))
    else:
        if normalised(live[0].log_probability, most_tokens, length_penalty) > best_score:
            best = live[0]
    if best is not None:
        yield from best.tokens[said:]


def normalised(log_probability: float, length: int, penalty: float) -> float:
    """By Wu et al. 2016: without it the shortest reply would nearly always win."""
    return float(log_probability / ((5 + length) / 6) ** penalty)


def _continued(
    live: Sequence[Hypothesis], totals: Array, width: int
) -> tuple[list[Hypothesis], list[int], list[int]]:
    """The best `width` continuations, the best first, with their last tokens and parents."""
    flat = totals.ravel()
    count = min(width, int(np.isfinite(flat).sum()))
    chosen = np.argpartition(-flat, count - 1)[:count] if count else np.empty(0, np.int64)
    chosen = chosen[np.argsort(-flat[chosen], kind="stable")]
    parents, tokens = (each.tolist() for each in np.divmod(chosen, totals.shape[1]))
    continued = [
        Hypothesis((*live[parent].tokens, token), float(flat[place]))
        for place, parent, token in zip(chosen, parents, tokens, strict=True)
    ]
    return continued, tokens, parents


def common_prefix(sequences: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    first, last = min(sequences), max(sequences)
    for place, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            return first[:place]
    return first[: min(len(first), len(last))]

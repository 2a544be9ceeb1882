"""What the trainings share: the learning rate's course, the mean of the weights, batches, typos."""

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


def learning_rate_share(progress: float, warm_up: float) -> float:
    """Up in a line, then down along half a cosine (Loshchilov and Hutter 2017).

    `progress` and `warm_up` are shares of all steps."""
    if progress < warm_up:
        return max(progress / warm_up, 0.01)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warm_up) / (1 - warm_up))))


RENEWED_EVERY = 4


class RunningMean:
    """The exponentially weighted mean of weights on their way; early on, of all there were."""

    def __init__(self, weights: Sequence[Tensor], steps: float) -> None:
        """`steps`: how many the mean looks back on; below 1 there is none. It is renewed at every
        fourth, as the cost is a walk through all weights."""
        self._weights, self._steps, self._done = list(weights), steps, 0
        self._mean = [weight.detach().clone() for weight in weights] if steps >= 1 else []

    @torch.no_grad()
    def step(self) -> None:
        self._done += 1
        if self._mean and self._done % RENEWED_EVERY == 0:
            behind = min(self._steps, self._done / 10)
            share = RENEWED_EVERY / (RENEWED_EVERY + behind)
            torch._foreach_lerp_(self._mean, self._weights, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The mean stands where the weights are, for as long as this lasts."""
        own = [weight.detach().clone() for weight in self._weights] if self._mean else []
        self._take(self._mean)
        try:
            yield
        finally:
            self._take(own)

    def settle(self) -> None:
        """The mean is what stays."""
        self._take(self._mean)

    @torch.no_grad()
    def _take(self, values: Sequence[Tensor]) -> None:
        if values:
            torch._foreach_copy_(self._weights, list(values))


def batches_by_length(
    tokenized: Sequence[Sequence[str]],
    chosen: Sequence[int],
    size: int,
    shuffler: random.Random,
) -> list[list[int]]:
    """The `chosen` utterances in random batches, nearly all of one length each: a recurrent layer
    is fastest where nothing is padding. What is left over is batched with its like."""
    order = list(chosen)
    shuffler.shuffle(order)
    batches: list[list[int]] = []
    filling: dict[int, list[int]] = {}
    for place in order:
        batch = filling.setdefault(len(tokenized[place]), [])
        batch.append(place)
        if len(batch) == size:
            batches.append(filling.pop(len(tokenized[place])))
    left = [place for length in sorted(filling) for place in filling[length]]
    batches += [left[start : start + size] for start in range(0, len(left), size)]
    shuffler.shuffle(batches)
    return batches


def misspell(tokens: Sequence[str], draw: random.Random) -> list[str]:
    """With one letter of one longer word left out, doubled, replaced or swapped with the next."""
    long_words = [n for n, token in enumerate(tokens) if len(token) >= 4]
    shown = list(tokens)
    if not long_words:
        return shown
    place = draw.choice(long_words)
    word = shown[place]
    at = draw.randrange(len(word) - 1)
    kind = draw.randrange(4)
    middle = ("", word[at] * 2, draw.choice("abcdefghijklmnopqrstuvwxyz"), word[at + 1] + word[at])
    shown[place] = word[:at] + middle[kind] + word[at + (2 if kind == 3 else 1) :]
    return shown

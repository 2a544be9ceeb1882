"""What the two trainings share: the learning rate's course, batches with little padding, typos."""

import math
import random
from collections.abc import Sequence


def learning_rate_share(progress: float, warm_up: float) -> float:
    """Up in a line, then down along half a cosine (Loshchilov and Hutter 2017).

    `progress` and `warm_up` are shares of all steps."""
    if progress < warm_up:
        return max(progress / warm_up, 0.01)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warm_up) / (1 - warm_up))))


def batches_by_length(
    tokenized: Sequence[Sequence[str]],
    chosen: Sequence[int],
    size: int,
    shuffler: random.Random,
) -> list[list[int]]:
    """The `chosen` utterances in random batches of similar length, so that little is padding."""
    order = list(chosen)
    shuffler.shuffle(order)
    batches: list[list[int]] = []
    pool = 16 * size
    for start in range(0, len(order), pool):
        by_length = sorted(order[start : start + pool], key=lambda n: len(tokenized[n]))
        batches += [by_length[i : i + size] for i in range(0, len(by_length), size)]
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

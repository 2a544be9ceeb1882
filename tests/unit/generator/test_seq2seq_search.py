"""Searching for a reply in distributions small enough to look at every one."""

import itertools
import math
import random
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from generator.seq2seq.search import (
    Array,
    beam_search,
    common_prefix,
    normalised,
    sample,
)

BEGIN, END = 0, 1


class Toy:
    """Chances of the next token for each prefix, drawn from the prefix itself."""

    def __init__(self, seed: int, vocabulary: int) -> None:
        self.steps = 0
        self._seed = seed
        self._vocabulary = vocabulary
        self._prefixes: list[tuple[int, ...]] = [()]

    def step(self, tokens: Sequence[int], parents: Sequence[int]) -> Array:
        self.steps += 1
        self._prefixes = [
            (*self._prefixes[parent], token) for token, parent in zip(tokens, parents, strict=True)
        ]
        return np.stack([self.chances(prefix[1:]) for prefix in self._prefixes])

    def chances(self, prefix: tuple[int, ...]) -> Array:
        draw = random.Random(str((self._seed, prefix)))
        logits = np.array([draw.gauss(0, 2) for _ in range(self._vocabulary)], np.float32)
        logits[BEGIN] = -np.inf
        return logits - np.log(np.exp(logits).sum())

    def score(self, tokens: tuple[int, ...], penalty: float) -> float:
        chance = sum(
            float(self.chances(tokens[:place])[token]) for place, token in enumerate(tokens)
        )
        return normalised(chance, len(tokens), penalty)


def search(toy: Toy, *, width: int, most_tokens: int, penalty: float) -> tuple[int, ...]:
    """With its end, where it has one."""
    found = tuple(
        beam_search(
            toy,
            begin=BEGIN,
            end=END,
            most_tokens=most_tokens,
            width=width,
            length_penalty=penalty,
        )
    )
    return found if len(found) == most_tokens else (*found, END)


def every_reply(vocabulary: int, most_tokens: int) -> list[tuple[int, ...]]:
    words = [token for token in range(vocabulary) if token not in (BEGIN, END)]
    ended = [
        (*said, END)
        for length in range(1, most_tokens)
        for said in itertools.product(words, repeat=length)
    ]
    return ended + list(itertools.product(words, repeat=most_tokens))


@given(
    seed=st.integers(0, 10_000),
    vocabulary=st.integers(3, 5),
    most_tokens=st.integers(1, 4),
    penalty=st.sampled_from([0.0, 0.6, 1.0, 2.0]),
)
def test_a_beam_that_holds_everything_finds_the_best_reply_of_all(
    seed: int, vocabulary: int, most_tokens: int, penalty: float
) -> None:
    toy = Toy(seed, vocabulary)
    found = search(toy, width=vocabulary**most_tokens, most_tokens=most_tokens, penalty=penalty)
    best = max(toy.score(one, penalty) for one in every_reply(vocabulary, most_tokens))
    assert math.isclose(toy.score(found, penalty), best, abs_tol=1e-4)


@given(seed=st.integers(0, 10_000))
def test_a_beam_of_one_without_penalty_is_never_worse_than_the_likeliest_words(seed: int) -> None:
    greedy = tuple(sample(Toy(seed, 6), begin=BEGIN, end=END, most_tokens=6))
    said = greedy if len(greedy) == 6 else (*greedy, END)
    found = search(Toy(seed, 6), width=1, most_tokens=6, penalty=0.0)
    toy = Toy(seed, 6)
    assert toy.score(found, 0.0) >= toy.score(said, 0.0) - 1e-4


def test_the_penalty_makes_longer_replies_win() -> None:
    lengths = [
        sum(len(search(Toy(n, 6), width=8, most_tokens=8, penalty=one)) for n in range(30))
        for one in (0.0, 1.0, 2.0)
    ]
    assert lengths[0] < lengths[1] < lengths[2]


def test_words_are_said_as_soon_as_no_rival_can_change_them() -> None:
    class Certain(Toy):
        """Its first words leave no doubt; the last one does."""

        def chances(self, prefix: tuple[int, ...]) -> Array:
            even = [-np.inf, np.log(0.4), np.log(0.3), np.log(0.3)]
            sure = [-np.inf, np.log(1e-9), np.log(1e-9), np.log(1 - 2e-9)]
            return np.array(sure if len(prefix) < 3 else even, np.float32)

    toy = Certain(0, 4)
    words = beam_search(toy, begin=BEGIN, end=END, most_tokens=9, width=1, length_penalty=0.6)
    steps = [toy.steps for _ in words]
    # One step late: a reply that ended before this word could still win.
    assert steps[:3] == [1, 3, 4]


def test_a_seed_draws_the_same_words_and_the_temperature_widens_the_choice() -> None:
    def drawn(seed: int | None, temperature: float) -> tuple[int, ...]:
        toy = Toy(3, 40)
        return tuple(
            sample(toy, begin=BEGIN, end=END, most_tokens=9, temperature=temperature, seed=seed)
        )

    assert drawn(7, 1.0) == drawn(7, 1.0)
    assert drawn(7, 0.0) == drawn(8, 0.0) == drawn(None, 0.0)
    kinds = [len({drawn(seed, heat) for seed in range(20)}) for heat in (0.05, 5.0)]
    assert kinds[0] < kinds[1]


def test_drawn_words_come_as_often_as_their_chances_say() -> None:
    first = [
        next(sample(Toy(1, 5), begin=BEGIN, end=END, most_tokens=1, temperature=1.0, seed=seed))
        for seed in range(2000)
    ]
    shares = np.bincount(first, minlength=5) / 2000
    chances = np.exp(Toy(1, 5).chances(()))
    chances[END] = 0  # never the first
    assert np.abs(shares - chances / chances.sum()).max() < 0.05


@given(seed=st.integers(0, 10_000))
def test_a_reply_says_something(seed: int) -> None:
    assert len(search(Toy(seed, 4), width=3, most_tokens=5, penalty=0.0)) > 1
    assert list(sample(Toy(seed, 4), begin=BEGIN, end=END, most_tokens=5))


def test_the_prefix_of_sequences_is_what_all_begin_with() -> None:
    assert common_prefix([(1, 2, 3), (1, 2), (1, 2, 4)]) == (1, 2)
    assert common_prefix([(1, 2)]) == (1, 2)
    assert common_prefix([(1,), (2,)]) == ()

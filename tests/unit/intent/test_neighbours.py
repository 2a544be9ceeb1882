"""Utterances beside the stored examples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent.neighbours import (
    LIKELIEST,
    Array,
    Comparison,
    Neighbours,
    choose_stored,
    lean,
    likeliest,
    store,
)

EAST, NORTH, BETWEEN = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)


def stored(*examples: tuple[tuple[float, float], int]) -> Neighbours:
    features = np.array([place for place, _ in examples], np.float32)
    labels = np.array([label for _, label in examples], np.int64)
    texts = [str(number) for number in range(len(examples))]
    return Neighbours(store(features, labels, texts), int(labels.max()) + 1)


def compare(neighbours: Neighbours, logits: Array, features: Array) -> list[Comparison]:
    return neighbours.compare(likeliest(logits, LIKELIEST), features)


def test_of_two_equally_likely_intents_the_one_with_near_examples_wins() -> None:
    neighbours = stored((EAST, 0), (EAST, 0), (NORTH, 1), (NORTH, 1))
    logits = np.zeros((2, 2), np.float32)
    compared = compare(neighbours, logits, np.array([EAST, NORTH], np.float32))
    assert lean(logits, compared).argmax(axis=1).tolist() == [0, 1]


def test_a_sure_network_is_not_overruled() -> None:
    neighbours = stored((EAST, 0), (NORTH, 1))
    logits = np.array([[0.0, 9.0]], np.float32)
    compared = compare(neighbours, logits, np.array([EAST], np.float32))
    assert lean(logits, compared).argmax() == 1


def test_leaning_leaves_the_logits_it_was_given_as_they_are() -> None:
    neighbours = stored((EAST, 0), (NORTH, 1))
    logits = np.zeros((1, 2), np.float32)
    lean(logits, compare(neighbours, logits, np.array([EAST], np.float32)))
    assert not logits.any()


@given(st.integers(1, 9), st.integers(0, 99))
def test_intents_that_are_not_compared_gain_nothing(intents: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    neighbours = stored(
        *(((draw.normal(), draw.normal()), n) for n in range(intents) for _ in range(2))
    )
    logits = draw.normal(size=(4, intents)).astype(np.float32)
    compared = compare(neighbours, logits, draw.normal(size=(4, 2)).astype(np.float32))
    gained = lean(logits, compared) - logits
    assert (gained >= 0).all()
    assert ((gained > 0).sum(axis=1) < min(LIKELIEST, intents)).all()


def test_for_a_stored_example_its_own_nearness_does_not_count() -> None:
    neighbours = stored((EAST, 0), (NORTH, 0), (BETWEEN, 1), (BETWEEN, 1))
    logits = np.zeros((1, 2), np.float32)
    features = np.array([EAST], np.float32)
    with_itself, without = (
        dict(zip(one.intents, one.closeness, strict=True))
        for skip in (False, True)
        for one in neighbours.compare(likeliest(logits, LIKELIEST), features, skip_self=skip)
    )
    assert with_itself[0] == pytest.approx(0.5, abs=0.01)
    assert without[0] == pytest.approx(0.0, abs=0.01)


def test_the_nearest_come_with_their_number_best_first() -> None:
    neighbours = stored((EAST, 0), (NORTH, 1), (BETWEEN, 1))
    (one,) = compare(neighbours, np.zeros((1, 2), np.float32), np.array([NORTH], np.float32))
    assert [number for number, _ in one.nearest(2)] == [1, 2]


def test_every_intent_keeps_some_examples_however_many_there_are() -> None:
    labels = np.repeat(np.arange(3_000), 9)
    kept = choose_stored(labels)
    assert set(np.bincount(labels[kept]).tolist()) == {5}


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_the_likeliest_are_those_with_the_largest_logits(
    intents: int, count: int, seed: int
) -> None:
    logits = np.random.default_rng(seed).permutation(intents).astype(np.float32)[None]
    assert likeliest(logits, count).tolist() == [np.argsort(-logits[0])[:count].tolist()]

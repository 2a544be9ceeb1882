"""The mean of weights on their way, and batches of one length."""

import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intent.optimization import RunningMean, batches_by_length

STEPS = 400


def walked(mean_steps: float) -> tuple[RunningMean, torch.Tensor]:
    """A weight that swings around 1, and the mean of its way."""
    weight = torch.zeros(3)
    mean = RunningMean([weight], mean_steps)
    for step in range(STEPS):
        weight.copy_(torch.full((3,), 1.0 + (-1) ** (step // 4)))
        mean.step()
    return mean, weight


def test_the_mean_stands_in_for_a_swinging_weight_and_gives_its_place_back() -> None:
    mean, weight = walked(100)
    own = weight.clone()
    with mean.in_place():
        torch.testing.assert_close(weight, torch.ones(3), atol=0.1, rtol=0)
    torch.testing.assert_close(weight, own)
    mean.settle()
    torch.testing.assert_close(weight, torch.ones(3), atol=0.1, rtol=0)


def test_the_place_is_given_back_when_something_fails_meanwhile() -> None:
    mean, weight = walked(100)
    own = weight.clone()
    with pytest.raises(ZeroDivisionError), mean.in_place():
        raise ZeroDivisionError
    torch.testing.assert_close(weight, own)


def test_without_a_mean_the_weights_are_what_they_are() -> None:
    mean, weight = walked(0)
    own = weight.clone()
    with mean.in_place():
        torch.testing.assert_close(weight, own)
    mean.settle()
    torch.testing.assert_close(weight, own)


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=60),
    size=st.integers(1, 8),
    seed=st.integers(0, 9),
)
def test_batches_hold_everything_once_and_full_ones_are_of_one_length(
    lengths: list[int], size: int, seed: int
) -> None:
    tokenized = [["word"] * length for length in lengths]
    batches = batches_by_length(tokenized, range(len(lengths)), size, random.Random(seed))
    assert sorted(n for batch in batches for n in batch) == list(range(len(lengths)))
    assert max(map(len, batches)) <= size
    even = sum(len(batch) == size and len({lengths[n] for n in batch}) == 1 for batch in batches)
    assert even >= sum(count // size for count in Counter(lengths).values())

"""What draws utterances of one intent together."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from intent.objective import contrast

TEMPERATURE = 0.1


def loss(features: list[list[float]], labels: list[int]) -> float:
    return contrast(
        torch.tensor(features, dtype=torch.float32), torch.tensor(labels), TEMPERATURE
    ).item()


def test_it_is_lowest_where_an_intent_points_one_way_and_the_others_elsewhere() -> None:
    apart = loss([[1, 0], [1, 0], [0, 1], [0, 1]], [0, 0, 1, 1])
    mixed = loss([[1, 0], [0, 1], [1, 0], [0, 1]], [0, 0, 1, 1])
    assert apart < 0.01
    assert mixed > 1


def test_only_directions_count() -> None:
    assert math.isclose(
        loss([[1, 0], [1, 1], [0, 1]], [0, 0, 1]), loss([[5, 0], [2, 2], [0, 9]], [0, 0, 1])
    )


def test_without_partners_there_is_nothing_to_learn() -> None:
    assert loss([[1, 0], [0, 1], [1, 1]], [0, 1, 2]) == 0
    assert loss([[1, 0], [0, 1]], [-1, -1]) == 0


@given(st.permutations(range(6)), st.integers(0, 99))
def test_the_order_in_the_batch_does_not_matter(order: list[int], seed: int) -> None:
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
    labels = torch.tensor([0, 0, 1, 1, 2, -1])
    shuffled = contrast(features[order], labels[order], TEMPERATURE)
    torch.testing.assert_close(shuffled, contrast(features, labels, TEMPERATURE))

"""The benchmark of follow-ups: what it counts, and over what its interval is."""

from pathlib import Path

import pytest

from benchmarks import follow_ups
from benchmarks.follow_ups import HELD_OUT, TAUGHT, Outcome, interval, row


def told(dialogue: str, *right: bool, unseen: bool = False, instant: bool = False) -> list[Outcome]:
    return [
        Outcome(dialogue, unseen, turns_away=place == 0, right=one, instant=instant)
        for place, one in enumerate(right)
    ]


def test_a_row_counts_turns_by_what_they_are() -> None:
    counted = row(
        "the router",
        [
            *told("a", True, True, False),
            *told("b", False, True, unseen=True),
            *told("c", True, False, True, instant=True),
        ],
    )
    assert (counted.dialogues, counted.turns) == (3, 8)
    assert counted.right == 5 / 8
    assert (counted.turning_away, counted.going_on) == (2 / 3, 3 / 5)
    assert counted.unseen_services == 1 / 2
    assert (counted.instant, counted.instant_wrong) == (3 / 8, pytest.approx(1 / 3))


def test_the_interval_is_over_dialogues_as_turns_of_one_hang_together() -> None:
    """Forty dialogues that are right or wrong as a whole are forty draws, not four hundred."""
    together = [one for n in range(40) for one in told(f"{n}", *[n % 2 == 0] * 10)]
    apart = [one for n in range(400) for one in told(f"{n}", n % 2 == 0)]
    (low, high), (least, most) = interval(together), interval(apart)
    assert 0.25 < low < 0.42
    assert 0.58 < high < 0.75
    assert high - low > 2 * (most - least)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert follow_ups.missing(tmp_path) == f"no {HELD_OUT} in {tmp_path}"
    (tmp_path / HELD_OUT).touch()
    assert follow_ups.missing(tmp_path) == f"no {TAUGHT} in {tmp_path}"
    (tmp_path / TAUGHT).touch()
    assert follow_ups.missing(tmp_path) is None

"""Whether messages are still like the calibration's: on streams whose truth is known."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from intent.certificate import CONFIDENCE_EDGES, Calibration
from intent.drift import (
    FALSE_ALARMS,
    Window,
    chi_squared_tail,
    comparable,
    compare,
    is_usual,
    surely_answered,
)
from intent.interface import Promise

PROMISE = Promise(least_in_scope=0.9)
STREAMS = 200
WINDOW, STEP = 1_000, 250
Draws = NDArray[np.float64]


def confidences(draw: np.random.Generator, inside: Draws, *, lower: float = 0.0) -> Draws:
    """Of messages in scope (1) and out of it (0)."""
    log_odds = np.where(
        inside, draw.normal(4 - lower, 2, len(inside)), draw.normal(0, 1.5, len(inside))
    )
    return 1 / (1 + np.exp(-log_odds))


def histogram(values: Draws) -> tuple[int, ...]:
    places = np.searchsorted(CONFIDENCE_EDGES, values, side="right")
    return tuple(np.bincount(places, minlength=len(CONFIDENCE_EDGES) + 1).tolist())


def calibration(draw: np.random.Generator, inside: int = 600, outside: int = 150) -> Calibration:
    rows: list[tuple[int, ...]] = []
    for is_inside, count in ((1.0, inside), (0.0, outside)):
        found = confidences(draw, np.full(count, is_inside))
        rows += [histogram(found[found > 0.3]), histogram(found[found <= 0.3])]
    return Calibration(
        basis="held_out",
        thresholds=(),
        expected=(),
        floors=(),
        inside=inside,
        outside=outside,
        answered=(),
        wrong=(),
        let_through=(),
        all_wrong=0,
        intents=9,
        in_scope=(sum(rows[0]), sum(rows[2])),
        confidences=tuple(rows),
    )


def stream(draw: np.random.Generator, in_scope: float, *, lower: float = 0.0) -> Draws:
    return confidences(draw, (draw.random(5_000) < in_scope).astype(float), lower=lower)


def first_alarm(counted: Calibration, messages: Draws) -> tuple[int, tuple[str, ...]] | None:
    """After how many messages, and what moved."""
    answered = surely_answered(counted, 0.8)
    for look, end in enumerate(range(STEP, len(messages) + 1, STEP), start=1):
        last = messages[max(0, end - WINDOW) : end]
        sure, called = int((last >= 0.8).sum()), int((last > 0.3).sum())
        window = Window(histogram(last), called, sure)
        moved = compare(counted, PROMISE, window, answered, look=look).moved
        if moved:
            return end, moved
    return None


def test_streams_that_stay_as_they_were_raise_no_more_false_alarms_than_stated() -> None:
    draw = np.random.default_rng(3)
    alarms = sum(
        first_alarm(calibration(draw), stream(draw, draw.uniform(0.9, 1))[:2_500]) is not None
        for _ in range(STREAMS)
    )
    # So many or fewer in 99.5 % of the cases in which the stated rate is the true one.
    assert alarms <= 6
    assert FALSE_ALARMS * STREAMS == 2


@pytest.mark.parametrize(
    ("in_scope", "lower"), [(0.7, 0.0), (0.95, 1.5)], ids=["other messages", "less sure of them"]
)
def test_planted_shifts_are_found(in_scope: float, lower: float) -> None:
    draw = np.random.default_rng(4)
    alarms = [
        first_alarm(
            calibration(draw),
            np.concatenate([stream(draw, 0.95)[:2_000], stream(draw, in_scope, lower=lower)]),
        )
        for _ in range(20)
    ]
    found = [alarm for alarm in alarms if alarm is not None]
    assert len(found) >= 19
    assert sum(2_000 < after <= 4_000 for after, _ in found) >= 18


def test_it_says_which_of_the_two_moved() -> None:
    draw = np.random.default_rng(5)
    counted = calibration(draw, 4_000, 1_000)
    last = stream(draw, 0.95)[:WINDOW]
    look = partial(compare, counted, PROMISE, answered=surely_answered(counted, 0.8), look=1)
    sure = int((last >= 0.8).sum())
    assert look(window=Window(histogram(last), 0, sure)).moved == ()
    # A threshold that answers otherwise than it did, the confidences being as they were.
    assert look(window=Window(histogram(last), 0, sure - 150)).moved == ("instant",)
    # And confidences that changed on one side of it only.
    shifted = np.where((last >= 0.8) & (last < 0.999), 0.9, last)
    assert look(window=Window(histogram(shifted), 0, sure)).moved == ("confidence",)


def test_each_look_spends_less_and_all_together_what_is_stated() -> None:
    draw = np.random.default_rng(6)
    counted, window = calibration(draw), Window(histogram(stream(draw, 0.95)), 0, 0)
    spent = [compare(counted, PROMISE, window, None, look=look).error for look in range(1, 200)]
    assert spent == sorted(spent, reverse=True)
    assert 0.99 * FALSE_ALARMS < sum(spent) < FALSE_ALARMS


def test_without_enough_to_compare_with_nothing_is_compared() -> None:
    draw = np.random.default_rng(7)
    assert comparable(calibration(draw))
    assert not comparable(calibration(draw, inside=100))
    assert not comparable(calibration(draw, outside=0))


def test_what_a_threshold_answered_is_known_where_a_bin_begins() -> None:
    counted = calibration(np.random.default_rng(8))
    found = surely_answered(counted, 0.8)
    assert found is not None
    assert 0.8 < found.inside < 0.95
    assert 0.05 < found.outside < 0.35
    assert surely_answered(counted, 0.81) is None
    assert surely_answered(counted, 1.0) is None


def test_histograms_are_stored_and_must_be_of_the_same_utterances() -> None:
    counted = calibration(np.random.default_rng(9))
    assert Calibration.from_json(counted.to_json()) == counted
    other = counted.to_json()
    other["confidences"][0][3] += 1
    with pytest.raises(ValueError, match="confidences of other utterances"):
        Calibration.from_json(other)
    del other["confidences"]  # as older releases wrote it
    assert not comparable(Calibration.from_json(other))


@pytest.mark.parametrize(
    ("value", "degrees", "tail"),
    [(3.841459, 1, 0.05), (9.487729, 4, 0.05), (16.918978, 9, 0.05), (41.0, 9, 5.0019e-06)],
)
def test_tails_of_chi_squared(value: float, degrees: int, tail: float) -> None:
    assert chi_squared_tail(value, degrees) == pytest.approx(tail, rel=1e-3)


def mixed(draw: np.random.Generator, counted: Calibration, share: float, messages: int) -> bool:
    called = [
        draw.random() < (counted.in_scope[0] / counted.inside)
        if draw.random() < share
        else draw.random() < counted.in_scope[1] / counted.outside
        for _ in range(messages)
    ]
    return is_usual(counted, PROMISE, sum(called), messages)


def test_much_less_in_scope_than_promised_is_noticed_and_no_more_than_that() -> None:
    draw = np.random.default_rng(10)
    counted = calibration(draw, 2_000, 500)
    for share in (0.9, 0.95, 1.0):
        assert mixed(draw, counted, share, 1_000)
    assert not mixed(draw, counted, 0.6, 1_000)
    assert is_usual(counted, PROMISE, 0, 100)  # a handful of strange messages proves nothing


def test_a_promise_for_traffic_that_is_all_in_scope_is_watched_without_strangers() -> None:
    """Nothing out of scope was counted; and none of it was promised for."""
    counted = replace(calibration(np.random.default_rng(11), 2_000, 500), outside=0)
    everything = replace(PROMISE, least_in_scope=1.0)
    share = counted.in_scope[0] / counted.inside
    assert is_usual(counted, everything, round(1_000 * share), 1_000)
    assert not is_usual(counted, everything, round(800 * share), 1_000)

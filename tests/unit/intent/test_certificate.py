"""A promise is certified where it is kept, and refused with the reason where nobody can know."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from intent.binomial import at_most
from intent.certificate import Calibration, augrc, certify, fewest_answers, p_value
from intent.interface import Doubt, Promise

USUAL = Promise(max_wrong_instant=0.05, confidence=0.9, least_in_scope=0.9)
STEPS = 10
Rates = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]


def rates(*, wrong: float, let_through: float) -> Rates:
    """Of ten thresholds: answered, wrong of all in scope, let through. The loosest answers
    everything; errors gather at the loose end."""
    shares = [(n + 1) / STEPS for n in range(STEPS)]
    return (
        tuple(shares),
        tuple(wrong * share**2 for share in shares),
        tuple(let_through * share**3 for share in shares),
    )


def calibration(
    true: Rates, *, inside: int, outside: int, random: np.random.Generator | None = None
) -> Calibration:
    """Drawn, or without `random` exactly as expected."""
    answered, wrong, let_through = true

    def counts(shares: tuple[float, ...], size: int, drawn: np.ndarray | None) -> tuple[int, ...]:
        if drawn is None:
            return tuple(round(share * size) for share in shares)
        return tuple(int((drawn < share).sum()) for share in shares)

    right = tuple(a - w for a, w in zip(answered, wrong, strict=True))
    place, strange = (
        (None, None) if random is None else (random.random(inside), random.random(outside))
    )
    rightly = counts(right, inside, place)
    wrongly = counts(wrong, inside, None if place is None else 1 - place)
    return Calibration(
        basis="given",
        thresholds=tuple(1 - share for share in answered),
        expected=tuple(zip(answered, wrong, let_through, strict=True)),
        floors=(),
        inside=inside,
        outside=outside,
        answered=tuple(r + w for r, w in zip(rightly, wrongly, strict=True)),
        wrong=wrongly,
        let_through=counts(let_through, outside, strange),
        all_wrong=wrongly[-1],
        intents=5,
        in_scope=(inside, 0),
    )


GOOD = calibration(rates(wrong=0.03, let_through=0.2), inside=500, outside=100)


def truly_wrong(true: Rates, place: int, share: float) -> float:
    answered, wrong, let_through = (each[place] for each in true)
    failed = share * wrong + (1 - share) * let_through
    return failed / (share * answered + (1 - share) * let_through)


@pytest.mark.parametrize("share", [1.0, 0.9, 0.5])
@pytest.mark.parametrize("wrong", [0.03, 0.06])
def test_of_many_calibrations_no_more_than_allowed_break_the_promise(
    share: float, wrong: float
) -> None:
    """Planted risks, some thresholds of which break the promise: 300 draws from a fixed seed."""
    true = rates(wrong=wrong, let_through=0.2)
    promise = replace(USUAL, least_in_scope=share)
    inside, outside = round(1_200 * share), round(1_200 * (1 - share))
    random = np.random.default_rng(1)
    broken = 0
    for _ in range(300):
        counted = calibration(true, inside=inside, outside=outside, random=random)
        point = certify(counted, promise).point
        if point is not None:
            place = counted.thresholds.index(point.threshold)
            broken += truly_wrong(true, place, share) > promise.max_wrong_instant
    assert broken <= 30


@given(
    wrong=st.floats(0.001, 0.2),
    let_through=st.floats(0, 1),
    share=st.floats(0.3, 1),
    inside=st.integers(1, 3_000),
    outside=st.integers(0, 1_000),
)
@example(wrong=0.125, let_through=0.0, share=0.96875, inside=5, outside=0)
@settings(max_examples=25, deadline=None)
def test_what_keeps_a_strict_promise_keeps_a_looser_one(
    wrong: float, let_through: float, share: float, inside: int, outside: int
) -> None:
    counted = calibration(
        rates(wrong=wrong, let_through=let_through), inside=inside, outside=outside
    )
    tails = [
        [
            p_value(
                Promise(most, 0.9, share),
                inside=inside,
                answered=counted.answered[place],
                wrong=counted.wrong[place],
                outside=outside,
                let_through=counted.let_through[place],
            )
            for place in range(STEPS)
        ]
        for most in (0.02, 0.05, 0.1)
    ]
    for strict, loose in pairwise(tails):
        assert all(a >= b for a, b in zip(strict, loose, strict=True))


def test_out_of_scope_answers_that_hardly_count_do_not_hide_the_others() -> None:
    """Found by the property above: with so loose a promise nearly all may be let through."""
    counts = {"inside": 3_000, "answered": 1_535, "wrong": 27, "outside": 200, "let_through": 42}
    strict, loose = (p_value(Promise(most, 0.9, 0.95), **counts) for most in (0.05, 0.1))
    assert loose <= strict < 0.1


@given(st.integers(1, 400), st.data())
def test_in_scope_alone_it_is_the_binomial_test(answered: int, data: st.DataObject) -> None:
    wrong = data.draw(st.integers(0, answered))
    p = p_value(
        replace(USUAL, least_in_scope=1.0),
        inside=500,
        answered=answered,
        wrong=wrong,
        outside=0,
        let_through=0,
    )
    assert p == at_most(wrong, answered, np.array([0.05]))[0]


def test_more_wrong_answers_speak_for_nothing() -> None:
    def p(wrong: int, let_through: int) -> float:
        return p_value(
            USUAL, inside=900, answered=850, wrong=wrong, outside=100, let_through=let_through
        )

    assert p(5, 5) < p(10, 5) < p(20, 5)
    assert p(5, 5) < p(5, 10) < p(5, 30)


def test_every_stricter_certified_point_answers_less() -> None:
    certificate = certify(
        calibration(rates(wrong=0.03, let_through=0.2), inside=3_000, outside=300), USUAL
    )
    points = certificate.points
    assert len(points) > 1
    assert [one.threshold for one in points] == sorted(one.threshold for one in points)[::-1]
    assert certificate.point == points[-1]
    assert certificate.point_answering(points[0].answered) == points[0]
    assert certificate.point_answering(1.1) == points[-1]


def test_the_first_threshold_that_fails_ends_it_though_a_looser_one_would_pass() -> None:
    counted = replace(
        GOOD,
        thresholds=(0.9, 0.8, 0.7),
        expected=((0.25, 0.0, 0.0), (0.3, 0.03, 0.0), (1.0, 0.03, 0.0)),
        inside=2_000,
        outside=500,
        answered=(500, 600, 2_000),
        wrong=(0, 60, 62),
        let_through=(0, 0, 0),
        all_wrong=62,
        in_scope=(2_000, 0),
    )
    assert [point.threshold for point in certify(counted, USUAL).points] == [0.9]
    assert certify(replace(counted, wrong=(0, 10, 62)), USUAL).points[-1].threshold == 0.7


def test_too_few_examples_are_counted_out() -> None:
    spotless = rates(wrong=0, let_through=0)
    few = calibration(spotless, inside=20, outside=3)
    certificate = certify(few, USUAL)
    assert (certificate.certified, certificate.doubt) == (False, Doubt.TOO_FEW)
    assert certificate.missing_inside is not None
    assert certificate.missing_outside is not None
    enough = calibration(
        spotless,
        inside=20 + certificate.missing_inside,
        outside=3 + certificate.missing_outside,
    )
    assert certify(enough, USUAL).certified


def test_fewer_right_answers_than_this_prove_nothing() -> None:
    alone = replace(USUAL, least_in_scope=1.0)
    least = fewest_answers(alone)
    assert least == 45
    for answered, passes in ((least - 1, False), (least, True)):
        p = p_value(alone, inside=answered, answered=answered, wrong=0, outside=0, let_through=0)
        assert (p <= 0.1) == passes


def test_a_promise_that_no_threshold_can_keep_is_no_question_of_numbers() -> None:
    hopeless = (
        rates(wrong=1, let_through=1)[0],
        tuple(0.3 * (n + 1) / 10 for n in range(10)),
        (0.5,) * 10,
    )
    certificate = certify(calibration(hopeless, inside=5_000, outside=500), USUAL)
    assert (certificate.doubt, certificate.missing_inside) == (Doubt.TOO_MANY_WRONG, None)


def test_without_anything_out_of_scope_only_other_traffic_could_be_promised_for() -> None:
    counted = calibration(rates(wrong=0.02, let_through=0), inside=3_000, outside=0)
    certificate = certify(counted, USUAL)
    assert certificate.doubt is Doubt.NO_OUT_OF_SCOPE
    assert certificate.missing_outside
    assert certificate.certifiable_from is not None
    assert certificate.certifiable_from > 0.9
    assert certify(counted, replace(USUAL, least_in_scope=1.0)).certified


def test_one_intent_alone_proves_nothing_of_the_others() -> None:
    counted = calibration(rates(wrong=0.01, let_through=0.1), inside=3_000, outside=300)
    assert certify(counted, USUAL).certified
    assert certify(replace(counted, intents=1), USUAL).doubt is Doubt.ONE_INTENT


def test_nothing_counted_is_nothing_certified() -> None:
    for counted in (None, calibration(rates(wrong=0, let_through=0), inside=0, outside=9)):
        certificate = certify(counted, USUAL)
        assert (certificate.point, certificate.doubt) == (None, Doubt.NOTHING_UNSEEN)
        json.dumps(certificate.to_json(), allow_nan=False)


def test_augrc_is_the_area_that_a_perfect_ranking_makes_smallest() -> None:
    # Half of all utterances wrong, and all of them last: ½ × ½ × ½ is the least there can be.
    shares = tuple((n + 1) / 10 for n in range(10))
    sorted_last = (shares, tuple(max(0.0, share - 0.5) for share in shares), (0.0,) * 10)
    alone = replace(USUAL, least_in_scope=1.0)
    best = augrc(calibration(sorted_last, inside=1_000, outside=0), alone)
    assert best == pytest.approx(0.125, abs=1e-3)
    mixed = (shares, tuple(share / 2 for share in shares), (0.0,) * 10)
    assert augrc(calibration(mixed, inside=1_000, outside=0), alone) == pytest.approx(
        0.25, abs=1e-3
    )


def test_a_calibration_comes_back_from_json_as_it_was() -> None:
    assert Calibration.from_json(json.loads(json.dumps(GOOD.to_json()))) == GOOD


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 99},
        {"basis": "hearsay"},
        {"thresholds": [0.5]},
        {"thresholds": list(GOOD.thresholds)[::-1]},
        {"answered": [*GOOD.answered[1:], GOOD.answered[0]]},
        {"wrong": (*GOOD.answered[:-1], 10**6)},
        {"inside": 3},
        {"inside": True},
        {"outside": -1},
        {"answered": None},
        {"floors": [["greet"]]},
        {"floors": [["greet", 7]]},
        {"floors": [["greet", {}]]},
        {"expected": [[0.1, 0.2]] * STEPS},
        {"in_scope": [1]},
        {"all_wrong": 0},
        {"more": 1},
    ],
    ids=str,
)
def test_a_damaged_calibration_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="calibration"):
        Calibration.from_json(GOOD.to_json() | damage)


@pytest.mark.parametrize("value", [None, [], "calibration", {}])
def test_what_is_no_calibration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="calibration"):
        Calibration.from_json(value)

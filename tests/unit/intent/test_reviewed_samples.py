"""What a certificate makes of a sample of the traffic: counted as drawn, and tested as it grows."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intent.certificate import Calibration, certify, messages_needed, p_value
from intent.data import Example, TrainingSet
from intent.interface import Doubt, Prediction, Promise, RankedIntent
from intent.thresholds import USUALLY_EXPECTED, ThresholdPlan

USUAL = Promise(max_wrong_instant=0.05, confidence=0.9, least_in_scope=0.9)
PLAN = ThresholdPlan((0.9, 0.5), ((0.5, 0.0, 0.0), (0.9, 0.01, 0.1)), {"greet": 0.95})
PERIOD = ("2026-10-01", "2026-10-31")


def said(intent: str, assurance: float) -> Prediction:
    return Prediction(intent, 0.9, (RankedIntent(intent, 0.9),), True, assurance=assurance)


def counted(
    inside: Sequence[tuple[str, Prediction]],
    outside: Sequence[Prediction] = (),
    unclear: Sequence[Prediction] = (),
    tries: int = 1,
) -> Calibration:
    data = TrainingSet(
        tuple(Example("where is it", label) for label, _ in inside),
        tuple(Example("a joke", "out_of_scope") for _ in outside),
    )
    judged = (data, [one for _, one in inside], list(outside))
    return PLAN.count_sample(judged, list(unclear), period=PERIOD, tries=tries)


def traffic(inside: int, outside: int, tries: int = 1) -> Calibration:
    """In which nothing is answered wrongly."""
    right = [(name, said(name, 0.97)) for name in ("greet", "leave")]
    return counted(right * (inside // 2), [said("leave", 0.1)] * outside, tries=tries)


def test_what_was_said_twice_counts_twice() -> None:
    found = counted([("greet", said("greet", 0.97))] * 3 + [("greet", said("leave", 0.6))])
    assert (found.inside, found.answered, found.wrong) == (4, (3, 4), (0, 1))
    assert (found.basis, found.period, found.utterances) == ("reviewed", PERIOD, 4)
    assert Calibration.from_json(found.to_json()) == found
    missed = counted([("greet", said("greet", 0.94))])
    assert missed.answered == (0, 0)  # below the intent's own floor


def test_an_unclear_message_counts_on_both_sides_as_the_worst() -> None:
    found = counted([("greet", said("greet", 0.97))], [said("leave", 0.1)], [said("leave", 0.6)])
    assert (found.inside, found.outside, found.unclear, found.utterances) == (2, 2, 1, 3)
    assert (found.answered, found.wrong, found.let_through) == ((1, 2), (0, 1), (1, 1))
    assert found.intents == 1
    assert (certify(found, USUAL).unclear, certify(found, USUAL).period) == (1, PERIOD)


@settings(max_examples=400)
@given(
    share=st.sampled_from([0.3, 0.6, 0.9, 0.95]),
    most=st.sampled_from([0.02, 0.05, 0.1]),
    inside=st.integers(20, 900),
    outside=st.integers(1, 300),
    is_sure=st.booleans(),
    data=st.data(),
)
def test_no_truth_about_an_unclear_message_speaks_more_against_the_promise(
    share: float, most: float, inside: int, outside: int, is_sure: bool, data: st.DataObject
) -> None:
    answered = data.draw(st.integers(0, inside))
    wrong = data.draw(st.integers(0, answered))
    let_through = data.draw(st.integers(0, outside))

    def p(more_inside: int, more_wrong: int, more_outside: int, more_through: int) -> float:
        return p_value(
            Promise(most, 0.9, share),
            inside=inside + more_inside,
            answered=answered + more_inside * is_sure,
            wrong=wrong + more_wrong,
            outside=outside + more_outside,
            let_through=let_through + more_through,
            weighed=(max(1, answered), outside),
        )

    as_counted = p(1, int(is_sure), 1, 1) + 1e-9
    assert p(1, 0, 0, 0) <= as_counted
    assert p(1, int(is_sure), 0, 0) <= as_counted
    assert p(0, 0, 1, int(is_sure)) <= as_counted


def test_all_tests_of_a_growing_sample_together_spend_no_more_than_is_allowed() -> None:
    """Found by looking for the confidence at which each of them stops certifying."""
    spent = []
    for tries in (0, 1, 2, 3):
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            passed = certify.__wrapped__(
                replace(traffic(120, 12), tries=tries), replace(USUAL, confidence=1 - middle)
            )
            low, high = (low, middle) if passed.certified else (middle, high)
        spent.append(high)
    shares = [spent[0] / one for one in spent[1:]]
    assert shares == pytest.approx([3 / 4, 3 / 16, 3 / 64], rel=0.01)


def test_a_sample_with_fewer_in_scope_than_promised_certifies_nothing() -> None:
    told = certify(traffic(600, 150), USUAL)
    assert (told.certified, told.doubt) == (False, Doubt.FEWER_IN_SCOPE)
    assert certify(traffic(600, 150), replace(USUAL, least_in_scope=0.8)).certified
    assert certify(replace(traffic(600, 150), basis="given", tries=0), USUAL).certified
    assert certify(traffic(600, 66), USUAL).certified


def test_what_is_missing_is_told_for_the_next_and_stricter_test() -> None:
    few = traffic(60, 6)
    told = certify(few, USUAL)
    assert told.doubt is Doubt.TOO_FEW
    assert told.missing_inside is not None
    assert told.missing_outside is not None
    grown = traffic(60 + told.missing_inside + 1, 6 + told.missing_outside, tries=2)
    assert certify(grown, USUAL).certified


def test_the_planned_sample_certifies_where_traffic_is_as_expected() -> None:
    needed = messages_needed(PLAN.expected, USUAL)
    assert needed is not None
    inside = round(needed * 0.9)
    assert certify(traffic(inside, needed - inside), USUAL).certified
    later = messages_needed(PLAN.expected, USUAL, tries=2)
    assert later is not None
    assert later > needed
    usually = messages_needed(USUALLY_EXPECTED, USUAL)
    assert usually is not None
    assert 300 < usually < 1_000
    hopeless = ((0.5, 0.2, 0.5),)
    assert messages_needed(hopeless, USUAL) is None


@pytest.mark.parametrize(
    "damage",
    [{"unclear": 9}, {"tries": -1}, {"period": ["2026-10-01"]}, {"period": [1, 2]}],
    ids=str,
)
def test_a_damaged_count_of_a_sample_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="calibration"):
        Calibration.from_json(traffic(10, 2).to_json() | damage)

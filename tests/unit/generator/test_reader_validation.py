"""The figures of a reader, and what corrects its probabilities."""

import math
import random
from dataclasses import replace

import pytest

from generator.judging import Calibration
from generator.teaching.reader_validation import (
    UNCALIBRATED,
    Judged,
    auroc,
    calibration,
    figures,
)


def judged(
    *, answerable: bool = True, page: int = 0, sentence: int | None = None, odds: float = 0.0
) -> Judged:
    return Judged(
        answerable, page, sentence, odds, closeness=0.6, lead=0.1, tokens=8, matched=0.7, least=0.4
    )


def supported(one: Judged, calibrated: Calibration) -> float:
    nothing = 1 / (1 + math.exp(one.log_odds))
    closeness = [one.closeness, one.closeness - one.lead]
    return calibrated.support(nothing, closeness, one.tokens, matched=one.matched, least=one.least)


def test_figures_are_shares_of_the_answerable_questions() -> None:
    questions = [
        judged(page=0, sentence=0, odds=2.0),
        judged(page=2, sentence=3, odds=0.0),
        judged(page=7, odds=-3.0),
        judged(answerable=False, odds=0.0),
    ]
    found = figures(questions)
    assert found["sentence@1"] == found["page@1"] == pytest.approx(1 / 3)
    assert found["sentence@3"] == pytest.approx(1 / 3)
    assert found["page@3"] == found["page@5"] == pytest.approx(2 / 3)
    assert found["AUROC"] == pytest.approx(0.5)
    assert figures(questions[:3]) == {}


def test_auroc_counts_ties_half() -> None:
    assert auroc([3.0, 2.0], [1.0, 0.0]) == 1.0
    assert auroc([1.0, 1.0], [1.0]) == 0.5
    assert auroc([0.0], [1.0, 0.0]) == 0.25


def test_calibration_finds_how_much_too_sure_a_network_is() -> None:
    draw = random.Random(1)
    questions = []
    for _ in range(4000):
        odds, closeness, tokens = draw.gauss(1, 4), draw.uniform(0.3, 0.9), draw.randrange(3, 30)
        matched, least = draw.uniform(0.4, 0.9), draw.uniform(0.1, 0.6)
        value = 0.5 * odds - 5 * closeness + 0.8 * math.log(tokens) + 4 * matched + 3 * least - 4
        one = judged(answerable=draw.random() < 1 / (1 + math.exp(-value)), odds=odds)
        one = replace(one, closeness=closeness, tokens=tokens, matched=matched, least=least)
        questions.append(one)
    found = calibration(questions)
    assert found.odds == pytest.approx(0.5, abs=0.1)
    assert found.closeness == pytest.approx(-5, abs=1)
    assert found.length == pytest.approx(0.8, abs=0.2)
    assert found.matched == pytest.approx(4, abs=1)
    assert found.least == pytest.approx(3, abs=1)
    for expected in (0.2, 0.5, 0.8):
        near = [one.answerable for one in questions if abs(supported(one, found) - expected) < 0.1]
        assert sum(near) / len(near) == pytest.approx(expected, abs=0.08)
    assert calibration([one for one in questions if one.answerable]) == UNCALIBRATED

"""Careless writing: what is changed, and what it costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent.data import Example
from intent.robustness import (
    NEIGHBOURS,
    measure_robustness,
    paired_interval,
    with_typo,
    without_punctuation,
)
from tests.fake_classifier import Parrot


def edits(before: str, after: str) -> int:
    """Levenshtein's distance, where a swap of neighbours counts as one (Damerau)."""
    rows = [
        [max(i, j) if not i * j else 0 for j in range(len(after) + 1)]
        for i in range(len(before) + 1)
    ]
    for i, left in enumerate(before, start=1):
        for j, right in enumerate(after, start=1):
            rows[i][j] = min(
                rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (left != right)
            )
            if i > 1 and j > 1 and left == after[j - 2] and before[i - 2] == right:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


@given(st.text(max_size=30))
def test_a_typo_is_one_slip_and_always_the_same_one(text: str) -> None:
    slipped = with_typo(text)
    assert edits(text, slipped) <= 1
    assert slipped == with_typo(text)


@given(st.lists(st.text("abcdefgh", min_size=2, max_size=8), min_size=1).map(" ".join))
def test_every_text_of_words_gets_its_typo(text: str) -> None:
    assert edits(text, with_typo(text)) == 1


def test_a_typo_goes_into_a_long_word() -> None:
    for n in range(50):
        text = f"is my {chr(97 + n % 26)}parcel at {n}"
        assert with_typo(text).startswith("is my ")


def test_neighbouring_keys_are_neighbours() -> None:
    assert set(NEIGHBOURS) == set("abcdefghijklmnopqrstuvwxyz")
    assert set(NEIGHBOURS["s"]) == {"a", "d", "x"}


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("What's up, e-mail?", "Whats up e mail"),
        ("你好，退货！", "你好 退货"),
        ("?!", "?!"),
        ("", ""),
    ],
)
def test_punctuation_goes_where_words_remain(text: str, plain: str) -> None:
    assert without_punctuation(text) == plain


@pytest.mark.parametrize(
    ("both", "only_before", "only_after", "neither", "interval"),
    [(1, 7, 1, 12, (-0.507, -0.026)), (36, 2, 12, 0, (0.0569, 0.3404))],
)
def test_the_paired_interval_as_published(
    both: int, only_before: int, only_after: int, neither: int, interval: tuple[float, float]
) -> None:
    found = paired_interval(
        both=both, only_before=only_before, only_after=only_after, neither=neither
    )
    assert found == pytest.approx(interval, abs=1e-3)


counts = st.integers(0, 60)


@given(counts, counts, counts, counts.map(lambda n: n + 1))
def test_the_paired_interval_holds_the_difference(
    both: int, only_before: int, only_after: int, neither: int
) -> None:
    low, high = paired_interval(
        both=both, only_before=only_before, only_after=only_after, neither=neither
    )
    difference = (only_after - only_before) / (both + only_before + only_after + neither)
    assert -1 - 1e-9 <= low <= difference + 1e-9
    assert difference - 1e-9 <= high <= 1 + 1e-9


def test_what_a_change_costs_is_counted_against_the_same_utterances() -> None:
    parrot = Parrot("pay", "ship")
    examples = [Example("pay", "pay"), Example("ship", "ship"), Example("PAY", "pay")]
    before = parrot.classify_batch([example.text for example in examples])
    parrot.classified = 0
    found = measure_robustness("shouted", str.upper, examples, before, parrot.classify_batch)
    assert parrot.classified == 2  # the third is shouted already
    assert found.changed == 2
    assert found.accuracy == pytest.approx(2 / 3)  # "pay" is the parrot's guess for all else
    assert found.difference == pytest.approx(-1 / 3)
    assert found.in_scope_rate == 0
    (lost,) = found.losses
    assert (lost.text, lost.changed_text, lost.predicted) == ("ship", "SHIP", "pay")

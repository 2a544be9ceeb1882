"""Finding test utterances among the training data."""

from hypothesis import given, settings
from hypothesis import strategies as st

from intent import leakage
from intent.data import Example
from intent.leakage import find_leaks, worst_leaks

TRAINING = [
    ("where is my parcel?", "track"),
    ("where is my parcel", "lost"),
    ("how do i send the jacket back to you", "return"),
    ("退货怎么办", "return"),
]


def test_case_and_punctuation_hide_no_leak() -> None:
    (leak,) = find_leaks([Example("Where is my PARCEL!!", "lost")], TRAINING)
    assert leak.is_exact
    assert (leak.training_text, leak.training_intent) == ("where is my parcel", "lost")


def test_nearly_the_same_is_found_and_something_else_is_not() -> None:
    tests = [
        Example("what are your opening hours", "hours"),
        Example("how do i send the jackets back to you", "return"),
        Example("退货怎么办?", "return"),
        Example("", "return"),
    ]
    near, chinese = find_leaks(tests, TRAINING)
    assert (near.place, near.is_exact) == (1, False)
    assert leakage.NEAR <= near.similarity < 1
    assert (chinese.place, chinese.is_exact) == (2, True)


def test_the_same_words_under_another_intent_are_the_worst() -> None:
    tests = [Example("退货怎么办", "return"), Example("where is my parcel", "complain")]
    assert [leak.place for leak in worst_leaks(find_leaks(tests, TRAINING))] == [1, 0]


words = st.text("ab ", min_size=3, max_size=14)


@settings(max_examples=200)
@given(st.lists(words, max_size=6), st.lists(words, min_size=1, max_size=6))
def test_no_pair_is_missed(trained: list[str], tested: list[str]) -> None:
    found = find_leaks([Example(t, "x") for t in tested], [(t, "x") for t in trained])
    similarity_of = {leak.place: leak.similarity for leak in found}
    for place, text in enumerate(tested):
        mine = leakage._words(text)
        best = 0.0
        for other in map(leakage._words, trained):
            left, right = leakage._shingles(mine), leakage._shingles(other)
            alike = 1.0 if mine == other else min(0.999, len(left & right) / len(left | right))
            best = max(best, alike)
        assert similarity_of.get(place, 0.0) == (best if best >= leakage.NEAR else 0.0)


def test_progress_reaches_its_end() -> None:
    seen: list[tuple[int, int]] = []
    find_leaks(
        [Example("hello", "greet")] * 450,
        TRAINING,
        on_progress=lambda done, of: seen.append((done, of)),
    )
    assert seen == [(0, 450), (200, 450), (400, 450), (450, 450)]

"""Labels per token, slots from labels, and their scores."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent.annotation import AnnotatedSlot
from intent.interface import Slot
from intent.slot_rules import RuleMatch, RuleMatcher, SlotRules
from intent.slots import (
    SlotKind,
    TaggedSpan,
    decode,
    encode,
    label_count,
    legal_transitions,
    score_slots,
    slot_kinds,
    to_slots,
)
from intent.text import tokenize_with_spans

CITY, TO = SlotKind("city"), SlotKind("city", role="to")
KINDS = (CITY, TO)


def test_role_and_group_make_a_kind_of_their_own() -> None:
    slots = [AnnotatedSlot("city", 0, 1, role=role, group="1") for role in ("to", None, "to")]
    assert slot_kinds(slots) == (SlotKind("city", None, "1"), SlotKind("city", "to", "1"))


def test_tokens_get_begin_and_inside_labels() -> None:
    tokens = tokenize_with_spans("from New York to Rome 42")
    slots = [
        AnnotatedSlot("city", 17, 24, role="to"),
        AnnotatedSlot("city", 5, 13),
        AnnotatedSlot("unknown", 0, 4),
    ]
    assert encode(tokens, slots, KINDS) == [0, 1, 2, 0, 3, 4, 4]


def test_a_token_that_is_covered_in_part_is_inside() -> None:
    assert encode(tokenize_with_spans("to Romeo"), [AnnotatedSlot("city", 3, 7)], KINDS) == [0, 1]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([0, 1, 2, 0], [("city", None, "bb cc")]),
        ([1, 1, 3, 4], [("city", None, "aa"), ("city", None, "bb"), ("city", "to", "cc dd")]),
        ([2, 2, 0, 2], [("city", None, "aa bb"), ("city", None, "dd")]),
        ([1, 4, 4, 2], [("city", None, "aa"), ("city", "to", "bb cc"), ("city", None, "dd")]),
        ([0, 0, 0, 0], []),
    ],
)
def test_labels_become_spans_and_illegal_ones_are_mended(
    labels: list[int], found: list[tuple[str, str | None, str]]
) -> None:
    text = "aa bb cc dd"
    spans = decode(tokenize_with_spans(text), labels, KINDS)
    assert [(s.kind.name, s.kind.role, text[s.start : s.end]) for s in spans] == found


def test_a_span_is_as_sure_as_its_least_sure_token() -> None:
    (span,) = decode(tokenize_with_spans("a b c"), [1, 2, 2], KINDS, [0.9, 0.4, 0.8])
    assert span.confidence == 0.4


words = st.lists(st.sampled_from(["rome", "42", "straße", "我们", "½", "x!"]), min_size=1)


@given(words, st.data())
def test_encoding_and_decoding_gives_the_slots_back(words: list[str], data: st.DataObject) -> None:
    slots = []
    for place, word in enumerate(words):
        if kind := data.draw(st.sampled_from([None, *KINDS])):
            start = sum(map(len, words[:place])) + place
            slots.append(AnnotatedSlot(kind.name, start, start + len(word), role=kind.role))
    tokens = tokenize_with_spans(" ".join(words))
    labels = encode(tokens, slots, KINDS)
    found = decode(tokens, labels, KINDS)
    assert [(s.kind.name, s.kind.role, s.start, s.end) for s in found] == [
        (slot.name, slot.role, slot.start, slot.end) for slot in slots
    ]
    step, first = legal_transitions(label_count(KINDS))
    assert first[labels[0]]
    assert all(step[a, b] for a, b in pairwise(labels))


@given(st.text(max_size=20), st.lists(st.integers(0, 4), min_size=40, max_size=40))
def test_spans_of_any_labels_lie_apart_in_the_text(text: str, labels: list[int]) -> None:
    tokens = tokenize_with_spans(text)[:40]
    spans = decode(tokens, labels[: len(tokens)], KINDS)
    places = [place for span in spans for place in (span.start, span.end)]
    assert places == sorted(places)
    assert all(span.start < span.end <= len(text) for span in spans)


def test_only_its_own_kind_goes_on() -> None:
    step, first = legal_transitions(5)
    assert first.tolist() == [True, True, False, True, False]
    assert step[:, 2].tolist() == [False, True, True, False, False]
    assert step[:, 0].all()
    assert step[:, 3].all()


def test_rules_fill_what_the_network_left_and_values_are_canonical() -> None:
    text = "from nyc to rome 12345"
    matcher = RuleMatcher(SlotRules(synonyms=(("nyc", "New York"),)))
    matches = [
        RuleMatch("place", 5, 8, "lookup"),  # the network has a slot there
        RuleMatch("zip", 17, 19, "lookup"),
        RuleMatch("number", 17, 22, "regex"),  # longer than the other
    ]
    slots = to_slots(text, [TaggedSpan(TO, 5, 8, 0.75)], matches, matcher)
    assert slots == (
        Slot("city", "New York", "nyc", 5, 8, role="to", confidence=0.75),
        Slot("number", "12345", "12345", 17, 22, source="regex"),
    )


def found(name: str, start: int, end: int, role: str | None = None) -> Slot:
    return Slot(name=name, value="", text="", start=start, end=end, role=role)


def test_a_slot_counts_when_name_role_and_both_ends_are_right() -> None:
    scores = score_slots(
        [
            [AnnotatedSlot("a", 0, 2), AnnotatedSlot("b", 3, 5, role="x")],
            [AnnotatedSlot("a", 0, 2)],
            [],
            [],
        ],
        [[found("a", 0, 2), found("b", 3, 5)], [found("a", 0, 2)], [], [found("b", 0, 1)]],
        [True, True, False, True],
    )
    assert (scores.all.right, scores.all.wrong, scores.all.missed) == (2, 2, 1)
    assert scores.all.f1 == pytest.approx(4 / 7)
    assert scores.by_name["a"].f1 == 1
    assert (scores.by_name["b"].precision, scores.by_name["b"].recall) == (0, 0)
    assert scores.sentence_accuracy == 0.25  # the second alone: the third has the wrong intent


def test_a_slot_in_the_wrong_role_is_wrong_and_in_the_right_one_right() -> None:
    expected = [[AnnotatedSlot("city", 0, 2, role="to")]] * 3
    said = [[found("city", 0, 2, role)] for role in ("to", "from", None)]
    counts = score_slots(expected, said, [True] * 3).all
    assert (counts.right, counts.wrong, counts.missed) == (1, 2, 2)


def test_nothing_to_find_and_nothing_found_has_no_figure_to_divide_by() -> None:
    scores = score_slots([], [], [])
    assert (scores.all.f1, scores.all.precision, scores.all.recall) == (0, 0, 0)
    assert scores.sentence_accuracy == 0

"""Slots marked in a text, as Rasa writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent.annotation import Annotated, AnnotatedSlot, AnnotationError, mark, parse


@pytest.mark.parametrize(
    ("marked", "text", "slots"),
    [
        ("to [Rome](city) now", "to Rome now", [AnnotatedSlot("city", 3, 7)]),
        ("[ NYC ](city:New York)", "NYC", [AnnotatedSlot("city", 0, 3, value="New York")]),
        (
            '  from [Rome]{"entity": "city", "role": "from", "group": 1, "value": "a]}"}!',
            "from Rome!",
            [AnnotatedSlot("city", 5, 9, role="from", group="1", value="a]}")],
        ),
        ('[two][{"entity": "number"}]', "two", [AnnotatedSlot("number", 0, 3)]),
        ("as [sic], [a][b], :-[ and f(x)", "as [sic], [a][b], :-[ and f(x)", []),
        ("我要去[罗马](城市)", "我要去罗马", [AnnotatedSlot("城市", 3, 5)]),
        ("[a](x)[b](y)", "ab", [AnnotatedSlot("x", 0, 1), AnnotatedSlot("y", 1, 2)]),
    ],
)
def test_marks_become_slots(marked: str, text: str, slots: list[AnnotatedSlot]) -> None:
    assert parse(marked) == Annotated(text, tuple(slots))


def test_of_several_entities_at_one_place_the_first_is_read_and_that_is_said() -> None:
    found = parse('[x][{"entity": "a"}, {"entity": "b"}]')
    assert [slot.name for slot in found.slots] == ["a"]
    assert "only the first entity" in found.notices[0]


@pytest.mark.parametrize(
    ("marked", "words"),
    [
        ("[Rome]()", "cannot name a slot"),
        ("[Rome](city", "has no `)`"),
        ("[Rome](city:)", "no value"),
        ("[](city)", "marks no text"),
        ("[ ](city)", "marks no text"),
        ("[Rome]{entity: city}", "broken JSON"),
        ("[Rome]{" + "[" * 10_000, "broken JSON"),
        ('[Rome]{"role": "to"}', "names no slot"),
        ('[Rome]{"entity": ""}', "must be text"),
        ('[Rome]{"entity": "city", "role": true}', "must be text"),
        ('[Rome]{"entity": "city", "rule": "to"}', "'rule'"),
        ("[a [Rome](city)](place)", "not inside one another"),
        ("Rome](city)", "belongs to no"),
        ("Rome](city) to [Oslo](city)", "belongs to no"),
    ],
)
def test_a_broken_annotation_says_what_to_do(marked: str, words: str) -> None:
    with pytest.raises(AnnotationError, match=words.replace("(", r"\(").replace(")", r"\)")):
        parse(marked)


@given(st.text('[]{}():ab"é \n', max_size=30) | st.text(max_size=30))
def test_any_text_is_read_or_refused_and_slots_lie_inside(marked: str) -> None:
    try:
        found = parse(marked)
    except AnnotationError:
        return
    assert found.text == found.text.strip()
    for slot in found.slots:
        written = found.text[slot.start : slot.end]
        assert written
        assert written == written.strip()


@given(st.text('[]{}():ab"é ', max_size=30))
def test_what_is_read_can_be_written_or_is_refused(marked: str) -> None:
    try:
        found = parse(marked)
        again = mark(found.text, found.slots)
    except AnnotationError:
        return
    assert parse(again) == found


def test_a_slot_with_brackets_cannot_be_marked() -> None:
    with pytest.raises(AnnotationError, match="write JSONL"):
        mark("play [x] now", [AnnotatedSlot("song", 5, 8)])

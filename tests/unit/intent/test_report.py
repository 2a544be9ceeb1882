"""The page that a person reads."""

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from intent.annotation import AnnotatedSlot
from intent.data import Example, TrainingSet, training_set
from intent.examination import examine
from intent.interface import OUT_OF_SCOPE, Prediction, Slot
from intent.report import points, render
from tests.fake_classifier import Parrot

HOSTILE = "<script>alert(1)</script>"
DATA = training_set(
    [
        Example(f"pay {HOSTILE}", "ship", f"{HOSTILE}.csv:2"),
        Example("pay the bill", "pay"),
        Example("退货 😀 pay", "退货"),
        Example("$x^2$ ship", "ship"),
        Example(f"sing {HOSTILE}", OUT_OF_SCOPE),
        Example("dance", OUT_OF_SCOPE),
    ]
)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        if tag not in {"meta", "br"}:
            self.open.append(tag)
        self.links += [
            value or "" for name, value in attributes if name in {"src", "href", "xlink:href"}
        ]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        last = self.open.pop()
        while last != tag and last in {"li", "p"}:  # may be left open
            last = self.open.pop()
        assert last == tag


def page(data: TrainingSet, intents: tuple[str, ...] = ("pay", "ship", "退货")) -> str:
    examples = [(example.text, example.intent) for example in data.examples]
    examination = examine(Parrot(*intents, examples=examples), data, basis="the tests")
    return render(examination, title=f"shop {HOSTILE}")


@pytest.fixture(scope="module")
def whole() -> str:
    return page(DATA)


def test_the_page_needs_nothing_but_itself(whole: str) -> None:
    tags = Tags()
    tags.feed(whole)
    assert not tags.open
    assert not {"script", "link", "img", "iframe"} & set(tags.opened)
    assert all(link.startswith("#") for link in tags.links)
    assert "@import" not in whole
    assert not re.search(r"url\((?!#)", whole)


def test_what_people_wrote_is_shown_and_never_obeyed(whole: str) -> None:
    assert "<script" not in whole
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in whole
    assert "退货 😀 pay" in whole


def test_it_holds_every_plot_in_colours_of_the_page(whole: str) -> None:
    assert whole.count('<svg role="img"') == 5
    assert "var(--main)" in whole
    assert not re.search(r"#0[1-5]0[1-5]0[1-5]", whole)
    assert "prefers-color-scheme: dark" in whole


def test_ids_in_the_page_are_unique_where_something_points_at_them(whole: str) -> None:
    for used in set(re.findall(r'(?:href="#|url\(#)([^")]+)', whole)):
        assert whole.count(f'id="{used}"') == 1


def test_the_same_examination_gives_the_same_page(whole: str) -> None:
    assert page(DATA) == whole


def test_without_out_of_scope_utterances_their_section_is_left_out() -> None:
    shorter = page(TrainingSet(DATA.examples))
    assert "Telling what is out of scope" not in shorter
    assert shorter.count('<svg role="img"') == 3


def test_one_utterance_that_is_right_makes_a_page() -> None:
    tiny = page(TrainingSet((Example("pay", "pay"),)))
    assert "100.0 %" in tiny
    assert "Wrong, and sure of it" not in tiny


def test_many_intents_are_folded_away_and_at_last_left_out() -> None:
    names = tuple(f"intent{n}" for n in range(520))
    data = training_set(Example(name, name) for name in names)
    folded = page(data, names)
    assert "The other 485" in folded
    assert "20 more are in the JSON" in folded


class Tagger(Parrot):
    """Takes the first word of every utterance for a slot."""

    def __init__(self, slot: str) -> None:
        super().__init__("pay", "ship")
        self.slot = slot

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]:
        ends = [len(text.split(" ")[0]) for text in texts]
        return [
            replace(found, slots=(Slot(self.slot, "", text[:end], 0, end),))
            for found, text, end in zip(super().classify_batch(texts), texts, ends, strict=True)
        ]


def test_slots_have_their_section_where_the_data_has_some(whole: str) -> None:
    assert "Slots, the weakest first" not in whole
    names = [f"{HOSTILE}{n}" for n in range(17)]
    examples = [
        Example(f"pay {HOSTILE}", "pay", slots=(AnnotatedSlot(name, 4, 10, role="<b>"),))
        for name in names
    ]
    right = Example("pay it", "pay", slots=(AnnotatedSlot("verb", 0, 3),))
    shown = render(
        examine(Tagger("verb"), training_set([*examples, right]), basis="the tests"), title="shop"
    )
    tags = Tags()
    tags.feed(shown)
    assert not tags.open
    assert "Slots, the weakest first" in shown
    assert "<script" not in shown
    assert "(&lt;b&gt;)</span> <q>&lt;scrip</q>" in shown
    assert "The other 3" in shown
    assert '<span class="wrong">verb</span> <q>pay</q>' in shown
    assert "<b>5.6 %</b><span>F1, all slots together</span>" in shown  # 1 of 18 found and expected


@pytest.mark.parametrize(
    ("difference", "shown"), [(-0.0658, "−6.6"), (0.012, "+1.2"), (-0.0001, "0.0"), (0, "0.0")]
)
def test_differences_are_shown_in_points(difference: float, shown: str) -> None:
    assert points(difference) == shown

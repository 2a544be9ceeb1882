"""What the reader is shown in one step: questions of one field, each beside a few of its pages.

Some of the answers are left out of their pages, so that the reader learns to see that a page
about the right thing does not answer.
"""

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass

from generator.teaching.lesson import Page, Question

NEAREST = 5
UNTOUCHED = 0.75
"""Of the questions, those without a typo."""
ANSWER_LEFT_OUT = 0.6
"""Of the pages that answer one of the questions."""
SHOWN_WITHOUT = 0.7
"""Of the questions whose only answer was left out, those that are read beside the copy."""
STRAY_BEFORE = 0.3
"""Of the questions that need no message before, those that have one of another subject."""
NONSENSE, INTERJECTIONS = 0.2, 0.2
"""Of the strangers; the others are questions to other fields."""
INTERJECTED = (
    "?", "...", "ok", "hmm", "lol", "no", "what", "why", "help", "test", "i see", "tell me",
    "yes please", "hello?", "really?",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drill:
    """A question, and what is confused with its answer."""

    question: Question
    nearest: Sequence[int]
    """The other pages of the field, those first that the untaught network finds first."""
    stray: str
    """Another question of the field, of which this one is no follow-up."""


@dataclass(frozen=True, slots=True)
class FieldDrills:
    name: str
    pages: tuple[Page, ...]
    drills: tuple[Drill, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A question beside a page, by their numbers in the exercise, and which of the page's
    sentences answer it."""

    question: int
    page: int
    support: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Exercise:
    asked: list[tuple[str, str]]
    """Text and message before, as careless as people write."""
    drills: list[Drill]
    pages: list[tuple[Page, int | None]]
    """All of the field, and then those that are shown once more without one sentence."""
    whole: int
    """How many pages are shown without anything left out."""
    pairs: list[Pair]


def draw_exercise(
    field: FieldDrills,
    draw: random.Random,
    *,
    questions: int,
    pages: int,
    strangers: int = 0,
    elsewhere: Sequence[FieldDrills] = (),
) -> Exercise:
    """`pages`: how many each question is read beside: its own and some of the nearest. So many of
    the `questions` are `strangers`: put to one of the fields `elsewhere`, or none at all."""
    drills = _of_like_length(field.drills, questions - strangers, draw)
    neighbours = [other for other in elsewhere if other.name != field.name]
    drills += [_stranger(field, neighbours, draw) for _ in range(strangers)]
    left_out = _left_out(drills, len(field.pages), draw)
    copies = {page: len(field.pages) + n for n, page in enumerate(left_out)}
    pairs: list[Pair] = []
    for number, drill in enumerate(drills):
        others = list(drill.nearest)
        beside = draw.sample(others, min(pages - 1, len(others)))
        pairs.append(_own_pair(number, drill.question, left_out, copies, draw))
        pairs += [Pair(number, page) for page in beside]
    shown: list[tuple[Page, int | None]] = [(page, None) for page in field.pages]
    shown += [(field.pages[page], sentence) for page, sentence in left_out.items()]
    asked = [careless(drill, draw) for drill in drills]
    return Exercise(asked, drills, shown, len(field.pages), pairs)


def _of_like_length(drills: Sequence[Drill], count: int, draw: random.Random) -> list[Drill]:
    """Neighbours in a roughly sorted row, so that little of a batch is padding."""

    def length(drill: Drill) -> float:
        question = drill.question
        return (len(question.text) + len(question.before)) * draw.uniform(0.75, 1.33)

    ordered = sorted(drills, key=length)
    start = draw.randrange(max(1, len(ordered) - count // 2))
    start = min(start, max(0, len(ordered) - count))
    return ordered[start : start + count]


def _stranger(field: FieldDrills, others: Sequence[FieldDrills], draw: random.Random) -> Drill:
    chance = draw.random()
    if chance < NONSENSE or not others:
        words = range(draw.randint(1, 4))
        text = " ".join(
            "".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 8))) for _ in words
        )
    elif chance < NONSENSE + INTERJECTIONS:
        text = draw.choice(INTERJECTED)
    else:
        text = draw.choice(draw.choice(others).drills).question.text
    page, *beside = draw.sample(range(len(field.pages)), min(NEAREST + 1, len(field.pages)))
    return Drill(Question(text, "", page, (), None), beside, draw.choice(field.drills).stray)


def _left_out(drills: Sequence[Drill], pages: int, draw: random.Random) -> dict[int, int]:
    """For more than half of the pages a sentence that answers one of the questions."""
    chosen: dict[int, int] = {}
    for page in range(pages):
        answered = [d.question for d in drills if d.question.page == page and d.question.support]
        if answered and draw.random() < ANSWER_LEFT_OUT:
            chosen[page] = draw.choice(draw.choice(answered).support)
    return chosen


def _own_pair(
    number: int,
    question: Question,
    left_out: dict[int, int],
    copies: dict[int, int],
    draw: random.Random,
) -> Pair:
    """Beside the page that answers it, or beside the copy that lacks a sentence: if that was the
    only one that answers, nothing does."""
    whole = Pair(number, question.page, question.support)
    missing = left_out.get(question.page)
    if missing is None or not question.support:
        return whole
    if set(question.support) == {missing}:
        return Pair(number, copies[question.page]) if draw.random() < SHOWN_WITHOUT else whole
    if missing not in question.support and draw.random() < 0.3:
        return Pair(number, copies[question.page], question.support)
    return whole


def careless(drill: Drill, draw: random.Random) -> tuple[str, str]:
    """Text and message before, with typos, with or without a capital and a question mark."""
    text = misspelt(drill.question.text, draw)
    before = drill.question.before
    chance = draw.random()
    if chance < 0.15:
        text = text.capitalize()
    elif chance < 0.25:
        text = text.rstrip("?")
    elif chance < 0.35 and not text.endswith("?"):
        text += "?"
    if not before and draw.random() < STRAY_BEFORE:
        before = drill.stray
    return text, before


def misspelt(text: str, draw: random.Random) -> str:
    """Mostly as it is; otherwise with a letter or two missing, swapped, doubled or replaced."""
    if draw.random() < UNTOUCHED or len(text) < 8:
        return text
    letters = list(text)
    for _ in range(1 if draw.random() < 0.7 else 2):
        at = draw.randrange(1, len(letters) - 1)
        kind = draw.random()
        if not letters[at].isalpha():
            continue
        if kind < 0.35:
            del letters[at]
        elif kind < 0.6:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        elif kind < 0.8:
            letters.insert(at, letters[at])
        else:
            letters[at] = draw.choice(string.ascii_lowercase)
    return "".join(letters)

"""What a step of the reader is pulled towards."""

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from generator.reader_graph import ABSENT
from generator.teaching.exercise import Drill, Exercise, FieldDrills, Pair, draw_exercise
from generator.teaching.lesson import (
    Field,
    Question,
)
from generator.teaching.page_memory import PageMemory
from generator.teaching.reader_base import base_network
from generator.teaching.reader_losses import (
    COMMON,
    answering_tokens,
    exercise_loss,
    finding_loss,
    page_loss,
    reading_loss,
    told_pages,
)
from generator.teaching.tokens import Tokens, padded, page_batch
from generator.vectors import MATCHED_WEIGHT

from .small_reader import vocabulary_of


def test_the_loss_of_reading_weighs_all_sentences_of_a_question_and_none_of_them() -> None:
    scores = torch.tensor([[3.0, 1.0], [1.0, 1.0], [1.0, 2.0]]).log()
    scores[1, 1] = ABSENT
    support = torch.tensor([[True, False], [False, False], [False, False]])
    questions = torch.tensor([0, 0, 1])
    answered, unanswered = 3 / (3 + 1 + 1 + 1), 1 / (1 + 2 + 1)
    loss = reading_loss(scores, support, questions).item()
    assert loss == pytest.approx(-(math.log(answered) + math.log(unanswered)) / 2)


def test_the_loss_of_finding_leaves_out_a_question_whose_sentence_was_cut_off() -> None:
    first, cut = Question("a", "", 0, (1,), "b"), Question("a", "", 1, (1,), "b")
    scaled = torch.tensor([[[1.0, 2.0], [3.0, 9.0]]]).expand(2, 2, 2)
    has = torch.tensor([[True, True], [True, False]])
    drills = [Drill(one, (), "") for one in (first, cut)]
    expected = torch.tensor([1.0, 2.0, 3.0]).logsumexp(0) - 2
    assert finding_loss(scaled, has, drills).item() == pytest.approx(expected.item(), abs=1e-4)
    assert finding_loss(scaled[1:], has, drills[1:]).item() == 0


def test_the_loss_of_a_page_wants_the_one_that_answers_above_the_others() -> None:
    answered, other = Question("a", "", 1, (0,), "b"), Question("a", "", 0, (), None)
    drills = [Drill(one, (), "") for one in (answered, other)]
    scaled = torch.tensor([[3.0, 4.0, 5.0], [9.0, 1.0, 2.0]])
    expected = (scaled[0].logsumexp(0) - scaled[0, 1]).item()
    assert page_loss(scaled, drills).item() == pytest.approx(expected, abs=1e-4)
    assert page_loss(scaled[1:], drills[1:]).item() == 0


def test_the_pointer_is_taught_what_the_answer_says_and_the_question_does_not(
    base: Path, fields: list[Field]
) -> None:
    field, tokens = fields[0], Tokens.load(base)
    network = base_network(base)
    network.rarity.fill_(COMMON + 1)
    question = next(one for one in field.questions if one.support)
    price = question.answer.split()[0]
    asked = [
        question,
        replace(question, answer="A fee is due, euros."),
        replace(question, answer="Yes."),
        replace(question, support=(), answer=None),
    ]
    batch = page_batch([tokens.page(page) for page in field.pages])
    pairs = [Pair(number, one.page, one.support) for number, one in enumerate(asked)]
    drills = [Drill(one, (), "") for one in asked]
    exercise = Exercise([], drills, [], len(field.pages), pairs)
    said = answering_tokens(network, tokens, batch, exercise)

    def texts(row: int) -> set[str]:
        return {words[one] for one in batch.ids[question.page][said[row]].tolist()}

    words = {number: word for word, number in vocabulary_of(base).items()}
    sentence = tokens.ids(field.pages[question.page].sentences[question.support[0]].shown)
    assert texts(0) == {price}
    assert texts(1) == {"euros"}
    assert texts(2) == {words[one] for one in sentence}
    assert texts(3) == set()


def test_pages_of_other_fields_come_as_close_as_if_they_were_read_now(
    base: Path, fields: list[Field]
) -> None:
    network, tokens = base_network(base).eval(), Tokens.load(base)
    memory = PageMemory()
    with torch.inference_mode():
        question = tokens.question(fields[0].questions[0].text)
        asked = network.ask(*padded([question, [*question, *question]]))
        for field in fields[:3]:
            told = network.tell(page_batch([tokens.page(page) for page in field.pages]))
            memory.keep(field.name, told, 2)
        memory.keep(field.name, told, 2)  # the same again: nothing stands there twice
        closest = network.closenesses(asked, told).amax(-1)
        whole = closest + MATCHED_WEIGHT * network.matched(asked, told).pages
        assert memory.draw(fields[2].name, 5, random.Random(0)) is None
        assert memory.draw("", 7, random.Random(0)) is None
        others = memory.draw("", 6, random.Random(0))
        assert others is not None
        found = others.found(asked)
    for page in range(2):
        assert (found - whole[:, page, None]).abs().amax(0).min() < 1e-5


def test_a_page_is_searched_for_among_those_of_other_fields_too(
    base: Path, fields: list[Field]
) -> None:
    """Here those are the same pages once more, so that each question has twice as many to choose
    from, and none that is more like it."""
    network, tokens, field = base_network(base).eval(), Tokens.load(base), fields[0]
    drills = tuple(Drill(one, (1, 2), "") for one in field.questions)
    exercise = draw_exercise(
        FieldDrills(field.name, field.pages, drills), random.Random(1), questions=9, pages=2
    )
    told, memory = told_pages(network, tokens, exercise), PageMemory()
    memory.keep("twin", told, exercise.whole)
    others = memory.draw(field.name, exercise.whole, random.Random(0))
    assert others is not None
    (_, alone), (_, beside) = (
        exercise_loss(network, tokens, exercise, told, random.Random(2), others=one)
        for one in (None, others)
    )
    assert beside.pop("searching") == pytest.approx(alone.pop("searching") + math.log(2), abs=1e-3)
    assert beside == pytest.approx(alone)

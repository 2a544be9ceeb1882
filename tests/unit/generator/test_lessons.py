"""What the reader and the writer are taught from, and what a step shows of it."""

import json
import random
from pathlib import Path

import pytest

from generator.teaching.exercise import Drill, FieldDrills, draw_exercise
from generator.teaching.lesson import (
    Field,
    TeachingError,
    read_answers,
    read_faq,
    split,
)
from generator.teaching.tokens import Tokens


def test_questions_know_their_page_the_sentences_that_answer_and_what_was_said_before(
    fields: list[Field],
) -> None:
    field = fields[0]
    asked, also, later, unanswered, unanswered_later = field.questions[:5]
    assert (asked.page, asked.support, asked.before) == (0, (0,), "")
    assert also.answer == asked.answer
    assert (later.text, later.support) == ("from when on", (1,))
    assert later.before.startswith("can I borrow a ")
    assert (unanswered.support, unanswered.answer) == ((), None)
    assert unanswered.text.startswith("is the ")
    assert (unanswered_later.text, unanswered_later.support) == ("and for groups", ())
    assert unanswered_later.before.startswith("how much is a ")


def test_an_answer_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "shop.yml").write_text("field: shop\npassages: 3\n", "utf-8")
    with pytest.raises(TeachingError, match=r"shop\.yml is no answer file"):
        read_answers(tmp_path)
    with pytest.raises(TeachingError, match="holds no answer files"):
        read_answers(tmp_path / "nowhere")


def test_two_answer_files_about_one_field_are_refused(answers: Path, tmp_path: Path) -> None:
    for name in ("pool", "also_pool"):
        (tmp_path / f"{name}.yml").write_bytes((answers / "pool.yml").read_bytes())
    with pytest.raises(TeachingError, match="2 files are about pool"):
        read_answers(tmp_path)


def test_a_field_to_validate_with_must_be_there_and_is_not_learnt_from(
    fields: list[Field],
) -> None:
    with pytest.raises(TeachingError, match="zoo"):
        split(fields, ["zoo"])
    learnt, validation = split(fields, ["pool"])
    assert [one.name for one in validation] == ["pool"]
    assert "pool" not in [one.name for one in learnt]
    with pytest.raises(TeachingError, match="leave some"):
        split(fields, [one.name for one in fields])


def test_frequent_questions_become_pages_of_five_answers(tmp_path: Path) -> None:
    rows = [
        {"domain": "hotel", "entity": "Inn", "question": f"q {n}?", "answer": f"a {n}."}
        for n in range(13)
    ]
    rows += [{**rows[0], "question": "the same again?"}, {**rows[0], "entity": "with too few"}]
    file = tmp_path / "faq.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (field,) = read_faq(file)
    assert [len(page.sentences) for page in field.pages] == [5, 5, 3]
    assert len(field.questions) == 13
    for question in field.questions:
        (number,) = question.support
        assert field.pages[question.page].sentences[number].shown == question.answer
    file.write_text('{"domain": "hotel"}\n')
    with pytest.raises(TeachingError, match=r"faq\.jsonl:1"):
        read_faq(file)


def test_where_its_only_answer_is_left_out_a_question_has_none(fields: list[Field]) -> None:
    field = fields[0]
    drills = tuple(Drill(one, (), "anything else") for one in field.questions)
    whole, left_out = 0, 0
    for seed in range(20):
        draw = random.Random(seed)
        exercise = draw_exercise(FieldDrills("", field.pages, drills), draw, questions=9, pages=1)
        for pair in exercise.pairs:
            question = exercise.drills[pair.question].question
            page, missing = exercise.pages[pair.page]
            assert page is field.pages[question.page]
            if missing in question.support:
                left_out += 1
                assert pair.support == ()
            elif question.support:
                whole += 1
                assert pair.support == question.support
    assert left_out > 10
    assert whole > 10


def test_nothing_answers_a_stranger_whose_question_comes_from_elsewhere_or_nowhere(
    fields: list[Field],
) -> None:
    here, there = (
        FieldDrills(field.name, field.pages, tuple(Drill(q, (), q.text) for q in field.questions))
        for field in fields[:2]
    )
    own, other = ({drill.question.text for drill in each.drills} for each in (here, there))
    seen: set[str] = set()
    for seed in range(20):
        exercise = draw_exercise(
            here, random.Random(seed), questions=8, pages=2, strangers=3, elsewhere=[here, there]
        )
        strangers = exercise.drills[-3:]
        assert len(exercise.drills) == 8
        assert not {drill.question.text for drill in strangers} & (own - other)
        assert all(pair.support == () for pair in exercise.pairs if pair.question >= 5)
        seen |= {drill.question.text for drill in strangers}
    assert seen & (other - own)
    assert seen - other


def test_a_sentence_that_is_left_out_is_not_read_and_the_others_keep_their_numbers(
    base: Path, fields: list[Field]
) -> None:
    tokens = Tokens.load(base)
    page = fields[0].pages[0]
    whole, partly = tokens.page(page), tokens.page(page, left_out=0)
    first, second, _ = whole.spans
    assert first is not None
    assert second is not None
    assert partly.spans[0] is None
    start, end = partly.spans[1] or (0, 0)
    assert partly.ids[start:end] == whole.ids[second[0] : second[1]]
    assert len(partly.ids) == len(whole.ids) - (first[1] - first[0])

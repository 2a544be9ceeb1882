"""The written questions and answers keep their promises."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[3] / "benchmarks" / "answers"
FILES = sorted(FOLDER.glob("*/*.yml"))
NUMBER = re.compile(r"\d[\d.,:]*\d|\d")


@cache
def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader)
    return found


def entries(passage: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = passage["questions"] + passage.get("follow_ups", [])
    return found


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_answer_stands_in_its_passage(path: Path) -> None:
    for passage in read(path)["passages"]:
        text = one_line(passage["text"])
        for entry in entries(passage):
            assert entry["ask"]
            assert entry["from"]
            for quote in entry["from"]:
                assert one_line(quote) in text
            for number in NUMBER.findall(entry["say"]):
                assert number in f"{passage['title']} {text}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_is_asked_both_as_answered_and_as_not(path: Path) -> None:
    passages = read(path)["passages"]
    answered = {
        ask.casefold() for p in passages for entry in p["questions"] for ask in entry["ask"]
    }
    unanswered = [u for p in passages for u in [*p["unanswered"], *p.get("near_misses", [])]]
    assert not answered.intersection(u.casefold() for u in unanswered)
    for passage in passages:
        for entry in passage.get("unanswered_follow_ups", []):
            assert entry["ask"]
            assert set(entry["before"]) == {"user", "bot"}
            assert set(entry) == {"before", "ask"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_question_lacks_is_marked_in_its_own_words(path: Path) -> None:
    for passage in read(path)["passages"]:
        follow_ups = (entry["ask"] for entry in passage.get("unanswered_follow_ups", []))
        for asked in (passage["unanswered"], *follow_ups):
            marks = asked.items() if isinstance(asked, dict) else ()
            for question, lacking in marks:
                for piece in lacking.split(" | "):
                    assert piece.strip() == piece != ""
                    assert piece in question


def test_a_passage_of_the_town_is_known_by_its_title() -> None:
    town = [read(path) for path in FILES if path.parent.name == "town"]
    assert {field["organisation"] for field in town} == {"Town of Harrowmere"}
    titles = [passage["title"] for field in town for passage in field["passages"]]
    assert len(titles) == len(set(titles)) == 500


def test_held_out_fields_share_no_question_with_the_others() -> None:
    asked: dict[str, set[str]] = {"train": set(), "heldout": set(), "town": set()}
    for path in FILES:
        for passage in read(path)["passages"]:
            for entry in passage["questions"]:  # follow-ups are short, and alike everywhere
                asked[path.parent.name] |= {ask.casefold() for ask in entry["ask"]}
    assert asked["train"]
    assert asked["heldout"]
    shared = asked["train"] & (asked["heldout"] | asked["town"])
    assert not {ask for ask in shared if len(ask.split()) > 4}

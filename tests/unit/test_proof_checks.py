"""The proof's checks find what they are there for, and are quiet where all is well."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import pytest

from tests.proof.checks import compare
from tests.proof.load import Said, Truth
from tests.proof.stand_ins import GREETINGS, digest

Rows = dict[str, list[dict[str, Any]]]

TEXTS = ("hello 1", "say 3 at 0 2", "hello 3")
GENERATED = f"[{digest([('user', TEXTS[0]), ('assistant', GREETINGS[0])])} 0123abcd] 0123abcd-1 "
REPLIES = (GREETINGS[0], GENERATED, GREETINGS[1])


def a_turn(number: int) -> dict[str, Any]:
    return {
        "id": f"turn-{number}",
        "conversation_id": "talk",
        "owner": "key:ada",
        "seq": number,
        "text": TEXTS[number - 1],
        "reply": REPLIES[number - 1],
        "status": "done",
        "route": "generate" if number == 2 else "instant",
        "fence": 1,
        "finished_at": float(number),
    }


def all_well() -> tuple[Truth, Rows]:
    versions = [(1, None), (2, "job")]
    rows = {
        "turns": [a_turn(number) for number in (1, 2, 3)],
        "conversations": [{"id": "talk", "owner": "key:ada", "next_seq": 4}],
        "jobs": [{"id": "job", "status": "succeeded", "model_version": 2}],
        "versions": [{"number": one, "training_job_id": job} for one, job in versions],
        "promotions": [{"epoch": 1, "model_version": 1}, {"epoch": 2, "model_version": 2}],
    }
    truth = Truth(conversations={"talk": "ada"}, promotions={2: 2})
    truth.jobs["job"] = {"status": "succeeded", "model_version": 2}
    for number, turn in enumerate(rows["turns"]):
        said = Said("ada", "talk", turn["text"], f"key-{number}", posted_at=float(2 * number))
        said.hear(dict(turn))
        said.acknowledged_at = 2.0 * number + 1
        said.streams.append(turn["reply"])
        truth.said.append(said)
    return truth, rows


def kinds(truth: Truth, rows: Mapping[str, Any]) -> set[str]:
    return {one.kind for one in compare(truth, rows)}


def test_where_all_is_well_nothing_is_found() -> None:
    assert compare(*all_well()) == []


def _double(truth: Truth, rows: Rows) -> None:
    rows["turns"].append(rows["turns"][0] | {"id": "another", "seq": 4})
    rows["conversations"][0]["next_seq"] = 5


def _swap(truth: Truth, rows: Rows) -> None:
    truth.said[0].seq, truth.said[2].seq = 3, 1


def _forget_history(truth: Truth, rows: Rows) -> None:
    reply = f"[{digest([])} 0123abcd] 0123abcd-1 "
    rows["turns"][1]["reply"] = truth.said[1].streams[0] = reply
    truth.said[1].final = rows["turns"][1]


def _greet_again(truth: Truth, rows: Rows) -> None:
    rows["turns"][2]["reply"] = truth.said[2].streams[0] = GREETINGS[0]
    truth.said[2].final = rows["turns"][2]


def _leave_open(truth: Truth, rows: Rows) -> None:
    rows["turns"][2] |= {"status": "generating"}


def _same_turn_twice(truth: Truth, rows: Rows) -> None:
    truth.said[0].hear(rows["turns"][0] | {"id": "another"})


DAMAGES: Mapping[str, tuple[Callable[[Truth, Rows], Any], str]] = {
    "a turn is gone": (lambda truth, rows: rows["turns"].pop(), "lost"),
    "a conversation is gone": (lambda truth, rows: rows["conversations"].pop(), "lost"),
    "an end is taken back": (_leave_open, "lost"),
    "a message is stored twice": (_double, "doubled"),
    "one key is two turns": (_same_turn_twice, "doubled"),
    "numbers are swapped": (_swap, "out of order"),
    "a number is left out": (lambda truth, rows: rows["turns"][2].update(seq=4), "out of order"),
    "a reply knows no history": (_forget_history, "wrong history"),
    "a greeting is said again": (_greet_again, "wrong history"),
    "a stream says more": (lambda truth, rows: truth.said[1].streams.append("x"), "stream differs"),
    "a text is another": (lambda truth, rows: rows["turns"][0].update(text="hm"), "altered"),
    "a version is gone": (lambda truth, rows: rows["versions"].pop(), "lost"),
    "a version is doubled": (
        lambda truth, rows: rows["versions"].append({"number": 3, "training_job_id": "job"}),
        "doubled",
    ),
    "a promotion is gone": (lambda truth, rows: rows["promotions"].pop(), "lost"),
    "a turn was started three times": (
        lambda truth, rows: rows["turns"][1].update(fence=3),
        "other",
    ),
    "a reply was a 500": (lambda truth, rows: truth.unexpected.append("500 internal"), "other"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(damage: str) -> None:
    truth, rows = deepcopy(all_well())
    do, kind = DAMAGES[damage]
    do(truth, rows)
    assert kind in kinds(truth, rows)

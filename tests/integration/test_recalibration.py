"""Recalibrating as an operator does: draw, label, recalibrate, and take it back."""

from collections.abc import Iterator
from typing import Any

import pytest

from app.settings import Settings
from tests.integration.conftest import Served, serving
from tests.integration.routes import assert_problem, table_contents
from tests.unit.app import traffic
from tests.unit.app.traffic import FAREWELL, GREETING, STRANGE, USUAL, WRONG

SAMPLE = "/admin/sample"
RECALIBRATE = "/admin/model-versions/recalibrate"
LABELS = {one.text: one.label for one in (*USUAL, WRONG)}


@pytest.fixture
def served(settings: Settings) -> Iterator[Served]:
    promise = {"max_wrong_instant": 0.2, "least_in_scope": 0.8}
    with serving(
        settings.model_copy(update=promise),
        teach=False,
        load=lambda _: traffic.network((*USUAL, WRONG)),
    ) as running:
        traffic.teach(running.services.database)
        running.client.portal.call(running.services.live.refresh)
        yield running


def test_from_a_sample_to_a_certificate_and_back(served: Served) -> None:
    start = _get(served, SAMPLE)
    assert (start["state"], start["sample"], start["available"]) == ("none", None, 0)
    needed = start["needed"]
    assert needed > 20
    assert assert_problem(_post(served, SAMPLE), 409)["code"] == "too_few_messages"
    assert assert_problem(_post(served, RECALIBRATE), 409)["code"] == "no_sample"
    _talk(served, needed)
    drawn = _post(served, SAMPLE)
    assert drawn.status_code == 201
    assert (drawn.json()["turns"], drawn.json()["labelled"]) == (needed, 0)
    assert assert_problem(_post(served, SAMPLE), 409)["code"] == "sample_changed"
    assert assert_problem(_post(served, RECALIBRATE), 409)["code"] == "labels_missing"

    _label_all(served)
    assert _get(served, SAMPLE)["state"] == "complete"
    labelled = _get(served, f"{SAMPLE}/turns?labelled=true&limit=200")["items"]
    assert {(one["text"], one["intent"] or one["label"]) for one in labelled} == {
        ("hello", "greet"),
        ("bye", "leave"),
        ("sing", "out_of_scope"),
    }
    assert all(one["labelled_by"].startswith("key:") for one in labelled)
    late = _post(served, RECALIBRATE, expected_epoch=0)
    assert assert_problem(late, 409)["code"] == "epoch_changed"

    done = _post(served, RECALIBRATE, expected_epoch=1).json()
    certificate = done["certificate"]
    assert (certificate["certified"], certificate["basis"]) == (True, "reviewed")
    assert certificate["period"] == ["2026-09-21", "2026-09-21"]
    assert (done["epoch"], done["unknown"]) == (2, 0)
    shown = _get(served, f"/admin/model-versions/{done['live']}")
    assert (shown["live"], shown["network_of"], shown["certificate"]) == (True, 1, certificate)
    assert shown["sha256"] == _get(served, "/admin/model-versions/1")["sha256"]
    assert _route(served)["certificate"]["basis"] == "reviewed"
    assert _get(served, SAMPLE)["state"] == "served"
    assert _get(served, "/admin/drift")["state"] == "too_few"  # it is compared anew
    assert assert_problem(_post(served, RECALIBRATE), 409)["code"] == "sample_closed"

    assert _post(served, "/admin/model-versions/rollback").json()["live"] == 1
    assert _route(served)["certificate"]["basis"] is None  # the fake one, of the artefact


def test_a_label_is_given_once_by_a_key_and_taken_back(served: Served) -> None:
    _talk(served, 150)
    _post(served, SAMPLE)
    first, second, *_ = _get(served, f"{SAMPLE}/turns")["items"]
    assert [one["intent"] for one in first["choices"]] == sorted(
        one["intent"] for one in first["choices"]
    )
    assert "decision" not in first
    url = f"{SAMPLE}/turns/{first['turn_id']}"
    told = _post(served, url, intent="leave").json()
    assert told["labelled"] == 1
    again = _post(served, url, cannot_tell=True)
    assert assert_problem(again, 409)["code"] == "already_labelled"
    unlabelled = _get(served, f"{SAMPLE}/turns")["items"]
    assert unlabelled[0]["turn_id"] == second["turn_id"]
    after = _get(served, f"{SAMPLE}/turns?after={second['place']}&limit=1")["items"]
    assert after == unlabelled[1:2]
    back = served.client.delete(url, headers=served.admin)
    assert back.json()["labelled"] == 0
    assert _get(served, f"{SAMPLE}/turns")["items"][0] == first
    # What is labelled here teaches nothing.
    assert _get(served, "/admin/intents/leave/examples")["items"] == []


def test_what_cannot_be_labelled_changes_nothing(served: Served) -> None:
    _talk(served, 150)
    _post(served, SAMPLE)
    turn = _get(served, f"{SAMPLE}/turns")["items"][0]["turn_id"]
    before = table_contents(served)
    for whose, label, status in (
        (turn, {}, 422),
        (turn, {"intent": "greet", "cannot_tell": True}, 422),
        (turn, {"cannot_tell": "yes"}, 422),
        (turn, {"intent": "no_such_intent"}, 404),
        ("0" * 32, {"cannot_tell": True}, 404),
    ):
        assert_problem(_post(served, f"{SAMPLE}/turns/{whose}", **label), status)
    assert_problem(served.client.delete(f"{SAMPLE}/turns/{'0' * 32}", headers=served.admin), 404)
    assert_problem(_post(served, SAMPLE, replaces="0" * 32), 409)
    assert_problem(_post(served, f"{SAMPLE}/enlarge", replaces="0" * 32), 409)
    assert_problem(_post(served, RECALIBRATE, even_uncertified="yes"), 422)
    assert table_contents(served) == before


def test_labels_that_break_the_promise_are_told_and_the_old_version_answers_on(
    served: Served,
) -> None:
    needed = _get(served, SAMPLE)["needed"]
    traffic.talk(served.services.database, 1, [WRONG] * needed)
    _post(served, SAMPLE)
    _label_all(served)
    told = _post(served, RECALIBRATE).json()
    assert (told["certificate"]["certified"], told["live"], told["epoch"]) == (False, None, 1)
    progress = _get(served, SAMPLE)
    assert progress["state"] == "uncertified"
    assert progress["sample"]["verdict"] == {
        "certified": False,
        "doubt": told["certificate"]["doubt"],
        "more": told["more"],
        "model_version": None,
    }
    assert len(_get(served, "/admin/model-versions")["items"]) == 1
    wanted = _post(served, RECALIBRATE, even_uncertified=True).json()
    assert (wanted["epoch"], wanted["certificate"]["certified"]) == (2, False)
    assert _route(served)["decision"]["basis"] == "uncertified"


def _talk(served: Served, count: int) -> None:
    strange = count // 6
    said = [STRANGE] * strange + [GREETING, FAREWELL] * (count - strange)
    traffic.talk(served.services.database, 1, said[:count])


def _label_all(served: Served) -> None:
    while items := _get(served, f"{SAMPLE}/turns?limit=200")["items"]:
        for one in items:
            url = f"{SAMPLE}/turns/{one['turn_id']}"
            assert _post(served, url, intent=LABELS[one["text"]]).status_code == 200


def _route(served: Served) -> Any:
    return served.client.post("/v1/route", json={"text": "bye"}, headers=served.user).json()


def _post(served: Served, url: str, **body: object) -> Any:
    return served.client.post(url, json=body, headers=served.admin)


def _get(served: Served, url: str) -> dict[str, Any]:
    got = served.client.get(url, headers=served.admin)
    assert got.status_code == 200, got.text
    found: dict[str, Any] = got.json()
    return found

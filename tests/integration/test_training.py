"""Training over HTTP with the real trainer: a process of its own, watched, cancelled, killed."""

import json
from collections.abc import Iterator

import psutil
import pytest

from app.main import load_classifier
from app.settings import Settings
from tests.integration.conftest import Served, serving
from tests.integration.routes import assert_problem, table_contents

LESSON = {
    "greet": ["hello", "hello there", "hello you", "oh hello", "well hello", "hello again",
              "a big hello", "hello friend"],
    "goodbye": ["bye", "bye bye", "bye now", "ok bye", "bye for today", "well bye",
                "bye everybody", "bye then"],
    "return_item": ["return this", "return my shoes", "can I return it", "return the order",
                    "how to return", "I want to return", "return please", "return a gift"],
    "out_of_scope": ["do my taxes", "who won the match", "write a poem", "is it raining"],
}  # fmt: skip


@pytest.fixture
def trainable(settings: Settings) -> Iterator[Served]:
    """A server that trains; its intents have examples."""
    changed = settings.model_copy(update={"embedded_worker": True})
    with serving(changed, load=load_any) as served:
        for name, texts in LESSON.items():
            served.client.post("/admin/intents", json={"name": name}, headers=served.admin)
            _teach(served, name, texts)
        yield served


def load_any(artifact: bytes):
    """The real thing, but for the version that a fresh test server begins with."""
    from tests.fakes import FakeClassifier
    from tests.integration.conftest import PREDICTIONS

    if artifact == b"a fake network":
        return FakeClassifier(PREDICTIONS)
    return load_classifier(artifact)


def test_a_job_becomes_a_version_that_answers_once_it_is_promoted(trainable: Served) -> None:
    served = trainable
    conversation = served.conversation()
    queued = _start(served)
    assert (queued["status"], queued["error"], queued["model_version"]) == ("queued", None, None)

    events = _events(served, queued["id"])
    assert [name for name, _ in events[-1:]] == ["done"]
    assert {name for name, _ in events[:-1]} == {"progress"}
    done = events[-1][1]
    assert done == _job(served, queued["id"])
    assert (done["status"], done["error"]) == ("succeeded", None)
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]
    history = done["progress"]["history"]
    numbers = [one["epoch"] for one in history]
    assert numbers == sorted(set(numbers))
    assert done["progress"]["epoch"] == numbers[-1] == done["progress"]["epochs"]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    for number in ("valid_loss", "valid_accuracy", "gradient_norm", "seconds"):
        assert isinstance(history[0][number], float)

    number = done["model_version"]
    version = _get(served, f"/admin/model-versions/{number}")
    assert (version["live"], version["training_job"]) == (False, queued["id"])
    assert (version["intents"], version["examples"]) == (3, 24)
    assert 0 <= version["evaluation"]["accuracy"] <= 1
    assert served.say(conversation, "hello").json()["model_version"] == 1  # until it is promoted

    promoted = served.client.post(
        f"/admin/model-versions/{number}/promote", json={}, headers=served.admin
    )
    assert promoted.json()["live"] == number
    asked = {"text": "can I return it"}
    route = served.client.post("/v1/route", json=asked, headers=served.user).json()
    assert route["prediction"]["intent"] == "return_item"
    turn = served.say(conversation, "can I return it").json()
    assert (turn["status"], turn["model_version"]) == ("done", number)


def test_thin_and_contradictory_examples_make_a_version_that_says_so_and_still_answers(
    trainable: Served,
) -> None:
    """Eight examples an intent, one of them under two intents, one of them twice."""
    served = trainable
    _teach(served, "goodbye", ["hello friend", "Bye!"])
    done = _events(served, _start(served)["id"])[-1][1]
    assert done["status"] == "succeeded"
    path = f"/admin/model-versions/{done['model_version']}"
    certificate = served.client.get(path, headers=served.admin).json()["certificate"]
    assert (certificate["certified"], certificate["doubt"]) == (False, "nothing_unseen")
    promoted = served.client.post(f"{path}/promote", json={}, headers=served.admin)
    assert promoted.status_code == 200

    def asked(text: str) -> dict:
        response = served.client.post("/v1/route", json={"text": text}, headers=served.user)
        assert response.status_code == 200
        return response.json()

    for text in ("return my shoes", "Can I return it?", "bye now"):
        known = asked(text)
        assert known["decision"]["basis"] == "uncertified"
        assert known["decision"]["route"] == "instant", known
        assert not known["certificate"]["certified"]
    assert asked("hello friend")["decision"]["route"] != "instant"
    assert asked("write a poem")["decision"]["route"] == "generate"


def test_jobs_run_one_after_another_and_chats_go_on(trainable: Served) -> None:
    served = trainable
    conversation = served.conversation()
    first, second, third = (_start(served)["id"] for _ in range(3))

    cancelled = _cancel(served, third)
    assert (cancelled["status"], cancelled["started_at"]) == ("cancelled", None)
    assert [name for name, _ in _events(served, third)] == ["done"]

    while (now := _statuses(served))[first] in ("queued", "running"):
        assert now[second] == "queued"
        assert served.say(conversation, "hello").json()["reply"] in ("Hello!", "Hi there!")
    assert now[first] == "succeeded"

    while _statuses(served)[second] == "queued":
        pass
    assert _cancel(served, second)["status"] in ("running", "cancelled")
    ended = _events(served, second)[-1][1]
    assert (ended["status"], ended["error"], ended["model_version"]) == ("cancelled", None, None)
    assert _children() == []
    assert _statuses(served) == {first: "succeeded", second: "cancelled", third: "cancelled"}
    assert len(_get(served, "/admin/model-versions")["items"]) == 2
    for job, status in _statuses(served).items():  # what has ended stays as it ended
        assert _cancel(served, job)["status"] == status


def test_examples_that_cannot_train_are_listed_and_nothing_else_changes(
    settings: Settings,
) -> None:
    changed = settings.model_copy(update={"embedded_worker": True})
    with serving(changed) as served:
        _teach(served, "greet", ["hello"])
        before = table_contents(served)
        job = _events(served, _start(served)["id"])[-1][1]
        assert (job["status"], job["model_version"]) == ("failed", None)
        assert job["error"]["code"] == "bad_training_data"
        assert any("greet" in one for one in job["error"]["problems"])
        assert not any("/" in one for one in job["error"]["problems"]), "a path of ours"
        after = table_contents(served)
        assert after.pop("training_jobs") != before.pop("training_jobs")
        assert after == before
        assert served.say(served.conversation(), "hello").json()["reply"] == "Hello!"
        # Once mended, nothing stands in the way.
        for name, texts in LESSON.items():
            served.client.post("/admin/intents", json={"name": name}, headers=served.admin)
            _teach(served, name, texts)
        problems = _get(served, "/admin/training-data/lint")["problems"]
        assert "error" not in {one["severity"] for one in problems}


def test_a_training_process_that_dies_is_a_failed_job(trainable: Served) -> None:
    served = trainable
    job = _start(served)["id"]
    _child_of(served, job).kill()
    ended = _events(served, job)[-1][1]
    assert (ended["status"], ended["error"]["code"]) == ("failed", "training_process_failed")
    assert len(_get(served, "/admin/model-versions")["items"]) == 1
    assert served.say(served.conversation(), "hello").json()["reply"] == "Hello!"
    # The worker lives on: the next job is taken up.
    again = _start(served)["id"]
    _child_of(served, again)
    _cancel(served, again)
    assert _events(served, again)[-1][1]["status"] == "cancelled"


@pytest.mark.parametrize(
    ("limit", "code"),
    [({"training_seconds": 0.001}, "too_slow"), ({"training_memory_mb": 1}, "too_large")],
)
def test_a_job_over_its_limits_is_stopped(settings: Settings, limit: dict, code: str) -> None:
    changed = settings.model_copy(update={"embedded_worker": True, **limit})
    with serving(changed) as served:
        for name in ("greet", "goodbye"):
            _teach(served, name, LESSON[name])
        ended = _events(served, _start(served)["id"])[-1][1]
        assert (ended["status"], ended["error"]["code"]) == ("failed", code)
        assert _children() == []


def test_a_server_that_stops_takes_its_training_process_along(settings: Settings) -> None:
    changed = settings.model_copy(update={"embedded_worker": True})
    with serving(changed) as served:
        for name in ("greet", "goodbye"):
            _teach(served, name, LESSON[name])
        child = _child_of(served, _start(served)["id"])
    assert not child.is_running()


def test_the_queue_has_an_end(settings: Settings) -> None:
    changed = settings.model_copy(update={"max_training_jobs_waiting": 2})
    with serving(changed) as served:
        jobs = [_start(served)["id"] for _ in range(2)]
        refused = served.client.post("/admin/training-jobs", json={}, headers=served.admin)
        assert assert_problem(refused, 503)["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        _cancel(served, jobs[0])
        assert _start(served)["status"] == "queued"


def _teach(served: Served, name: str, texts: list[str]) -> None:
    added = served.client.post(
        f"/admin/intents/{name}/examples", json={"texts": texts}, headers=served.admin
    )
    assert added.status_code == 201, added.text


def _start(served: Served) -> dict:
    started = served.client.post("/admin/training-jobs", json={}, headers=served.admin)
    assert started.status_code == 202, started.text
    assert started.headers["location"] == f"/admin/training-jobs/{started.json()['id']}"
    return started.json()


def _cancel(served: Served, job: str) -> dict:
    url = f"/admin/training-jobs/{job}/cancel"
    return served.client.post(url, headers=served.admin).json()


def _get(served: Served, url: str) -> dict:
    got = served.client.get(url, headers=served.admin)
    assert got.status_code == 200, got.text
    return got.json()


def _job(served: Served, job: str) -> dict:
    return _get(served, f"/admin/training-jobs/{job}")


def _statuses(served: Served) -> dict[str, str]:
    items = _get(served, "/admin/training-jobs")["items"]
    return {one["id"]: one["status"] for one in items}


def _events(served: Served, job: str) -> list[tuple[str, dict]]:
    """Listens until the job has ended."""
    got = served.client.get(f"/admin/training-jobs/{job}/events", headers=served.admin)
    assert got.headers["content-type"].startswith("text/event-stream")
    events, name = [], ""
    for line in got.text.splitlines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            events.append((name, json.loads(line.removeprefix("data: "))))
    return events


def _children() -> list[psutil.Process]:
    """The training processes that this test process has started."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "intent" in child.cmdline() and "train" in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue  # it has ended meanwhile
    return found


def _child_of(served: Served, job: str) -> psutil.Process:
    while not (found := _children()):
        assert _job(served, job)["status"] in ("queued", "running")
    return found[0]

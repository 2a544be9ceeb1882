"""A remote engine in every bad state, behind the whole server: the chat goes on without it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.dialogue.wording import APOLOGY
from app.errors import ConfigurationError
from app.main import build_generator, create_app
from app.settings import Settings
from tests.fake_engine import (
    DONE,
    STREAM,
    TLS_ALERT,
    delta,
    fake_engine,
    status,
    url_of_nobody,
)
from tests.integration.conftest import Served, serving

OPEN_ENDED = "tell me a story"
ANSWERS = {
    "a web page": (status(200, "Content-Type: text/html"), "generator_unavailable"),
    "JSON of another kind": (
        status(200, "Content-Type: application/json"),
        "generator_unavailable",
    ),
    "no such address": (status(404), "generator_unavailable"),
    "a wrong key": (status(401), "generator_unavailable"),
    "a defect": (status(500), "generator_unavailable"),
    "full": (status(429, "Retry-After: 0"), "generator_overloaded"),
    "a rejected request": (status(422), "generator_refused"),
    "elsewhere": (status(307, "Location: http://127.0.0.1:9/"), "generator_unavailable"),
    "TLS": (TLS_ALERT, "generator_unavailable"),
    "noise": (b"\xff\x00\r\n\r\n" * 99, "generator_unavailable"),
    "nothing": (b"", "generator_unavailable"),
    "no events": (STREAM, "generator_failed"),
    "an end at once": (STREAM + DONE, "generator_failed"),
    "a line without end": (STREAM + b"data: " + b"x" * 300_000, "generator_failed"),
    "bytes that are no text": (STREAM + b"data: \xff\xfe\n\n", "generator_failed"),
    "events of another kind": (STREAM + b'data: {"choices": 3}\n\n', "generator_failed"),
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The databases are alike here; those of SQLite are made quicker."""
    return Settings(
        _env_file=None, database_url=f"sqlite:///{tmp_path / 'twofold.db'}", data_dir=tmp_path
    )


@contextmanager
def chat_with(settings: Settings, url: str, **changes: object) -> Iterator[Served]:
    remote = {"generators": "remote, embedded", "remote_url": url, "remote_model": "tiny"}
    settings = settings.model_copy(update=remote | changes)
    with serving(settings, build_generator(settings)) as served:
        yield served


def assert_the_chat_goes_on(served: Served, error: str, *, turns: int = 3) -> None:
    conversation = served.conversation()
    for number in range(turns):
        known = served.say(conversation, "hello").json()
        assert known["reply"] == ("Hello!", "Hi there!")[number % 2]
        assert (known["decision"]["route"], known["skipped"]) == ("instant", [])
        told = served.say(conversation, OPEN_ENDED).json()
        assert (told["status"], told["generator"]) == ("done", "embedded")
        assert (told["degraded"], told["reply"] != "") == ("fallback", True)
        assert told["skipped"] == [{"generator": "remote", "error": error}]


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_engine_that_answers_wrongly_is_passed_over(settings: Settings, kind: str) -> None:
    answer, error = ANSWERS[kind]
    with fake_engine(answer) as engine, chat_with(settings, engine.url) as served:
        assert_the_chat_goes_on(served, error)
        assert len(engine.bodies) >= 3


@pytest.mark.parametrize("where", ["a closed port", "a name nobody has", "TLS on a closed port"])
def test_an_engine_that_is_not_there_is_passed_over(settings: Settings, where: str) -> None:
    url = "http://no..such/v1" if "name" in where else url_of_nobody()
    url = url.replace("http:", "https:") if "TLS" in where else url
    with chat_with(settings, url) as served:
        assert_the_chat_goes_on(served, "generator_unavailable")


def test_an_engine_that_hangs_is_passed_over_and_left(settings: Settings) -> None:
    with (
        fake_engine(b"", hangs=True) as engine,
        chat_with(settings, engine.url, first_piece_seconds=0.2) as served,
    ):
        assert_the_chat_goes_on(served, "generator_timeout")
        for _ in range(3):
            assert engine.left.acquire(timeout=20)


def test_a_failing_engine_is_soon_left_alone_and_the_chat_goes_on(settings: Settings) -> None:
    with fake_engine(status(500)) as engine, chat_with(settings, engine.url) as served:
        assert_the_chat_goes_on(served, "generator_unavailable", turns=8)
        assert len(engine.bodies) < 8


def test_instant_answers_flow_while_turns_hang_in_the_engine(settings: Settings) -> None:
    with (
        fake_engine(b"", hangs=True) as engine,
        chat_with(settings, engine.url) as served,
        ThreadPoolExecutor(4) as pool,
    ):
        hanging = [
            pool.submit(served.say, conversation, OPEN_ENDED)
            for conversation in [served.conversation() for _ in range(4)]
        ]
        for _ in hanging:
            assert engine.heard.acquire(timeout=20)
        conversation = served.conversation()
        for _ in range(20):
            assert served.say(conversation, "hello").json()["status"] == "done"
        assert not any(one.done() for one in hanging)
        engine.answer, engine.hangs = status(500), False
        engine.let_go()
        for one in hanging:
            turn = one.result(30).json()
            assert (turn["generator"], turn["skipped"][0]["generator"]) == ("embedded", "remote")


def test_without_another_generator_the_apology_answers(settings: Settings) -> None:
    with chat_with(settings, url_of_nobody(), generators="remote") as served:
        turn = served.say(served.conversation(), OPEN_ENDED).json()
        assert (turn["reply"], turn["generator"]) == (APOLOGY, "fixed")
        assert turn["skipped"] == [{"generator": "remote", "error": "generator_unavailable"}]


def test_an_engine_that_dies_in_the_middle_of_a_reply_fails_that_turn_only(
    settings: Settings,
) -> None:
    with (
        fake_engine(STREAM + delta("Once upon")) as engine,
        chat_with(settings, engine.url) as served,
    ):
        conversation = served.conversation()
        broken = served.say(conversation, OPEN_ENDED).json()
        assert (broken["status"], broken["reply"]) == ("failed", "Once upon")
        assert served.say(conversation, "hello").json()["reply"] == "Hello!"
        engine.answer = STREAM + delta("Once upon a time.") + DONE
        whole = served.say(conversation, OPEN_ENDED).json()
        assert (whole["reply"], whole["generator"], whole["skipped"]) == (
            "Once upon a time.",
            "remote",
            [],
        )


def test_the_next_generator_has_time_left_when_a_turn_is_in_a_hurry(settings: Settings) -> None:
    with fake_engine(b"", hangs=True) as engine, chat_with(settings, engine.url) as served:
        turn = _say_in_a_hurry(served)
        assert (turn["generator"], turn["degraded"]) == ("embedded", "fallback")
        assert turn["skipped"] == [{"generator": "remote", "error": "generator_timeout"}]
        assert engine.left.acquire(timeout=20)


def test_what_was_said_by_the_deadline_is_the_reply_and_the_engine_is_left(
    settings: Settings,
) -> None:
    with (
        fake_engine(STREAM + delta("Once upon"), hangs=True) as engine,
        chat_with(settings, engine.url) as served,
    ):
        turn = _say_in_a_hurry(served)
        assert (turn["status"], turn["reply"], turn["degraded"]) == (
            "done",
            "Once upon",
            "deadline",
        )
        assert engine.left.acquire(timeout=20)
        assert engine.bodies[0]["max_tokens"] == settings.generation_tokens


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"remote_url": ""}, "needs TWOFOLD_REMOTE_URL and TWOFOLD_REMOTE_MODEL"),
        ({"remote_url": "engine:8080/v1"}, "looks like https://host/v1"),
        ({"remote_url": "http://me:pw@engine/v1"}, "hand the key apart"),
        ({"remote_url": "http://engine/v1/chat/completions"}, "ends before /chat/completions"),
        ({"remote_key": "sk-1\r\nsk-2"}, "copy it anew"),
        ({"remote_ca_file": "ca.pem"}, "begins with https://"),
        (
            {"remote_url": "https://engine/v1", "remote_ca_file": "/none/ca.pem"},
            "TWOFOLD_REMOTE_CA_FILE: there is no CA file /none/ca.pem; it is a PEM file",
        ),
    ],
)
def test_settings_that_name_no_engine_do_not_start(
    settings: Settings, changes: dict[str, str], remedy: str
) -> None:
    engine = {"generators": "remote", "remote_url": "http://engine/v1", "remote_model": "tiny"}
    wrong = Settings(_env_file=None, data_dir=settings.data_dir, **engine | changes)
    with pytest.raises(ConfigurationError, match=remedy) as caught:
        create_app(wrong)
    assert "TWOFOLD_REMOTE_URL" in caught.value.message
    assert "pw" not in caught.value.message
    assert "sk-" not in caught.value.message


def _say_in_a_hurry(served: Served) -> dict:
    return served.client.post(
        f"/v1/conversations/{served.conversation()}/turns",
        json={"text": OPEN_ENDED, "deadline_ms": 1500},
        headers=served.user,
    ).json()

"""What was acknowledged survives kill -9 of a real server process."""

import json
import signal
from pathlib import Path

import httpx2
import pytest

from tests.e2e.conftest import Engine, Server


@pytest.fixture
def server(tmp_path: Path, engine: Engine):
    server = Server(
        tmp_path,
        TWOFOLD_GENERATORS="remote",
        TWOFOLD_REMOTE_URL=engine.url,
        TWOFOLD_REMOTE_MODEL="test",
        TWOFOLD_FINISH_SECONDS="600",
    )
    server.admin_key = server.command("keys", "create", "test", "--scope", "admin").strip()
    server.start()
    yield server
    server.kill()


def test_an_acknowledged_turn_is_answered_after_kill_9(server: Server, engine: Engine) -> None:
    with server.client() as client:
        conversation = client.post("/v1/conversations", json={}).json()["id"]
        turn = _post_until_accepted(client, conversation, "what is the answer?")
        assert engine.asked.acquire(timeout=20)
    server.kill()

    engine.may_answer.set()
    server.start()
    with server.client() as client:
        answered = client.get(f"/v1/turns/{turn}", params={"wait": 30}).json()
        assert (answered["status"], answered["reply"]) == ("done", "The answer is 42.")
        items = client.get(f"/v1/conversations/{conversation}/turns").json()["items"]
        assert [one["id"] for one in items] == [turn]


def test_turns_that_wait_behind_it_are_answered_too_and_in_order(
    server: Server, engine: Engine
) -> None:
    with server.client() as client:
        conversation = client.post("/v1/conversations", json={}).json()["id"]
        posted = [
            _post_until_accepted(client, conversation, f"question {number}")
            for number in range(1, 4)
        ]
    server.kill()

    engine.may_answer.set()
    server.start()
    with server.client() as client:
        answered = [client.get(f"/v1/turns/{turn}", params={"wait": 30}).json() for turn in posted]
    assert [(one["seq"], one["status"]) for one in answered] == [
        (1, "done"),
        (2, "done"),
        (3, "done"),
    ]
    finished = [one["finished_at"] for one in answered]
    assert finished == sorted(finished)


def test_a_restart_keeps_everything_and_ends_cleanly(server: Server, engine: Engine) -> None:
    engine.may_answer.set()
    with server.client() as client:
        made = client.post("/admin/intents", json={"name": "greet", "replies": ["Hi!"]}).json()
        conversation = client.post("/v1/conversations", json={"title": "Mine"}).json()
        said = client.post(
            f"/v1/conversations/{conversation['id']}/turns", json={"text": "hello"}
        ).json()
    assert server.stop() == -signal.SIGTERM  # uvicorn shuts down, then passes the signal on
    server.start()
    with server.client() as client:
        assert client.get("/admin/intents/greet").json() == made
        kept = client.get(f"/v1/conversations/{conversation['id']}/turns").json()["items"]
        assert kept == [said]


def test_a_second_ctrl_c_waits_for_no_answer_and_loses_none(server: Server, engine: Engine) -> None:
    """Open turns have ten minutes at a stop here: more than a test may take."""
    with server.client() as client:
        conversation = client.post("/v1/conversations", json={}).json()["id"]
        turn = _post_until_accepted(client, conversation, "tell me everything")
        assert engine.asked.acquire(timeout=20)
    server.signal(signal.SIGINT)
    with server.client() as client:  # it heard the first one
        while client.get("/readyz").status_code == 200:
            pass
    server.signal(signal.SIGINT)
    assert server.ended() in (130, 0)  # 0 where the tests were started with SIGINT ignored
    engine.may_answer.set()
    server.start()
    with server.client() as client:
        answered = client.get(f"/v1/turns/{turn}", params={"wait": 30}).json()
    assert (answered["status"], answered["reply"]) == ("done", "The answer is 42.")


def test_a_second_server_on_the_same_sqlite_is_refused(server: Server) -> None:
    second = Server(server.data_dir)
    with pytest.raises(AssertionError, match="another server uses"):
        second.start()


def _post_until_accepted(client: httpx2.Client, conversation: str, text: str) -> str:
    with client.stream(
        "POST",
        f"/v1/conversations/{conversation}/turns",
        json={"text": text},
        headers={"Accept": "text/event-stream"},
    ) as response:
        lines = response.iter_lines()
        assert next(lines) == "event: accepted"
        return str(json.loads(next(lines).removeprefix("data: "))["id"])

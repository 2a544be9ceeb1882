"""Turns over HTTP: retried, taken up after a cut, and left by a server that goes."""

import asyncio
import hashlib
import json
import threading
from collections.abc import Iterator

import pytest

from app.errors import Unavailable
from app.settings import Settings
from generator.interface import GeneratorUnavailable
from generator.scripted import ScriptedGenerator
from tests.integration.conftest import Served, serving

STORY = "A story about a fox."
SSE = {"Accept": "text/event-stream"}


def events_of(lines: Iterator[str]) -> list[tuple[str, str, dict]]:
    """(name, id, data) of each."""
    events, fields = [], {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            events.append((fields["event"], fields["id"], json.loads(fields["data"])))
            fields = {}
    return events


def listen(served: Served, turn: str, last_event_id: str | None = None) -> list:
    headers = served.user | ({"Last-Event-ID": last_event_id} if last_event_id is not None else {})
    with served.client.stream("GET", f"/v1/turns/{turn}/events", headers=headers) as response:
        assert response.status_code == 200
        return events_of(response.iter_lines())


def text_of(events: list) -> str:
    return "".join(data["text"] for name, _, data in events if name == "delta")


class BreaksOnce(ScriptedGenerator):
    """Fails after its first word, and says the whole line from then on."""

    async def stream(self, *arguments):
        self._error = None if self.calls else GeneratorUnavailable("gone")
        self._error_after = 1
        async for piece in super().stream(*arguments):
            yield piece


@pytest.fixture
def breaking(settings: Settings) -> Iterator[Served]:
    with serving(settings, BreaksOnce([STORY])) as running:
        yield running


def retry(served: Served, turn: str, **headers: str):
    return served.client.post(f"/v1/turns/{turn}/retry", headers=served.user | headers)


def test_a_failed_turn_is_answered_again_whole(breaking: Served) -> None:
    failed = breaking.say(breaking.conversation(), "tell me a story").json()
    assert (failed["status"], failed["reply"], failed["error"]["code"]) == (
        ("failed", "A ", "generator_unavailable")
    )
    again = retry(breaking, failed["id"])
    assert (again.status_code, again.headers["location"]) == (200, f"/v1/turns/{failed['id']}")
    turn = again.json()
    assert (turn["id"], turn["seq"], turn["status"]) == (failed["id"], failed["seq"], "done")
    assert (turn["reply"], turn["error"]) == (STORY, None)


def test_a_failed_turn_is_answered_again_as_a_stream(breaking: Served) -> None:
    failed = breaking.say(breaking.conversation(), "tell me a story").json()
    url = f"/v1/turns/{failed['id']}/retry"
    with breaking.client.stream("POST", url, headers=breaking.user | SSE) as response:
        events = events_of(response.iter_lines())
    assert [name for name, _, _ in events if name != "delta"] == ["accepted", "decision", "done"]
    assert text_of(events) == STORY
    assert events[-1][1] == f"2.{len(STORY)}"


def test_who_heard_the_failed_reply_gets_a_reset_and_the_new_one(breaking: Served) -> None:
    failed = breaking.say(breaking.conversation(), "tell me a story").json()
    heard = listen(breaking, failed["id"])
    assert (heard[-1][0], heard[-1][1], text_of(heard)) == ("failed", "1.2", "A ")
    retry(breaking, failed["id"])
    events = listen(breaking, failed["id"], heard[-1][1])
    assert [name for name, _, _ in events] == ["reset", "delta", "done"]
    assert text_of(events) == STORY
    assert events[-1][2]["sha256"] == hashlib.sha256(STORY.encode()).hexdigest()


def test_what_cannot_be_retried_is_told_apart_by_code(breaking: Served) -> None:
    conversation = breaking.conversation()
    failed = breaking.say(conversation, "tell me a story").json()
    done = breaking.say(conversation, "hello").json()
    for turn, status, code in (
        (failed, 409, "not_the_newest_turn"),
        (done, 409, "turn_is_answered"),
        ({"id": "0" * 32}, 404, "not_found"),
    ):
        refused = retry(breaking, turn["id"])
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert refused.headers["content-type"] == "application/problem+json"
    url = f"/v1/turns/{failed['id']}/retry"
    foreign = breaking.client.post(url, headers=breaking.other)
    absent = breaking.client.post(f"/v1/turns/{'0' * 32}/retry", headers=breaking.other)
    problems = [one.json() | {"request_id": ""} for one in (foreign, absent)]
    assert (foreign.status_code, problems[0]) == (404, problems[1])


def test_from_any_place_exactly_the_rest_follows(served: Served) -> None:
    turn = served.say(served.conversation(), "tell me a story").json()
    for at in range(len(STORY) + 1):
        events = listen(served, turn["id"], f"1.{at}")
        assert STORY[:at] + text_of(events) == STORY
        assert [name for name, _, _ in events if name != "delta"] == ["done"]
        assert events[-1][1] == f"1.{len(STORY)}"


HOSTILE = [
    "",
    "nonsense",
    "1",
    "1.",
    ".5",
    "-1.5",
    "1.-5",
    "1.5.9",
    "1.5 ",
    "1e3.5",
    "9" * 400 + "." + "9" * 400,
    "1." + "9" * 10,
    "\u0661.\u0665",
    "x" * 8000,
]


@pytest.mark.parametrize("last_event_id", HOSTILE)
def test_an_id_that_is_not_ours_starts_from_the_beginning(
    served: Served, last_event_id: str
) -> None:
    turn = served.say(served.conversation(), "tell me a story").json()
    headers = [
        *((name.encode(), value.encode()) for name, value in served.user.items()),
        (b"Last-Event-ID", last_event_id.encode()),
    ]
    url = f"/v1/turns/{turn['id']}/events"
    with served.client.stream("GET", url, headers=headers) as response:
        events = events_of(response.iter_lines())
    assert [name for name, _, _ in events] == ["accepted", "decision", "delta", "done"]
    assert text_of(events) == STORY


@pytest.mark.parametrize("last_event_id", ["1.999999999", "0.5", "999999999.5"])
def test_an_id_that_cannot_be_right_is_reset(served: Served, last_event_id: str) -> None:
    turn = served.say(served.conversation(), "tell me a story").json()
    events = listen(served, turn["id"], last_event_id)
    assert [name for name, _, _ in events] == ["reset", "delta", "done"]
    assert text_of(events) == STORY


def test_while_a_generator_is_silent_a_stream_says_that_it_lives(settings: Settings) -> None:
    quick = settings.model_copy(update={"heartbeat_seconds": 0.05})
    generator = ScriptedGenerator([STORY], wait_before={1: asyncio.Event()})
    with serving(quick, generator) as served:
        url = f"/v1/conversations/{served.conversation()}/turns"
        loop = served.client.portal
        seen: list[str] = []
        with served.client.stream(
            "POST", url, json={"text": "tell me a story"}, headers=served.user | SSE
        ) as response:
            # The whole body is there only when the stream has ended.
            timer = threading.Timer(0.5, lambda: loop.call(generator._wait_before[1].set))
            timer.start()
            seen = list(response.iter_lines())
        timer.join()
    assert seen.count(": still here") >= 2
    assert seen.count("retry: 1000") == 1
    assert text_of(events_of(iter(seen))) == STORY


def test_a_server_that_goes_is_not_ready_but_serves(served: Served) -> None:
    assert served.client.get("/readyz").status_code == 200
    served.services.turns.drain()
    unready = served.client.get("/readyz")
    assert (unready.status_code, unready.json()["code"]) == (503, "shutting_down")
    assert served.client.get("/livez").status_code == 200
    assert served.say(served.conversation(), "hello").json()["reply"] == "Hello!"


def test_a_server_that_has_closed_takes_no_turn_and_says_when_to_come_back(
    served: Served,
) -> None:
    conversation = served.conversation()
    served.client.portal.call(served.services.turns.close)
    refused = served.say(conversation, "hello")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] in ("1", "2")  # drawn, so that not all come at once
    page = served.client.get(f"/v1/conversations/{conversation}/turns", headers=served.user)
    assert page.json()["items"] == []


@pytest.mark.parametrize("streamed", [True, False])
def test_a_reply_that_a_closing_server_cannot_finish_is_left_open_and_goes_on_elsewhere(
    settings: Settings, streamed: bool
) -> None:
    generator = ScriptedGenerator([STORY], wait_before={2: asyncio.Event()})
    key = {"Idempotency-Key": "0123456789abcdef"}
    with serving(settings, generator) as served:
        conversation = served.conversation()
        turns = served.services.turns

        async def close_when_it_has_begun() -> None:
            while generator.pieces_said < 2:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
            await turns.close(drain_seconds=0)

        closing = served.client.portal.start_task_soon(close_when_it_has_begun)
        said = served.say(conversation, "tell me a story", **key, **(SSE if streamed else {}))
        closing.result()
        if streamed:
            events = events_of(iter(said.text.splitlines()))
            assert said.text.endswith("\n\n")  # no half event
            assert {name for name, _, _ in events} <= {"accepted", "decision", "delta"}
            turn, last = events[0][2]["id"], events[-1][1]
            heard = text_of(events)
        else:
            assert (said.status_code, said.headers["retry-after"]) == (202, "1")
            turn, last, heard = said.json()["id"], None, ""
            assert said.json()["status"] in ("accepted", "generating")
            assert said.headers["location"] == f"/v1/turns/{turn}"
        user = served.user

    with serving(settings, ScriptedGenerator([STORY]), teach=False) as restarted:
        restarted.user.clear()
        restarted.user.update(user)
        events = listen(restarted, turn, last)
        for name, _, data in events:
            heard = "" if name == "reset" else heard + data.get("text", "") * (name == "delta")
        again = restarted.say(conversation, "tell me a story", **key)
    assert heard == STORY
    assert (again.json()["id"], again.json()["reply"]) == (turn, STORY)
    assert again.headers["idempotency-replayed"] == "true"


def test_a_stored_turn_is_no_error_when_the_database_goes_away_while_it_is_waited_for(
    settings: Settings,
) -> None:
    generator = ScriptedGenerator([STORY], wait_before={1: asyncio.Event()})
    with serving(settings, generator) as served:
        conversation = served.conversation()
        turns = served.services.turns

        async def gone(*_: object, **__: object) -> None:
            raise Unavailable("the database does not answer")

        turns.final = gone
        said = served.say(conversation, "tell me a story")
    assert (said.status_code, said.json()["status"]) == (202, "generating")
    assert said.headers["location"] == f"/v1/turns/{said.json()['id']}"

"""Conversations over HTTP: whose they are, paging, and what deleting takes along."""

import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from generator.interface import Piece
from generator.scripted import ScriptedGenerator
from tests.integration.conftest import Served, serving
from tests.integration.routes import ABSENT, assert_problem, routes, things_of_ada


def test_a_conversation_is_made_with_an_address_of_its_own(served: Served) -> None:
    made = served.client.post("/v1/conversations", json={"title": "Shoes"}, headers=served.user)
    assert made.status_code == 201
    shown = served.client.get(made.headers["location"], headers=served.user)
    assert shown.json() == made.json()
    assert (shown.json()["title"], shown.json()["turns"]) == ("Shoes", 0)


def test_an_untitled_conversation_is_named_for_its_first_words(served: Served) -> None:
    conversation = served.conversation()
    for text in ("hello " * 30, "bye"):
        served.say(conversation, text)
    shown = _show(served, conversation).json()
    assert shown["title"].startswith("hello hello")
    assert len(shown["title"]) <= 80
    assert shown["turns"] == 2


def test_the_list_goes_from_the_latest_used_back_in_pages(served: Served) -> None:
    first, second, third = (served.conversation(title=name) for name in ("a", "b", "c"))
    served.say(first, "hello")
    assert _listed(served, served.user, limit=2) == [[first, third], [second]]
    assert _listed(served, served.user, limit=3) == [[first, third, second]]


def test_everybody_sees_their_own_conversations_only(served: Served) -> None:
    mine, theirs = served.conversation(), served.conversation(served.other)
    assert _listed(served, served.user) == [[mine]]
    assert _listed(served, served.other) == [[theirs]]
    assert _listed(served, served.admin) == [[]]


def test_deleting_a_conversation_takes_its_turns_along(served: Served) -> None:
    conversation, other = served.conversation(), served.conversation()
    turn = served.say(conversation, "hello").json()["id"]
    kept = served.say(other, "hello").json()["id"]
    url = f"/v1/conversations/{conversation}"
    assert served.client.delete(url, headers=served.user).status_code == 204
    for gone in (url, f"{url}/turns", f"/v1/turns/{turn}", f"/v1/turns/{turn}/events"):
        assert_problem(served.client.get(gone, headers=served.user), 404)
    assert_problem(served.client.delete(url, headers=served.user), 404)
    assert_problem(served.say(conversation, "hello"), 404)
    assert served.client.get(f"/v1/turns/{kept}", headers=served.user).status_code == 200


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_deleting_while_a_reply_is_written_ends_its_turn(settings, accept: str) -> None:
    generator = _Talkative()
    with serving(settings, generator) as served:
        conversation = served.conversation()
        answers: list[object] = []
        poster = threading.Thread(
            target=lambda: answers.append(
                served.say(conversation, "tell me a story", Accept=accept)
            )
        )
        poster.start()
        assert generator.started.wait(10)
        url = f"/v1/conversations/{conversation}"
        assert served.client.delete(url, headers=served.user).status_code == 204
        generator.go_on.set()
        poster.join(20)
        assert len(answers) == 1, "whoever posted it must hear something"
        if accept == "application/json":
            assert_problem(answers[0], 404)
        assert served.client.get("/v1/conversations", headers=served.user).json()["items"] == []
        again = served.say(served.conversation(), "hello")
        assert again.json()["reply"] == "Hello!"


def test_what_is_somebody_elses_looks_like_what_is_not_there(served: Served) -> None:
    things = things_of_ada(served)
    nothing = dict.fromkeys(things, ABSENT)
    asked = 0
    for route in routes(served):
        if route.is_admin or "{" not in route.path:
            continue
        for accept in ("application/json", "text/event-stream"):
            headers = served.other | {"Accept": accept}
            foreign, absent = (
                served.client.request(
                    route.method, route.url(which), json=route.body, headers=headers
                )
                for which in (things, nothing)
            )
            assert_problem(foreign, 404)
            assert _without_request_id(foreign) == _without_request_id(absent), route
            asked += 1
    assert asked >= 18
    turn = served.client.get(f"/v1/turns/{things['turn_id']}", headers=served.user).json()
    assert (turn["status"], turn["feedback"]) == ("done", None)


def test_a_question_about_somebody_elses_conversation_finds_none(served: Served) -> None:
    foreign, absent = (
        served.client.post(
            "/v1/route", json={"text": "hello", "conversation_id": one}, headers=served.other
        )
        for one in (served.conversation(), ABSENT)
    )
    assert_problem(foreign, 404)
    assert _without_request_id(foreign) == _without_request_id(absent)


def test_an_idempotency_key_is_its_owners(served: Served) -> None:
    key = {"Idempotency-Key": "0123456789abcdef"}
    mine = served.say(served.conversation(), "hello", **key).json()
    theirs = served.client.post(
        f"/v1/conversations/{served.conversation(served.other)}/turns",
        json={"text": "bye"},
        headers=served.other | key,
    )
    assert theirs.status_code == 201
    assert theirs.json()["id"] != mine["id"]
    assert theirs.json()["text"] == "bye"


class _Talkative(ScriptedGenerator):
    """Says a word, and the next when told to."""

    def __init__(self) -> None:
        super().__init__([])
        self.started, self.go_on = threading.Event(), threading.Event()

    async def stream(self, *_, **__) -> AsyncIterator[Piece]:
        import asyncio

        yield Piece("Once ", self.name)
        self.started.set()
        await asyncio.to_thread(self.go_on.wait, 10)
        yield Piece("upon a time.", self.name)


def _show(served: Served, conversation: str):
    return served.client.get(f"/v1/conversations/{conversation}", headers=served.user)


def _listed(served: Served, headers: dict[str, str], limit: int = 20) -> list[list[str]]:
    return [[one["id"] for one in page] for page in _pages(served, headers, limit)]


def _pages(served: Served, headers: dict[str, str], limit: int) -> Iterator[list[dict]]:
    cursor: str | None = None
    while True:
        query = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        got = served.client.get("/v1/conversations", params=query, headers=headers).json()
        yield got["items"]
        cursor = got["next_cursor"]
        if cursor is None:
            return


def _without_request_id(response) -> tuple[object, ...]:
    problem = response.json()
    problem.pop("request_id")
    headers = {name: value for name, value in response.headers.items() if name != "x-request-id"}
    return response.status_code, problem, headers

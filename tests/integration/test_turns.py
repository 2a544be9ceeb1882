"""Turns over HTTP: routes, order, streaming, idempotency."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

from generator.fallback import FallbackGenerator
from generator.interface import GeneratorUnavailable
from generator.scripted import ScriptedGenerator
from tests.fakes import FakeClassifier, FakeTracker
from tests.integration.conftest import PREDICTIONS, Served, serving


def test_a_known_message_is_answered_with_the_operators_words(served: Served) -> None:
    turn = served.say(served.conversation(), "hello").json()
    assert (turn["reply"], turn["decision"]["route"]) == ("Hello!", "instant")
    assert (turn["status"], turn["seq"], turn["model_version"]) == ("done", 1, 1)


def test_variants_take_turns(served: Served) -> None:
    conversation = served.conversation()
    replies = [served.say(conversation, "hello").json()["reply"] for _ in range(3)]
    assert replies == ["Hello!", "Hi there!", "Hello!"]


def test_a_variant_whose_variable_is_unknown_is_not_said(served: Served) -> None:
    assert served.say(served.conversation(), "bye").json()["reply"] == "Bye!"
    named = served.conversation(variables={"name": "Ada"})
    assert served.say(named, "bye").json()["reply"] == "Bye, Ada!"


def test_an_open_ended_message_goes_to_the_generator(served: Served) -> None:
    turn = served.say(served.conversation(), "tell me a story").json()
    assert (turn["reply"], turn["decision"]["route"]) == ("A story about a fox.", "generate")


def test_a_turn_says_which_generators_did_not_answer(settings) -> None:
    dead = ScriptedGenerator([""], name="engine", error=GeneratorUnavailable("no route to host"))
    spare = ScriptedGenerator(["A story."], name="spare")
    with serving(settings, FallbackGenerator([dead, spare])) as served:
        conversation = served.conversation()
        turn = served.say(conversation, "tell me a story").json()
        assert (turn["reply"], turn["generator"]) == ("A story.", "spare")
        assert turn["degraded"] == "fallback"
        assert turn["skipped"] == [{"generator": "engine", "error": "generator_unavailable"}]
        stored = served.client.get(f"/v1/turns/{turn['id']}", headers=served.user).json()
        assert stored == turn
        assert "no route" not in str(stored)
        known = served.say(conversation, "hello").json()
        assert (known["degraded"], known["skipped"]) == (None, [])


def test_an_unsure_bot_asks_back_once_and_takes_the_choice(served: Served) -> None:
    conversation = served.conversation()
    asked = served.say(conversation, "no more order").json()
    assert asked["decision"]["route"] == "clarify"
    assert [one["title"] for one in asked["choices"]] == ["Cancel an order", "Return an item"]
    chosen = served.say(conversation, "Return an item").json()
    assert chosen["reply"] == "Here is how to return."
    assert chosen["decision"]["cause"] == "chosen"


def test_it_does_not_ask_back_twice_in_a_row(served: Served) -> None:
    conversation = served.conversation()
    routes = [
        served.say(conversation, "no more order").json()["decision"]["route"] for _ in range(2)
    ]
    assert routes == ["clarify", "generate"]


def test_a_stream_tells_acceptance_decision_pieces_and_end(served: Served) -> None:
    events = _stream(served, served.conversation(), "tell me a story")
    names = [name for name, _ in events]
    assert names[:2] == ["accepted", "decision"]
    assert names[-1] == "done"
    pieces = [data for name, data in events if name == "delta"]
    assert "".join(one["text"] for one in pieces) == "A story about a fox."
    assert pieces[0]["offset"] == 0
    assert events[-1][1]["turn"]["status"] == "done"


def test_a_stream_can_be_taken_up_where_it_broke(served: Served) -> None:
    turn = served.say(served.conversation(), "tell me a story").json()
    headers = served.user | {"Last-Event-ID": "1.8"}
    with served.client.stream("GET", f"/v1/turns/{turn['id']}/events", headers=headers) as got:
        events = _events(got.iter_lines())
    name, data = events[0]
    assert (name, data["text"]) == ("delta", "about a fox.")


def test_a_listener_who_heard_more_than_was_stored_starts_over(served: Served) -> None:
    turn = served.say(served.conversation(), "tell me a story").json()
    headers = served.user | {"Last-Event-ID": "1.40"}
    with served.client.stream("GET", f"/v1/turns/{turn['id']}/events", headers=headers) as got:
        events = _events(got.iter_lines())
    assert [name for name, _ in events] == ["reset", "delta", "done"]
    assert events[1][1] == {"text": "A story about a fox.", "offset": 0}


def test_the_same_idempotency_key_is_one_turn(served: Served) -> None:
    conversation, key = served.conversation(), {"Idempotency-Key": "0123456789abcdef"}
    first = served.say(conversation, "hello", **key)
    again = served.say(conversation, "hello", **key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    other = served.say(conversation, "bye", **key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_fifty_posts_at_once_with_one_key_are_one_turn(served: Served) -> None:
    conversation, key = served.conversation(), {"Idempotency-Key": "0123456789abcdef"}
    with ThreadPoolExecutor(10) as pool:
        got = list(pool.map(lambda _: served.say(conversation, "hello", **key), range(50)))
    assert {one.json()["id"] for one in got} == {got[0].json()["id"]}
    assert _turns(served, conversation) == [(1, "hello", "done")]


def test_two_turns_at_the_same_moment_are_both_answered_in_order(settings) -> None:
    with serving(settings, ScriptedGenerator(["One.", "Two.", "Three.", "Four."])) as served:
        conversation = served.conversation()
        barrier = threading.Barrier(4)

        def post(_: int):
            barrier.wait()
            return served.say(conversation, "tell me a story").json()

        with ThreadPoolExecutor(4) as pool:
            turns = sorted(pool.map(post, range(4)), key=lambda turn: turn["seq"])
        assert [turn["seq"] for turn in turns] == [1, 2, 3, 4]
        assert [turn["reply"] for turn in turns] == ["One.", "Two.", "Three.", "Four."]


def test_history_is_paged_from_the_newest_back(served: Served) -> None:
    conversation = served.conversation()
    for _ in range(5):
        served.say(conversation, "hello")
    url = f"/v1/conversations/{conversation}/turns"
    newest = served.client.get(url, params={"limit": 2}, headers=served.user).json()
    assert [one["seq"] for one in newest["items"]] == [4, 5]
    older = served.client.get(
        url, params={"limit": 3, "cursor": newest["next_cursor"]}, headers=served.user
    ).json()
    assert [one["seq"] for one in older["items"]] == [1, 2, 3]
    assert older["next_cursor"] is None


def test_feedback_is_kept_and_taken_back(served: Served) -> None:
    turn = served.say(served.conversation(), "hello").json()
    url = f"/v1/turns/{turn['id']}/feedback"
    given = {"rating": "down", "comment": "too short"}
    assert served.client.put(url, json=given, headers=served.user).json()["feedback"] == given
    assert served.client.delete(url, headers=served.user).status_code == 204
    shown = served.client.get(f"/v1/turns/{turn['id']}", headers=served.user).json()
    assert shown["feedback"] is None


def test_a_follow_up_is_decided_in_its_conversation_and_explained(settings) -> None:
    classifier = FakeClassifier(PREDICTIONS)
    classifier.topic_tracker = FakeTracker(0.9)
    generator = ScriptedGenerator(["Until six."])
    with serving(settings, generator, load=lambda _: classifier) as served:
        conversation = served.conversation()
        assert served.say(conversation, "hello").json()["decision"]["goes_on"] is None
        question = {"text": "and on sundays?", "conversation_id": conversation}
        told = served.client.post("/v1/route", json=question, headers=served.user).json()
        turn = served.say(conversation, "and on sundays?").json()
        assert turn["decision"] == told["decision"]
        assert (turn["reply"], turn["decision"]["route"]) == ("Until six.", "generate")
        assert (turn["decision"]["cause"], turn["decision"]["intent"]) == ("follow_up", "greet")
        assert turn["decision"]["goes_on"] == 0.9
        asked = generator.calls[0].messages
        assert [one.text for one in asked if one.role != "system"] == [
            "hello",
            "Hello!",
            "and on sundays?",
        ]
        alone = served.client.post(
            "/v1/route", json={"text": "and on sundays?"}, headers=served.user
        ).json()
        assert alone["decision"]["cause"] == "out_of_scope"


def test_route_explains_and_stores_nothing(served: Served) -> None:
    got = served.client.post("/v1/route", json={"text": "hello"}, headers=served.user).json()
    assert got["decision"]["route"] == "instant"
    assert got["prediction"]["ranking"][0] == {"intent": "greet", "confidence": 0.95}
    listed = served.client.get("/v1/conversations", headers=served.user).json()
    assert listed["items"] == []


def _turns(served: Served, conversation: str) -> list[tuple[int, str, str]]:
    got = served.client.get(f"/v1/conversations/{conversation}/turns", headers=served.user)
    return [(one["seq"], one["text"], one["status"]) for one in got.json()["items"]]


def _stream(served: Served, conversation: str, text: str) -> list[tuple[str, dict]]:
    with served.client.stream(
        "POST",
        f"/v1/conversations/{conversation}/turns",
        json={"text": text},
        headers=served.user | {"Accept": "text/event-stream"},
    ) as response:
        return _events(response.iter_lines())


def _events(lines) -> list[tuple[str, dict]]:
    events, name = [], ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            events.append((name, json.loads(line.removeprefix("data: "))))
    return events

"""What operators teach and write: chats notice at once."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from generator.embedded import EmbeddedGenerator
from tests.integration.conftest import Served, serving
from tests.integration.routes import assert_problem, table_contents

RETURNS = """# Returns

## How long do I have?

You can send shoes back within 45 days of delivery.

## Who pays the postage?

We pay the postage of every return from Norway.
"""


# --- intents and examples ---


def test_an_intent_is_made_shown_changed_and_removed(served: Served) -> None:
    made = _post(
        served,
        "/admin/intents",
        name="ask_price",
        title="Ask the price",
        replies=["It is free."],
        examples=["what does it cost", "price please"],
    )
    assert made.status_code == 201
    url = "/admin/intents/ask_price"
    assert _get(served, url) == made.json()
    assert (made.json()["examples"], made.json()["replies"]) == (2, ["It is free."])
    changed = _patch(served, url, title="The price").json()
    assert (changed["title"], changed["replies"]) == ("The price", ["It is free."])
    assert _patch(served, url, replies=[]).json()["replies"] == []
    assert served.client.delete(url, headers=served.admin).status_code == 204
    for request in (served.client.get, served.client.delete):
        assert_problem(request(url, headers=served.admin), 404)
    assert "ask_price" not in _intent_names(served)


def test_renaming_keeps_the_examples(served: Served) -> None:
    _post(served, "/admin/intents/greet/examples", texts=["hello", "hi"])
    renamed = _patch(served, "/admin/intents/greet", name="salute").json()
    assert (renamed["name"], renamed["examples"]) == ("salute", 2)
    assert {one["text"] for one in _examples(served, "salute")} == {"hello", "hi"}
    assert_problem(served.client.get("/admin/intents/greet", headers=served.admin), 404)


def test_two_intents_never_share_a_name(served: Served) -> None:
    before = table_contents(served)
    taken = _post(served, "/admin/intents", name="greet")
    assert assert_problem(taken, 409)["code"] == "intent_exists"
    renamed = _patch(served, "/admin/intents/greet", name="goodbye")
    assert assert_problem(renamed, 409)["code"] == "intent_exists"
    assert _without_keys(table_contents(served)) == _without_keys(before)


@pytest.mark.parametrize("name", ["faq/delivery", "faq/a/b", "rücksendung", "Größe & Maß", "尺码"])
def test_names_may_be_of_any_script_and_have_parts(served: Served, name: str) -> None:
    url = f"/admin/intents/{quote(name)}"
    assert _post(served, "/admin/intents", name=name, examples=["one"]).status_code == 201
    assert _get(served, url)["name"] == name
    assert _get(served, f"/admin/intents/{quote(name, safe='')}")["name"] == name
    assert _post(served, f"{url}/examples", texts=["two"]).status_code == 201
    assert [one["text"] for one in _examples(served, quote(name))] == ["two", "one"]
    assert _patch(served, url, name=f"{name}/new").json()["examples"] == 2
    gone = served.client.delete(f"{url}/new", headers=served.admin)
    assert gone.status_code == 204


@pytest.mark.parametrize("name", ["faq/examples", "/x", "x/", "a//b", ".", "a/../b", "what?", "#1"])
def test_a_name_that_no_address_can_hold_is_refused(served: Served, name: str) -> None:
    assert_problem(_post(served, "/admin/intents", name=name), 422)
    assert_problem(_patch(served, "/admin/intents/greet", name=name), 422)
    assert "greet" in _intent_names(served)


def test_an_example_is_stored_once(served: Served) -> None:
    url = "/admin/intents/greet/examples"
    first = _post(served, url, texts=["hello", "hi", "hello"]).json()
    assert [one["text"] for one in first["items"]] == ["hello", "hi"]
    assert first["skipped"] == [{"text_index": 2, "reason": "duplicate"}]
    again = _post(served, url, texts=[" hi ", "hey"]).json()
    assert [one["text"] for one in again["items"]] == ["hey"]
    assert again["skipped"] == [{"text_index": 0, "reason": "duplicate"}]
    assert _get(served, "/admin/intents/greet")["examples"] == 3


def test_examples_are_changed_and_removed(served: Served) -> None:
    url = "/admin/intents/greet/examples"
    hello, hi = _post(served, url, texts=["hello", "hi"]).json()["items"]
    changed = _patch(served, f"/admin/examples/{hello['id']}", text="hello there").json()
    assert changed == {**hello, "text": "hello there"}
    clash = _patch(served, f"/admin/examples/{hello['id']}", text="hi")
    assert assert_problem(clash, 409)["code"] == "example_exists"
    gone = served.client.delete(f"/admin/examples/{hi['id']}", headers=served.admin)
    assert gone.status_code == 204
    assert [one["text"] for one in _examples(served, "greet")] == ["hello there"]


def test_examples_are_paged_without_gap_or_repetition(served: Served) -> None:
    texts = {f"hello number {number}" for number in range(7)}
    _post(served, "/admin/intents/greet/examples", texts=sorted(texts))
    pages = list(_example_pages(served, "greet", limit=3))
    assert [len(page) for page in pages] == [3, 3, 1]
    assert {one["text"] for page in pages for one in page} == texts


def test_examples_go_with_their_intent(served: Served) -> None:
    url = "/admin/intents/greet/examples"
    example = _post(served, url, texts=["hello"]).json()["items"][0]["id"]
    served.client.delete("/admin/intents/greet", headers=served.admin)
    assert_problem(_patch(served, f"/admin/examples/{example}", text="x"), 404)
    assert_problem(_post(served, url, texts=["hello"]), 404)


def test_out_of_scope_has_examples_and_no_replies(served: Served) -> None:
    refused = _post(served, "/admin/intents", name="out_of_scope", replies=["No."])
    assert assert_problem(refused, 422)["code"] == "out_of_scope_has_no_replies"
    assert "out_of_scope" not in _intent_names(served)
    made = _post(served, "/admin/intents", name="out_of_scope", examples=["do my taxes"])
    assert (made.status_code, made.json()["examples"]) == (201, 1)
    for change in ({"replies": ["No."]}, {"replies": ["No."], "title": "Off topic"}):
        assert_problem(_patch(served, "/admin/intents/out_of_scope", **change), 422)
    taken_over = _patch(served, "/admin/intents/greet", name="out_of_scope")
    assert_problem(taken_over, 409, 422)


def test_an_intent_with_replies_cannot_become_out_of_scope(served: Served) -> None:
    assert_problem(_patch(served, "/admin/intents/greet", name="out_of_scope"), 422)
    assert _get(served, "/admin/intents/greet")["replies"] == ["Hello!", "Hi there!"]


def test_lint_names_what_stands_in_the_way(served: Served) -> None:
    _post(served, "/admin/intents/greet/examples", texts=["hello", "hi", "good day"])
    _post(served, "/admin/intents/goodbye/examples", texts=["bye", "HELLO"])
    _post(served, "/admin/intents/return_item/examples", texts=["take it back"])
    problems = _get(served, "/admin/training-data/lint")["problems"]
    severities = [one["severity"] for one in problems]
    assert severities == sorted(severities)
    assert set(severities) == {"error", "warning"}
    errors = {one["intent"] for one in problems if one["severity"] == "error"}
    assert "return_item" in errors
    assert any("'greet' and 'goodbye'" in one["message"] or "'goodbye' and 'greet'"
               in one["message"] for one in problems)  # fmt: skip


# --- what the bot says ---


def test_a_changed_reply_is_said_at_once(served: Served) -> None:
    conversation = served.conversation()
    assert served.say(conversation, "hello").json()["reply"] == "Hello!"
    _patch(served, "/admin/intents/greet", replies=["Ahoy!"])
    assert served.say(conversation, "hello").json()["reply"] == "Ahoy!"
    _patch(served, "/admin/intents/greet", replies=[])
    turn = served.say(conversation, "hello").json()
    assert (turn["decision"]["route"], turn["decision"]["cause"]) == ("generate", "no_reply")
    _patch(served, "/admin/intents/greet", replies=["Welcome back!"])
    assert served.say(conversation, "hello").json()["reply"] == "Welcome back!"


def test_a_changed_title_stands_in_the_next_question(served: Served) -> None:
    _patch(served, "/admin/intents/cancel_order", title="Stop an order")
    turn = served.say(served.conversation(), "no more order").json()
    assert [one["title"] for one in turn["choices"]] == ["Stop an order", "Return an item"]


def test_a_removed_intent_is_no_longer_answered_for(served: Served) -> None:
    served.client.delete("/admin/intents/greet", headers=served.admin)
    assert served.say(served.conversation(), "hello").json()["decision"]["route"] == "generate"


def test_the_assistants_face_and_variables_change_at_once(served: Served) -> None:
    before = _get(served, "/admin/assistant")
    assert before["variables"] == {}
    new = {
        "name": "Juno",
        "greeting": "Hi, I am Juno.",
        "suggestions": ["Where is my parcel?"],
        "variables": {"name": "dear guest"},
    }
    put = served.client.put("/admin/assistant", json=new, headers=served.admin)
    assert put.json() == new == _get(served, "/admin/assistant")
    face = served.client.get("/v1/assistant", headers=served.user).json()
    assert face == {
        "name": "Juno",
        "greeting": "Hi, I am Juno.",
        "suggestions": ["Where is my parcel?"],
        "ready": True,
        "model_version": 1,
    }
    assert served.say(served.conversation(), "bye").json()["reply"] == "Bye, dear guest!"
    theirs = served.conversation(variables={"name": "Ada"})
    assert served.say(theirs, "bye").json()["reply"] == "Bye, Ada!"


# --- documents ---


def test_a_document_answers_from_the_moment_it_is_stored(settings) -> None:
    with serving(settings, EmbeddedGenerator.load()) as served:
        question = "how many days do I have to send shoes back"
        before = served.say(served.conversation(), question).json()
        assert before["citations"] == []
        assert "45" not in before["reply"]

        put = served.client.put(
            "/admin/documents/returns", json={"text": RETURNS}, headers=served.admin
        )
        assert (put.status_code, put.json()["passages"]) == (200, 2)
        turn = served.say(served.conversation(), question).json()
        assert "45 days" in turn["reply"]
        assert [one["document"] for one in turn["citations"]] == ["Returns"]
        assert turn["citations"][0]["title"] == "How long do I have?"
        assert turn["citations"][0]["quote"] in RETURNS

        changed = RETURNS.replace("45", "60")
        served.client.put("/admin/documents/returns", json={"text": changed}, headers=served.admin)
        assert "60 days" in served.say(served.conversation(), question).json()["reply"]

        gone = served.client.delete("/admin/documents/returns", headers=served.admin)
        assert gone.status_code == 204
        after = served.say(served.conversation(), question).json()
        assert (after["citations"], after["reply"]) == ([], before["reply"])


def test_documents_are_listed_read_and_replaced_by_name(served: Served) -> None:
    url = "/admin/documents/returns"
    body = {"text": RETURNS, "title": "Sending back"}
    first = served.client.put(url, json=body, headers=served.admin).json()
    assert (first["title"], first["text"], first["passages"]) == (
        "Sending back",
        RETURNS.strip(),
        2,
    )
    assert _get(served, url) == first
    second = served.client.put(url, json={"text": "One line."}, headers=served.admin).json()
    assert (second["title"], second["passages"]) == ("returns", 1)
    listed = _get(served, "/admin/documents")["items"]
    assert [(one["name"], one["passages"]) for one in listed] == [("returns", 1)]
    assert served.client.delete(url, headers=served.admin).status_code == 204
    for request in (served.client.get, served.client.delete):
        assert_problem(request(url, headers=served.admin), 404)
    assert _get(served, "/admin/documents")["items"] == []


def test_a_document_without_text_is_refused_and_the_old_one_stays(served: Served) -> None:
    url = "/admin/documents/returns"
    served.client.put(url, json={"text": RETURNS}, headers=served.admin)
    before = table_contents(served)
    refused = served.client.put(url, json={"text": "# Returns\n\n## A\n"}, headers=served.admin)
    assert assert_problem(refused, 422)["code"] == "bad_document"
    assert table_contents(served) == before


def test_html_is_kept_as_what_a_reader_sees_of_it(served: Served) -> None:
    page = "<h1>Hours</h1><script>alert(1)</script><p>Open <b>daily</b> from 9.</p>"
    url = "/admin/documents/hours"
    stored = served.client.put(url, json={"text": page, "format": "html"}, headers=served.admin)
    assert stored.json()["text"].strip() == "# Hours\n\nOpen **daily** from 9."
    assert stored.json()["title"] == "Hours"
    empty = {"text": "<script>alert(1)</script>", "format": "html"}
    refused = served.client.put(url, json=empty, headers=served.admin)
    assert assert_problem(refused, 422)["detail"] == "the document is empty; give it text"
    word = served.client.put(url, json={"text": "x", "format": "docx"}, headers=served.admin)
    assert_problem(word, 422)
    assert _get(served, url) == stored.json()


def test_the_same_text_under_two_names_is_refused_and_names_the_first(served: Served) -> None:
    served.client.put("/admin/documents/one", json={"text": RETURNS}, headers=served.admin)
    before = table_contents(served)
    again = served.client.put("/admin/documents/two", json={"text": RETURNS}, headers=served.admin)
    problem = assert_problem(again, 422)
    assert (problem["code"], "'one'" in problem["detail"]) == ("duplicate_document", True)
    assert table_contents(served) == before
    same = served.client.put("/admin/documents/one", json={"text": RETURNS}, headers=served.admin)
    assert same.status_code == 200


def _post(served: Served, url: str, **body: object):
    return served.client.post(url, json=body, headers=served.admin)


def _patch(served: Served, url: str, **body: object):
    return served.client.patch(url, json=body, headers=served.admin)


def _get(served: Served, url: str) -> dict:
    got = served.client.get(url, headers=served.admin)
    assert got.status_code == 200, got.text
    return got.json()


def _intent_names(served: Served) -> list[str]:
    return [one["name"] for one in _get(served, "/admin/intents")["items"]]


def _examples(served: Served, name: str) -> list[dict]:
    return _get(served, f"/admin/intents/{name}/examples")["items"]


def _example_pages(served: Served, name: str, *, limit: int) -> Iterator[list[dict]]:
    url, cursor = f"/admin/intents/{name}/examples?limit={limit}", ""
    while cursor is not None:
        got = _get(served, url + (f"&cursor={cursor}" if cursor else ""))
        yield got["items"]
        cursor = got["next_cursor"]


def _without_keys(tables: dict) -> dict:
    return {name: rows for name, rows in tables.items() if name != "api_keys"}

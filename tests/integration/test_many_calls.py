"""Thousands of calls on two servers in step, one on SQLite and one on PostgreSQL: drawn from the
API document, and drawn as its users would make them. Both answer alike, and never with 5xx.

About 14,000 here, which with the hostile payloads makes 20,000. For 200,000, drawn anew each
time: TWOFOLD_CALLS=200000 python -m pytest tests/integration/test_many_calls.py
"""

import os
import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from schemathesis import GenerationMode

from tests.integration.pair import Ids, Pair, pair
from tests.integration.routes import assert_problem, things_of_ada
from tests.integration.test_hostile_payloads import TEXTS

T = TypeVar("T")

CALLS = int(os.environ.get("TWOFOLD_CALLS", "14000"))
STEPS = 40
"""Of one user's story."""

pytestmark = pytest.mark.timeout(max(900, CALLS // 5))


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, postgresql_of_module: Callable[[], str]
) -> Iterator[Pair]:
    with pair(tmp_path_factory.mktemp("calls"), postgresql_of_module) as running:
        yield running


def test_what_the_api_document_suggests_is_answered_alike(both: Pair) -> None:
    """schemathesis draws requests of every route, right ones and wrong ones."""
    found = [things_of_ada(one) for one in both.served]
    things = {name: (found[0][name], found[1][name]) for name in found[0]}
    app = both.served[0].client.app
    operations = [
        one.ok() for one in schemathesis.openapi.from_dict(app.openapi()).get_all_operations()
    ]
    before = both.calls
    for operation in operations:
        modes = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
        drawn = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))

        @_bounded(max(1, CALLS // 3 // 2 // len(operations)))
        @given(drawn, st.booleans())
        def requests(case: Any, existing: bool) -> None:
            _ask(both, case, things if existing else {})

        requests()
    assert both.calls - before > CALLS // 3 * 0.7


def test_people_and_operators_get_what_they_were_promised(both: Pair) -> None:
    before = both.calls
    Story.both = both
    stories = max(1, CALLS // 2 // STEPS)  # a step makes one call and a third
    run_state_machine_as_test(
        Story, settings=_bounded(stories, stateful_step_count=STEPS, print_blob=True)
    )
    assert both.calls - before > CALLS * 2 // 3 * 0.6


@dataclass(eq=False)
class Talk:
    """What a conversation must hold."""

    ids: Ids
    owner: str
    said: list[str] = field(default_factory=list)
    turns: list[Ids] = field(default_factory=list)
    gone: bool = False


@dataclass(eq=False)
class Said:
    talk: Talk
    ids: Ids
    text: str
    key: str | None


plain = st.text(string.ascii_letters + string.digits + " ?!.,'é日🙂", min_size=1, max_size=40)
known = st.sampled_from(["hello", "bye", "no more order", "tell me a story"])
texts = known | plain | st.sampled_from(sorted(TEXTS.values())) | st.text(max_size=30)
numbers = st.integers(0, 1_000)
"""Of one of those that there are, by counting round."""
names = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,4})?", fullmatch=True)
people = st.sampled_from(["user", "other"])


class Story(RuleBasedStateMachine):
    both: Pair
    intents = Bundle("intents")
    examples = Bundle("examples")
    documents = Bundle("documents")

    def __init__(self) -> None:
        super().__init__()
        self.talks: list[Talk] = []
        self.said: list[Said] = []
        self.made: list[str] = []
        """Names of intents."""

    @initialize()
    def newcomers(self) -> None:
        """Each story has people of its own."""
        self.people: dict[str, list[dict[str, str]]] = {}
        for name in ("user", "other"):
            keys = self.both.call("POST", "/admin/keys", by="admin", json={"name": name})
            self.people[name] = [{"Authorization": f"Bearer {one.json()['key']}"} for one in keys]
            self.talk(name)

    @rule(who=people, title=texts)
    def begin(self, who: str, title: str) -> None:
        self.talk(who, title=title)

    def talk(self, who: str, **body: str) -> None:
        got = self.ask("POST", "/v1/conversations", who, json=body)
        if got[0].status_code == 201:
            self.talks.append(Talk(_ids(got), who))
        else:
            self.refused(got)

    @rule(which=numbers, several=st.lists(texts, min_size=1, max_size=4), key=st.booleans())
    def say(self, which: int, several: list[str], key: bool) -> None:
        talk = self.one_of(self.alive() or self.talks, which)
        assert talk is not None
        for text in several:
            self.say_one(talk, text, f"story-key-{uuid4().hex}" if key else None)

    def say_one(self, talk: Talk, text: str, key: str | None) -> None:
        got = self.post(talk, text, key)
        if got[0].status_code != 201:
            return self.refused(got)
        assert not talk.gone
        turns = [one.json() for one in got]
        assert [one["status"] for one in turns] == ["done", "done"]
        assert turns[0]["reply"] == turns[1]["reply"]
        assert turns[0]["seq"] == turns[1]["seq"] == len(talk.turns) + 1
        talk.turns.append(_ids(got))
        talk.said.append(turns[0]["text"])
        self.said.append(Said(talk, talk.turns[-1], text, key))
        return None

    @rule(which=numbers, other_text=texts)
    def say_again_with_its_key(self, which: int, other_text: str) -> None:
        one = self.one_of([one for one in self.said if one.key], which)
        if one is None:
            return
        again = self.post(one.talk, one.text, one.key)
        assert again[0].status_code == (404 if one.talk.gone else 200), again[0].text
        if not one.talk.gone:
            assert _ids(again) == one.ids
            assert again[0].headers["idempotency-replayed"] == "true"
            if other_text.strip() not in one.text:
                self.refused(self.post(one.talk, other_text, one.key), 422)

    def post(self, talk: Talk, text: str, key: str | None) -> list[Any]:
        return self.ask(
            "POST",
            "/v1/conversations/{talk}/turns",
            talk.owner,
            things={"talk": talk.ids},
            json={"text": text},
            headers={"Idempotency-Key": key} if key else {},
        )

    @rule(which=numbers, limit=st.integers(1, 200))
    def read(self, which: int, limit: int) -> None:
        talk = self.one_of(self.talks, which)
        if talk is None:
            return
        url = "/v1/conversations/{talk}/turns?limit=" + str(limit)
        got = self.ask("GET", url, talk.owner, things={"talk": talk.ids})
        if talk.gone:
            self.refused(got, 404)
            return
        for place, one in enumerate(got):
            items = one.json()["items"]
            assert [turn["text"] for turn in items] == talk.said[-limit:]
            assert [turn["id"] for turn in items] == [turn[place] for turn in talk.turns[-limit:]]

    @rule(which=numbers)
    def listen(self, which: int) -> None:
        one = self.one_of(self.said, which)
        if one is None:
            return
        url = "/v1/turns/{turn}/events"
        got = self.ask("GET", url, one.talk.owner, things={"turn": one.ids})
        if one.talk.gone:
            self.refused(got, 404)
            return
        # Whole lines, as a client reads them: people may say "event: done", and a stream quotes it.
        lines = [re.split(r"\r\n|\r|\n", response.text) for response in got]
        assert [each.count("event: done") for each in lines] == [1, 1]

    @rule(which=numbers)
    def pry(self, which: int) -> None:
        talk = self.one_of(self.talks, which)
        if talk is None:
            return
        stranger = "other" if talk.owner == "user" else "user"
        for method, path in (
            ("GET", "/v1/conversations/{talk}"),
            ("GET", "/v1/conversations/{talk}/turns"),
            ("DELETE", "/v1/conversations/{talk}"),
        ):
            self.refused(self.ask(method, path, stranger, things={"talk": talk.ids}), 404)

    @rule(which=numbers, rating=st.sampled_from(["up", "down", "x"]), comment=st.none() | texts)
    def rate(self, which: int, rating: str, comment: str | None) -> None:
        one = self.one_of(self.said, which)
        if one is None:
            return
        body = {"rating": rating, "comment": comment}
        path = "/v1/turns/{turn}/feedback"
        self.ask("PUT", path, one.talk.owner, things={"turn": one.ids}, json=body)

    @rule(which=numbers)
    def take_the_rating_back(self, which: int) -> None:
        one = self.one_of(self.said, which)
        if one is None:
            return
        path = "/v1/turns/{turn}/feedback"
        got = self.ask("DELETE", path, one.talk.owner, things={"turn": one.ids})
        assert got[0].status_code == (404 if one.talk.gone else 204)

    @rule(which=numbers)
    def cancel(self, which: int) -> None:
        one = self.one_of(self.said, which)
        if one is None:
            return
        path = "/v1/turns/{turn}/cancel"
        got = self.ask("POST", path, one.talk.owner, things={"turn": one.ids})
        assert got[0].status_code == (404 if one.talk.gone else 200)

    @rule(text=texts, who=people)
    def wonder(self, text: str, who: str) -> None:
        self.ask("POST", "/v1/route", who, json={"text": text})

    @rule(which=numbers)
    def delete(self, which: int) -> None:
        talk = self.one_of(self.talks, which)
        if talk is None:
            return
        path = "/v1/conversations/{talk}"
        got = self.ask("DELETE", path, talk.owner, things={"talk": talk.ids})
        if talk.gone:
            self.refused(got, 404)
            return
        talk.gone = True
        receipt = _ids_of(one.headers["location"].rsplit("/", 1)[1] for one in got)
        shown = self.ask("GET", "/v1/erasures/{receipt}", talk.owner, things={"receipt": receipt})
        rows = shown[0].json()["rows"]
        assert rows == shown[1].json()["rows"]
        assert (rows["conversations"], rows["turns"]) == (1, len(talk.turns))

    @precondition(lambda self: len(self.said) > 5)
    @rule(who=people)
    def forget_me(self, who: str) -> None:
        got = self.ask("DELETE", "/v1/me", who)
        theirs = [one for one in self.talks if one.owner == who and not one.gone]
        for one in got:
            assert one.json()["rows"]["conversations"] == len(theirs)
            assert one.json()["rows"]["turns"] == sum(len(talk.turns) for talk in theirs)
        for talk in theirs:
            talk.gone = True
        assert self.ask("GET", "/v1/conversations", who)[0].json()["items"] == []

    @rule(target=intents, name=names, replies=st.lists(texts, max_size=2), title=st.none() | texts)
    def teach(self, name: str, replies: list[str], title: str | None) -> Any:
        name = f"story-{name}"
        body = {"name": name, "replies": replies} | ({} if title is None else {"title": title})
        got = self.ask("POST", "/admin/intents", "admin", json=body)
        if got[0].status_code != 201:
            return self.nothing(got)
        self.made.append(name)
        return name

    @rule(name=intents, replies=st.lists(texts, max_size=2))
    def reword(self, name: str, replies: list[str]) -> None:
        path = f"/admin/intents/{quote(name)}"
        self.ask("PATCH", path, "admin", json={"replies": replies})

    @rule(target=examples, name=intents, several=st.lists(texts, max_size=3))
    def add_examples(self, name: str, several: list[str]) -> Any:
        path = f"/admin/intents/{quote(name)}/examples"
        got = self.ask("POST", path, "admin", json={"texts": several})
        if got[0].status_code != 201:
            return self.nothing(got)
        items = [one.json()["items"] for one in got]
        return multiple(*((a["id"], b["id"]) for a, b in zip(*items, strict=True)))

    @rule(target=examples, name=intents, which=numbers)
    def learn_from(self, name: str, which: int) -> Any:
        one = self.one_of(self.said, which)
        if one is None:
            return multiple()
        path = f"/admin/intents/{quote(name)}/examples"
        got = self.ask(
            "POST", path, "admin", things={"turn": one.ids},
            json=lambda here: {"from_turn": here["turn"]},
        )  # fmt: skip
        if got[0].status_code != 201:
            return self.nothing(got)
        assert not one.talk.gone
        items = [response.json()["items"] for response in got]
        return multiple(*((a["id"], b["id"]) for a, b in zip(*items, strict=True)))

    @rule(one=examples, text=texts)
    def change_example(self, one: Ids, text: str) -> None:
        path = "/admin/examples/{one}"
        self.ask("PATCH", path, "admin", things={"one": one}, json={"text": text})

    @rule(one=consumes(examples))
    def remove_example(self, one: Ids) -> None:
        self.ask("DELETE", "/admin/examples/{one}", "admin", things={"one": one})

    @rule(name=intents)
    def look_at_examples(self, name: str) -> None:
        got = self.ask("GET", f"/admin/intents/{quote(name)}/examples", "admin")
        if got[0].status_code == 200:
            assert _without_ids(got[0]) == _without_ids(got[1])

    @rule(name=consumes(intents))
    def unteach(self, name: str) -> None:
        self.ask("DELETE", f"/admin/intents/{quote(name)}", "admin")

    @rule(target=documents, name=names, text=texts)
    def write_down(self, name: str, text: str) -> str:
        name = f"story-{name.replace('/', '.')}"
        self.ask("PUT", f"/admin/documents/{name}", "admin", json={"text": text})
        return name

    @rule(name=consumes(documents))
    def tear_up(self, name: str) -> None:
        self.ask("DELETE", f"/admin/documents/{name}", "admin")

    @rule(days=st.floats(-1, 40_000))
    def count_what_is_old(self, days: float) -> None:
        got = self.ask("GET", f"/admin/retention?days={days}", "admin")
        if got[0].status_code == 200:
            assert set(got[0].json()["due"].values()) <= {0} or days < 1

    def alive(self) -> list[Talk]:
        return [one for one in self.talks if not one.gone]

    def one_of(self, all_of_them: Sequence[T], which: int) -> T | None:
        return all_of_them[which % len(all_of_them)] if all_of_them else None

    def teardown(self) -> None:
        for name in self.made:
            self.ask("DELETE", f"/admin/intents/{quote(name)}", "admin")

    def ask(self, method: str, path: str, who: str, **request: Any) -> list[Any]:
        by = who if who == "admin" else self.people[who]
        return self.both.call(method, path, by=by, **request)

    def nothing(self, got: list[Any]) -> Any:
        """Refused: nothing goes into the bundle."""
        self.refused(got)
        return multiple()

    def refused(self, got: list[Any], *statuses: int) -> None:
        for one in got:
            assert_problem(one, *statuses)
        assert got[0].json()["code"] == got[1].json()["code"]


def _ask(both: Pair, case: Any, things: dict[str, Ids]) -> None:
    sent = case.as_transport_kwargs(base_url="http://testserver")
    path = sent["url"].replace("{", "{{").replace("}", "}}")
    if things and case.path_parameters:
        path = case.operation.path
        path = path[: path.index("?")] if "?" in path else path
    content = sent.get("data") if isinstance(sent.get("data"), bytes) else None
    got = both.call(
        case.method,
        path,
        things=things,
        by="admin",
        params=sent.get("params"),
        content=content,
        json=sent.get("json"),
        headers=_sendable(sent.get("headers")),
    )
    for one in got:
        if one.status_code >= 400:
            assert_problem(one)


def _sendable(headers: Any) -> dict[str, str]:
    ours = ("authorization", "cookie")
    return {
        name: value
        for name, value in dict(headers or {}).items()
        if name.casefold() not in ours and str(value).isascii() and str(value).isprintable()
    }


def _ids(got: list[Any]) -> Ids:
    return _ids_of(one.json()["id"] for one in got)


def _ids_of(values: Iterator[str]) -> Ids:
    first, second = values
    return first, second


def _without_ids(response: Any) -> list[str]:
    return sorted(one["text"] for one in response.json()["items"])


def _bounded(examples: int, **more: Any) -> Any:
    return hypothesis_settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize="TWOFOLD_CALLS" not in os.environ,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        **more,
    )

"""Where no key, no cookie, no secret and nobody's words may be found: a whole run, searched."""

import io
import logging
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import inspect, text

from app import serving as serving_log
from app.database.database import Database
from app.errors import NotFound
from generator.interface import GeneratorUnavailable, Piece
from generator.scripted import ScriptedGenerator
from tests.integration.conftest import Served, serving
from tests.integration.routes import ABSENT, routes, things_of_ada

PEPPER = "a-pepper-that-nobody-may-read-0123456789"
WORDS_BELONG_IN = {("turns", "text"), ("turns", "comment"), ("conversations", "title")}
REPLIES_BELONG_IN = {("turns", "reply")}
REPLY = "Quokka-reply-8821"
ERASING = ("/v1/me", "/admin/owners/{owner}")
"""Called last: in what they leave there is nothing to find."""


class Talkative(ScriptedGenerator):
    """Its errors quote what people wrote, as those of libraries do."""

    def __init__(self) -> None:
        super().__init__([])

    async def stream(self, messages: Any, *_: Any, **__: Any) -> AsyncIterator[Piece]:
        said = messages[-1].text
        if "defect" in said:
            raise ValueError(f"cannot encode {said!r}")
        if "unavailable" in said:
            try:
                raise KeyError(said)
            except KeyError as error:
                raise GeneratorUnavailable(f"400 Bad Request: {said}") from error
        yield Piece(REPLY, self.name)


class Run:
    """One run of everything, and what was said in it."""

    def __init__(self) -> None:
        self.secrets: set[str] = {PEPPER}
        self.words: set[str] = set()
        self.callers: list[dict[str, str]] = []
        self.things: dict[str, str] = {}
        self.error_bodies: list[str] = []
        self.log = ""

    def word(self, about: str) -> str:
        word = f"Wombat{len(self.words):03d}{about}"
        self.words.add(word)
        return word

    def hear(self, response: Any) -> Any:
        if response.status_code >= 400:
            said = {k: v for k, v in response.headers.items() if k != "set-cookie"}
            self.error_bodies.append(f"{said} {response.text}")
        return response


@pytest.fixture
def verbose(monkeypatch: pytest.MonkeyPatch, settings) -> Iterator[io.StringIO]:
    """The server's own log, as wordy as it gets."""
    before = structlog.get_config()
    heard = io.StringIO()
    monkeypatch.setattr(sys, "stderr", heard)
    serving_log.set_up_logging(settings.model_copy(update={"log_level": "debug"}))
    yield heard
    structlog.configure(**before)


def test_no_secret_and_nobodys_words_are_where_they_do_not_belong(
    settings, verbose, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run()
    secret = settings.model_copy(update={"secret": _secret(PEPPER)})
    with caplog.at_level(logging.INFO), serving(secret, Talkative()) as served:
        _live(served, run)
        dump = list(_dumped(served.services.database))
        _call_routes(served, run, erasing=True)
        for headers in run.callers:
            served.client.delete("/v1/session", headers=headers)
        left = list(_dumped(served.services.database))
    others = [one.getMessage() for one in caplog.records if one.name != "httpx2"]  # our client
    run.log = "\n".join([verbose.getvalue(), *others])

    assert len(run.secrets) > 8
    assert len(run.words) > 15
    assert len(run.error_bodies) > 60
    assert run.log.count('"event"') + run.log.count("request") > 100
    assert "turn failed" in run.log  # the defect was seen, its words were not

    for what in run.secrets:
        assert not [place for place, value in dump + left if what in value]
        assert what not in run.log
        assert not [body for body in run.error_bodies if what in body]
    for word in run.words:
        places = {place for place, value in dump if word in value}
        assert places <= WORDS_BELONG_IN, places - WORDS_BELONG_IN
        assert word not in run.log
        assert not [body for body in run.error_bodies if word in body]
    assert {place for place, value in dump if REPLY in value} == REPLIES_BELONG_IN
    assert REPLY not in run.log
    found = {place for place, value in dump for word in run.words if word in value}
    assert ("turns", "text") in found  # the search finds what is there
    assert not [place for place, value in left for one in (*run.words, REPLY) if one in value]


def test_not_even_the_bytes_of_the_file_hold_a_key(settings) -> None:
    if not settings.is_sqlite:
        pytest.skip("PostgreSQL's files are its own; its rows are searched above")
    run = Run()
    secret = settings.model_copy(update={"secret": _secret(PEPPER)})
    with serving(secret, Talkative()) as served:
        _live(served, run)
        path = served.services.database.engine.url.database
        files = b"".join(Path(f"{path}{end}").read_bytes() for end in ("", "-wal"))
        for what in run.secrets:
            assert what.encode() not in files
        assert any(word.encode() in files for word in run.words)


def test_what_libraries_log_of_an_error_is_where_it_happened_and_not_what_it_quotes() -> None:
    try:
        try:
            raise KeyError("Wombat's words")
        except KeyError as error:
            raise ValueError("cannot parse Wombat's words") from error
    except ValueError:
        record = logging.getLogger("uvicorn.error").makeRecord(
            "uvicorn.error", logging.ERROR, "x", 1, "Exception in ASGI app", (), sys.exc_info()
        )
    said = serving_log.WordlessFormatter("%(levelname)s %(message)s").format(record)
    assert "Wombat" not in said
    assert "builtins.ValueError" in said
    assert "builtins.KeyError" in said
    assert f"{Path(__file__).name}:" in said
    ours = "\n".join(serving_log._described(NotFound("turn")))
    assert "there is no such turn" in ours


def _live(served: Served, run: Run) -> None:
    """Every route that erases nobody, rightly and wrongly, by everybody; failures of every kind."""
    client = served.client
    for headers in (served.user, served.other, served.admin):
        run.secrets.add(headers["Authorization"].removeprefix("Bearer "))
    made = client.post("/admin/keys", json={"name": "till"}, headers=served.admin).json()
    run.secrets.add(made["key"])

    cookies = []
    for body in ({}, {"key": made["key"]}):
        got = client.post("/v1/session", json=body)
        cookie = re.match("twofold_session=([^;]+)", got.headers["set-cookie"])[1]
        run.secrets |= {cookie, *(part for part in cookie.split(".") if len(part) > 8)}
        cookies.append({"Cookie": f"twofold_session={cookie}", "X-Twofold-Page": "1"})
        client.cookies.clear()

    # Words that are answered, fail, are refused, are a title or a comment.
    everybody = [served.user, served.admin, *cookies]
    for headers in everybody:
        conversation = served.conversation(headers)
        for about in ("fine", "defect", "unavailable"):
            word = run.word(about)
            url = f"/v1/conversations/{conversation}/turns"
            for accept in ("application/json", "text/event-stream"):
                body = {"text": f"{word} please"}
                run.hear(client.post(url, json=body, headers=headers | {"Accept": accept}))
        word = run.word("refused")
        for bad in ({"text": word, "other": word}, {"text": f"{word}\0"}, {word: 1}, word):
            run.hear(client.post(url, json=bad, headers=headers))
        run.hear(client.post(f"/v1/conversations/{ABSENT}/turns", json={"text": word}))
        run.hear(client.post("/v1/route", json={"text": run.word("asked")}, headers=headers))
        turn = client.get(url, headers=headers).json()["items"][0]["id"]
        rated = {"rating": "up", "comment": run.word("comment")}
        client.put(f"/v1/turns/{turn}/feedback", json=rated, headers=headers)

    # Secrets in the wrong places: an address, a query, a body, a half-right header.
    key = made["key"]
    for path in (f"/v1/assistant?key={key}&api_key={key}", f"/{key}", f"/v1/turns/{key}"):
        assert run.hear(client.get(path)).status_code in (401, 404)
        run.hear(client.get(path, headers=served.user))
    for header in (f"Basic {key}", f"Bearer {key}x", key, f"Bearer {key} {key}"):
        run.hear(client.get("/v1/assistant", headers={"Authorization": header}))
    run.hear(client.post("/v1/session", json={"key": f"{key}x"}))
    run.hear(client.post("/v1/session", json={"key": key, key: key}))
    run.hear(client.post("/admin/keys", json={"name": key * 10}, headers=served.admin))
    wrong = cookies[1] | {"Cookie": cookies[1]["Cookie"] + "x"}
    run.hear(client.get("/v1/session", headers=wrong))
    run.hear(client.get(f"/v1/turns/{run.word('address')}", headers=served.user))
    run.hear(client.get(f"/v1/conversations?cursor={run.word('query')}", headers=served.user))

    run.callers = [{}, served.other, *cookies, served.admin]
    run.things = things_of_ada(served)
    _call_routes(served, run, erasing=False)


def _call_routes(served: Served, run: Run, *, erasing: bool) -> None:
    for route in routes(served):
        if (route.path in ERASING) is not erasing:
            continue
        if route.path == "/v1/session" and route.method != "GET":
            continue
        url = route.url(run.things)
        for headers in run.callers:
            run.hear(served.client.request(route.method, url, json=route.body, headers=headers))


def _dumped(database: Database) -> Iterator[tuple[tuple[str, str], str]]:
    """Every value of every table there is, ours or the search index's, with its place."""

    def read(connection: Any) -> list[tuple[tuple[str, str], str]]:
        return [
            ((table, column), repr(value))
            for table in inspect(connection).get_table_names()
            for row in connection.execute(text(f'SELECT * FROM "{table}"')).mappings()
            for column, value in row.items()
        ]

    return iter(database.read_now(read))


def _secret(value: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(value)

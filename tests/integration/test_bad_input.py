"""What no client should send: a clear refusal, no echo, nothing changed."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from tests.integration.conftest import Served
from tests.integration.routes import (
    ABSENT,
    Route,
    assert_problem,
    routes,
    table_contents,
    things_of_ada,
)

MARKER = "Zyzzyva7341"  # in every bad input; in no answer

JSON = {"Content-Type": "application/json"}
TOO_MANY = 600_000  # more characters than any field takes

NOT_JSON: dict[str, bytes] = {
    "nothing": b"",
    "words": MARKER.encode(),
    "cut off": b'{"' + MARKER.encode() + b'": ',
    "single quotes": f"{{'{MARKER}': 1}}".encode(),
    "trailing comma": f'{{"{MARKER}": 1,}}'.encode(),
    "comment": f"{{}} // {MARKER}".encode(),
    "two values": f'{{}} "{MARKER}"'.encode(),
    "NaN": f'{{"{MARKER}": NaN}}'.encode(),
    "Infinity": f'{{"{MARKER}": -Infinity}}'.encode(),
    "the same name twice": f'{{"{MARKER}": 1, "{MARKER}": 2}}'.encode(),
    "deep lists": b"[" * 100_000,
    "deep objects": f'{{"{MARKER}":'.encode() * 20_000 + b"1" + b"}" * 20_000,
    "huge integer": f'{{"{MARKER}": {"9" * 5000}}}'.encode(),
    "huge exponent": f'{{"{MARKER}": 1e999}}'.encode(),
    "half a surrogate pair as bytes": f'{{"{MARKER}": "'.encode() + b'\xed\xa0\x80"}',
    "half a surrogate pair as a name": f'{{"{MARKER}\\ud800": 1}}'.encode(),
    "not UTF-8": f'{{"{MARKER}": "'.encode() + b'\xff\xfe"}',
    "UTF-16": f'{{"{MARKER}": 1}}'.encode("utf-16"),
    "NUL byte": f'{{"{MARKER}": "\0"}}'.encode(),
    "unknown field": f'{{"{MARKER}": "{MARKER}"}}'.encode(),
    "list": f'["{MARKER}"]'.encode(),
    "text": f'"{MARKER}"'.encode(),
    "number": b"7",
    "null": b"null",
    "true": b"true",
    "2 MB": f'{{"{MARKER}": "{"x" * 2_000_000}"}}'.encode(),
}

BAD_TEXTS: dict[str, str] = {
    "empty": "",
    "blank": " \t\r\n\u00a0\u3000",
    "zero width": "\u200b\u200d\ufeff\u2060",
    "zero width on two lines": "\u200b\n\u200b",
    "NUL": f"{MARKER}\0",
    "control character": f"{MARKER}\x1b[2J",
    "half a surrogate pair": f"{MARKER}\ud800",
    "the other half": f"\udfff{MARKER}",
    "too long": MARKER + "a" * TOO_MANY,
    "one that grows when it is composed": "\U0001d160" * 200_000,
}

WRONG_TYPES: tuple[Any, ...] = ({MARKER: MARKER}, [MARKER], [[MARKER]], True, 1.5, -(10**16))


def test_every_route_refuses_what_is_not_its_json(served: Served) -> None:
    things, before = _prepared(served)
    for route in _with_bodies(served):
        for what, body in NOT_JSON.items():
            got = _send(served, route, things, body)
            assert_problem(got, 400, 413, 422)
            _assert_no_echo(got, f"{route}: {what}")
        assert table_contents(served) == before, route


def test_every_route_refuses_json_that_does_not_say_it_is(served: Served) -> None:
    things, before = _prepared(served)
    kinds = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x", "")
    for route in _with_bodies(served):
        for kind in kinds:
            body = json.dumps(route.body).encode()
            got = _send(served, route, things, body, {"Content-Type": kind})
            assert_problem(got, 400, 415, 422)
        assert table_contents(served) == before, route


def test_every_text_field_refuses_what_is_no_text(served: Served) -> None:
    things, before = _prepared(served)
    tried = 0
    for route in _with_bodies(served):
        for place, value in _leaves(route.body):
            if not isinstance(value, str):
                continue
            for what, text in BAD_TEXTS.items():
                got = _send(served, route, things, _dumped(_with(route.body, place, text)))
                assert_problem(got, 401 if _is_key(place) else 422, 413, 422)
                _assert_no_echo(got, f"{route} {place}: {what}")
                tried += 1
        assert table_contents(served) == before, route
    assert tried > 200


def test_every_field_refuses_values_of_another_type(served: Served) -> None:
    things, before = _prepared(served)
    for route in _with_bodies(served):
        for place, value in _leaves(route.body):
            for wrong in (*WRONG_TYPES, *([MARKER, "5000"] if isinstance(value, int) else [])):
                if type(wrong) is type(value):
                    continue
                got = _send(served, route, things, _dumped(_with(route.body, place, wrong)))
                assert_problem(got, 422)
                _assert_no_echo(got, f"{route} {place}: {wrong!r}")
        assert table_contents(served) == before, route


def test_every_required_field_is_asked_for_and_no_other_is_taken(served: Served) -> None:
    things, before = _prepared(served)
    for route in _with_bodies(served):
        more = {**route.body, MARKER: 1}
        got = _send(served, route, things, _dumped(more))
        assert_problem(got, 422)
        _assert_no_echo(got, str(route))
    needed = {
        "/v1/conversations/{conversation_id}/turns": ["text"],
        "/v1/route": ["text"],
        "/v1/turns/{turn_id}/feedback": ["rating"],
        "/admin/assistant": ["name", "greeting", "suggestions", "variables"],
        "/admin/documents/{name}": ["text"],
        "/admin/examples/{example_id}": ["text"],
    }
    for route in _with_bodies(served):
        for name in needed.get(route.path, ()):
            less = {other: value for other, value in route.body.items() if other != name}
            problem = assert_problem(_send(served, route, things, _dumped(less)), 422)
            assert problem["errors"] == [{"field": name, "message": "is required"}], route
    assert table_contents(served) == before


def test_names_of_variables_are_checked_and_not_repeated_to_the_client(served: Served) -> None:
    _, before = _prepared(served)
    for name in (f"{MARKER} <b>", f"1{MARKER}", f"{MARKER}\n", f"{MARKER}ä", MARKER * 6, ""):
        got = served.client.post(
            "/v1/conversations", json={"variables": {name: "x"}}, headers=served.user
        )
        assert_problem(got, 422)
        _assert_no_echo(got, name)
    got = served.client.post(
        "/v1/conversations", json={"variables": {MARKER: ""}}, headers=served.user
    )
    assert_problem(got, 422)
    _assert_no_echo(got, "a variable's value")
    assert table_contents(served) == before


def test_text_that_grows_when_it_is_composed_still_fits(served: Served) -> None:
    """U+0958 is two characters in composed form: 200 of them are 400."""
    before = table_contents(served)
    growing = "\u0958" * 200
    for method, path, body in (
        ("POST", "/v1/conversations", {"title": growing}),
        ("POST", "/admin/intents", {"name": growing}),
        ("POST", "/admin/intents", {"name": "fine", "title": growing}),
        ("PATCH", "/admin/intents/greet", {"title": growing}),
        ("PUT", "/admin/documents/d", {"title": growing, "text": "Some text."}),
        ("PUT", "/admin/assistant", {**VALID_ASSISTANT, "name": growing[:100]}),
    ):
        got = served.client.request(method, path, json=body, headers=served.admin)
        assert_problem(got, 422)
    assert served.client.get("/v1/conversations", headers=served.user).json()["items"] == []
    assert _without_keys(table_contents(served)) == _without_keys(before)


def test_an_unknown_or_malformed_id_is_absent(served: Served) -> None:
    things, before = _prepared(served)
    malformed = (
        ABSENT.upper(),
        ABSENT + "0",
        "0" * 31 + "g",
        MARKER,
        "%00",
        "%ff",
        "%f0%9f%98%80",
        "..%2f..%2fetc%2fpasswd",
        "%27%20OR%201=1--",
        "9" * 400,
        "-1",
        "0",
        "1e3",
        "%20",
    )
    for route in _with_places(served):
        for bad in (ABSENT, "2147483647", *malformed):
            url = route.url(dict.fromkeys(things, bad))
            if route.method in ("PUT",) and "documents" in route.path and _is_plain(bad):
                continue  # there it is a new document's name
            got = served.client.request(route.method, url, json=route.body, headers=served.admin)
            assert_problem(got, 404, 405, 422)
            if MARKER in url:
                _assert_no_echo(got, f"{route}: {bad}")
        assert table_contents(served) == before, route


def test_pages_of_an_impossible_size_or_place_are_refused(served: Served) -> None:
    things, _ = _prepared(served)
    listed = [
        f"/v1/conversations/{things['conversation_id']}/turns",
        "/v1/conversations",
        "/admin/intents/greet/examples",
    ]
    limits = ("0", "-1", "201", "1e9", "1000000000", "9" * 400, "x", "", "1.5", "%00", "%ff", "nan")
    cursors = (
        MARKER,
        "",
        "%00",
        "%ff",
        "_",
        "nan_0",
        "inf_0",
        "1e999_0",
        "1,5_0",
        "9" * 90,
        "-1",
        "1_0'--",
        "1" * 101,
        "%F0%9F%98%80",
    )
    queries = [f"limit={one}" for one in limits] + [f"cursor={one}" for one in cursors]
    for url in listed:
        for query in queries:
            got = served.client.get(f"{url}?{query}", headers=served.admin | served.user)
            if "/admin/" in url:
                got = served.client.get(f"{url}?{query}", headers=served.admin)
            assert got.status_code == 422, (url, query, got.text)
            assert_problem(got, 422)
            _assert_no_echo(got, query)
    turn = f"/v1/turns/{things['turn_id']}"
    for wait in ("-1", "31", "nan", "inf", "x", "", "1e9"):
        assert_problem(served.client.get(f"{turn}?wait={wait}", headers=served.user), 422)


def test_weird_headers_are_refused_or_ignored(served: Served) -> None:
    things, before = _prepared(served)
    url = f"/v1/conversations/{things['conversation_id']}/turns"
    for key in (
        "",
        "short",
        "x" * 15,
        "x" * 256,
        "with a blank inside",
        b"\xff" * 20,
        b"\x00" * 20,
        "Zyzzyva7341 Zyzzyva7341",
        "tab\tinside the key",
    ):
        got = served.client.post(
            url, json={"text": "hello"}, headers=served.user | {"Idempotency-Key": key}
        )
        assert_problem(got, 422)
        _assert_no_echo(got, repr(key))
    assert table_contents(served) == before
    events = f"/v1/turns/{things['turn_id']}/events"
    for position in ("", "x", "1", "1.", ".1", "1.x", "-1.-1", "9.9", "9" * 19 + "." + "9" * 20,
                     b"\xb2.\xb9", b"\xff", b"1.\x000", "1e3.2",
                     MARKER * 10, "1" * 8000):  # fmt: skip
        got = served.client.get(events, headers=served.user | {"Last-Event-ID": position})
        assert got.status_code == 200, position
        # It is not ours, or ahead of what there is: from the beginning, and no word of it.
        assert got.text.count("event: done") == 1, position
        _assert_no_echo(got, repr(position))


def test_addresses_that_are_not_there_are_problems_too(served: Served) -> None:
    for path in (
        "/nothing",
        f"/v1/{MARKER}",
        "/%00",
        "/%ff",
        "/static/%00",
        "/static/..%2f..%2fapp/main.py",
        "/static/" + "a" * 5000,
        "/static/nothing.js",
        "/static/",
        "/admin/",
        "/v1//turns",
        "/v1/conversations/",
    ):
        got = served.client.get(path, headers=served.user, follow_redirects=False)
        assert got.status_code in (307, 401, 403, 404, 422), (path, got.text)
        if got.status_code != 307:
            assert_problem(got)
        _assert_no_echo(got, path)
    assert_problem(served.client.post("/livez"), 405)
    assert_problem(served.client.delete("/v1/conversations", headers=served.user), 405)


VALID_ASSISTANT = {"name": "Juno", "greeting": "Hello!", "suggestions": [], "variables": {}}


def _prepared(served: Served) -> tuple[dict[str, str], dict[str, Any]]:
    """Things to call routes on, and the tables once every key has been used."""
    things = things_of_ada(served)
    return things, table_contents(served)


def _with_bodies(served: Served) -> list[Route]:
    return [route for route in routes(served) if route.takes_body]


def _with_places(served: Served) -> list[Route]:
    return [route for route in routes(served) if "{" in route.path]


def _send(
    served: Served,
    route: Route,
    things: dict[str, str],
    body: bytes,
    headers: dict[str, str] = JSON,
) -> Any:
    credentials = served.admin if route.is_admin else served.user
    return served.client.request(
        route.method, route.url(things), content=body, headers=credentials | headers
    )


def _assert_no_echo(response: Any, what: str) -> None:
    assert MARKER not in response.text, what
    assert MARKER not in repr(response.headers), what


def _leaves(body: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value in a body that holds no other, with the way to it."""
    pairs: Any = ()
    if isinstance(body, dict):
        pairs = body.items()
    elif isinstance(body, list):
        pairs = enumerate(body)
    else:
        yield place, body
    for step, value in pairs:
        yield from _leaves(value, (*place, step))


def _with(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(body)
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return changed


def _dumped(body: Any) -> bytes:
    return json.dumps(body).encode()


def _is_key(place: tuple[Any, ...]) -> bool:
    return place == ("key",)


def _is_plain(name: str) -> bool:
    return name.replace("-", "").isalnum()


def _without_keys(tables: dict[str, Any]) -> dict[str, Any]:
    return {name: rows for name, rows in tables.items() if name != "api_keys"}

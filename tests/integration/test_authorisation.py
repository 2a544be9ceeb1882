"""Every route of the API document × everybody who may come along × whose it is.

What is expected comes from the document (which scope an operation needs), not from the code.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, insert, update

from app.database import api_keys, model_versions
from app.database.api_keys import Scope
from app.database.tables import sampled_turns, samples, turns
from tests.integration.conftest import Served
from tests.integration.routes import (
    ABSENT,
    METHODS,
    VALID_BODIES,
    assert_problem,
    table_contents,
    things_of,
)

WORKS: Mapping[tuple[str, str], int] = {
    ("POST", "/v1/session"): 200,
    ("GET", "/v1/session"): 200,
    ("DELETE", "/v1/session"): 204,
    ("POST", "/v1/conversations"): 201,
    ("GET", "/v1/conversations"): 200,
    ("GET", "/v1/conversations/{conversation_id}"): 200,
    ("DELETE", "/v1/conversations/{conversation_id}"): 204,
    ("POST", "/v1/conversations/{conversation_id}/turns"): 201,
    ("GET", "/v1/conversations/{conversation_id}/turns"): 200,
    ("GET", "/v1/turns/{turn_id}"): 200,
    ("GET", "/v1/turns/{turn_id}/events"): 200,
    ("POST", "/v1/turns/{turn_id}/retry"): 200,
    ("POST", "/v1/turns/{turn_id}/cancel"): 200,
    ("PUT", "/v1/turns/{turn_id}/feedback"): 200,
    ("DELETE", "/v1/turns/{turn_id}/feedback"): 204,
    ("POST", "/v1/route"): 200,
    ("DELETE", "/v1/me"): 200,
    ("GET", "/v1/erasures/{erasure_id}"): 200,
    ("GET", "/v1/assistant"): 200,
    ("GET", "/admin/assistant"): 200,
    ("PUT", "/admin/assistant"): 200,
    ("GET", "/admin/intents"): 200,
    ("POST", "/admin/intents"): 201,
    ("GET", "/admin/intents/{name}"): 200,
    ("PATCH", "/admin/intents/{name}"): 200,
    ("DELETE", "/admin/intents/{name}"): 204,
    ("GET", "/admin/intents/{name}/examples"): 200,
    ("POST", "/admin/intents/{name}/examples"): 201,
    ("PATCH", "/admin/examples/{example_id}"): 200,
    ("DELETE", "/admin/examples/{example_id}"): 204,
    ("GET", "/admin/training-data/lint"): 200,
    ("GET", "/admin/review"): 200,
    ("POST", "/admin/review/accept-suggestions"): 200,
    ("POST", "/admin/review/{turn_id}"): 200,
    ("DELETE", "/admin/review/{turn_id}"): 204,
    ("GET", "/admin/sample"): 200,
    ("POST", "/admin/sample"): 409,  # somebody else has drawn one
    ("POST", "/admin/sample/enlarge"): 409,
    ("GET", "/admin/sample/turns"): 200,
    ("POST", "/admin/sample/turns/{turn_id}"): 200,
    ("DELETE", "/admin/sample/turns/{turn_id}"): 200,
    ("POST", "/admin/training-jobs"): 202,
    ("GET", "/admin/training-jobs"): 200,
    ("GET", "/admin/training-jobs/{job_id}"): 200,
    ("GET", "/admin/training-jobs/{job_id}/events"): 200,
    ("POST", "/admin/training-jobs/{job_id}/cancel"): 200,
    ("GET", "/admin/model-versions"): 200,
    ("GET", "/admin/model-versions/{number}"): 200,
    ("POST", "/admin/model-versions/{number}/promote"): 200,
    ("POST", "/admin/model-versions/rollback"): 200,
    ("POST", "/admin/model-versions/recalibrate"): 409,  # of the sample nothing is labelled
    ("GET", "/admin/documents"): 200,
    ("GET", "/admin/documents/{name}"): 200,
    ("PUT", "/admin/documents/{name}"): 200,
    ("DELETE", "/admin/documents/{name}"): 204,
    ("GET", "/admin/keys"): 200,
    ("POST", "/admin/keys"): 201,
    ("DELETE", "/admin/keys/{key_id}"): 204,
    ("GET", "/admin/erasures"): 200,
    ("GET", "/admin/erasures/{erasure_id}"): 200,
    ("DELETE", "/admin/owners/{owner}"): 200,
    ("GET", "/admin/retention"): 200,
    ("GET", "/admin/ledger"): 200,
    ("GET", "/admin/ledger/turns"): 200,
    ("GET", "/admin/ledger/turns.csv"): 200,
    ("GET", "/admin/ledger/proof"): 200,
    ("GET", "/admin/drift"): 200,
    ("GET", "/metrics"): 200,
    ("GET", "/livez"): 200,
    ("GET", "/readyz"): 200,
}
"""What somebody hears who may call it, on things that are there."""


@dataclass(frozen=True)
class Caller:
    name: str
    headers: dict[str, str]
    scopes: frozenset[str] | None
    """None: nobody we know."""


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    scope: str | None
    """None: any caller that is known."""
    is_open: bool
    takes_body: bool
    mine: frozenset[str] = field(default_factory=frozenset)
    """Which of the things it names belong to somebody; an admin looks at everybody's."""

    def works_for(self, caller: Caller) -> bool:
        if self.is_open:
            return True
        return caller.scopes is not None and (self.scope is None or self.scope in caller.scopes)


OWNED = ("conversation_id", "turn_id", "erasure_id")


@pytest.fixture
def callers(served: Served) -> dict[str, Caller]:
    def key(name: str, *scopes: Scope) -> dict[str, str]:
        _, made = served.services.database.write_now(
            lambda c: api_keys.create(c, name, scopes, pepper=served.services.secret)
        )
        return {"Authorization": f"Bearer {made}"}

    def guest() -> dict[str, str]:
        cookie = served.client.post("/v1/session", json={}).headers["set-cookie"].split(";")[0]
        served.client.cookies.clear()
        return {"Cookie": cookie, "X-Twofold-Page": "1"}

    chat = frozenset({"chat"})
    return {
        one.name: one
        for one in (
            Caller("nobody", {}, None),
            Caller("a stranger with a made-up key", {"Authorization": "Bearer tf_x"}, None),
            Caller("guest", guest(), chat),
            Caller("another guest", guest(), chat),
            Caller("key", key("key", Scope.CHAT), chat),
            Caller("foreign key", key("foreign", Scope.CHAT), chat),
            Caller("observer", key("eyes", Scope.ADMIN_READ), frozenset({"admin:read"})),
            Caller("admin", served.admin, frozenset({"chat", "admin:read", "admin:write"})),
        )
    }


@pytest.fixture
def operations(served: Served) -> list[Operation]:
    found = list(_operations(served.client.get("/openapi.json").json()))
    assert {(one.method, one.path) for one in found} == set(WORKS), (
        "a route is new or gone: say in WORKS what it answers, and in routes.py what it takes"
    )
    return found


def test_whoever_may_not_call_a_route_is_told_so_and_changes_nothing(
    served: Served, callers: dict[str, Caller], operations: list[Operation]
) -> None:
    things = things_of(served, callers["key"].headers)
    before = table_contents(served)
    refused = 0
    for operation in operations:
        for caller in callers.values():
            if operation.works_for(caller) or operation.path == "/v1/session":
                continue
            got = _call(served, operation, caller, things)
            where = f"{operation.method} {operation.path} by {caller.name}"
            if caller.scopes is None:
                assert got.status_code == 401, where
                assert assert_problem(got)["code"] == "not_authenticated", where
            else:
                assert got.status_code == 403, where
                assert assert_problem(got)["code"] == "not_allowed", where
            refused += 1
    assert refused > 5 * len([one for one in operations if not one.is_open])
    assert table_contents(served) == before


def test_whoever_may_call_a_route_gets_what_it_is_for(
    served: Served, callers: dict[str, Caller], operations: list[Operation]
) -> None:
    for operation in operations:
        for caller in callers.values():
            if not operation.works_for(caller) or operation.path == "/v1/session":
                continue
            owner = caller if caller.scopes and "chat" in caller.scopes else callers["key"]
            if operation.mine and owner is not caller:
                continue
            things = _fresh_things(served, owner)
            if operation.path.endswith("/retry"):
                _fail(served, things["turn_id"])
            got = _call(served, operation, caller, things)
            where = f"{operation.method} {operation.path} by {caller.name}: {got.text[:300]}"
            assert got.status_code == WORKS[operation.method, operation.path], where


def test_what_is_somebody_elses_is_absent_byte_for_byte(
    served: Served, callers: dict[str, Caller], operations: list[Operation]
) -> None:
    things = {name: things_of(served, callers[name].headers) for name in ("guest", "key", "admin")}
    before = table_contents(served)
    tried = 0
    for operation in operations:
        if not operation.mine:
            continue
        for owner, owned in things.items():
            absent = owned | dict.fromkeys(operation.mine, ABSENT)
            for caller in callers.values():
                if caller.name == owner or not operation.works_for(caller):
                    continue
                for accept in ("application/json", "text/event-stream"):
                    foreign, none = (
                        _call(served, operation, caller, which, Accept=accept)
                        for which in (owned, absent)
                    )
                    where = f"{operation.method} {operation.path}: {owner}'s, by {caller.name}"
                    assert_problem(foreign, 404)
                    assert _comparable(foreign) == _comparable(none), where
                    tried += 1
    assert tried >= 2 * 3 * 4 * len([one for one in operations if one.mine])
    assert table_contents(served) == before


def test_a_session_is_for_whoever_has_one(served: Served, callers: dict[str, Caller]) -> None:
    for caller in callers.values():
        got = served.client.get("/v1/session", headers=caller.headers)
        if caller.scopes is None:
            assert_problem(got, 401)
        else:
            assert got.json()["scopes"] == sorted(caller.scopes)
        assert served.client.delete("/v1/session", headers=caller.headers).status_code == 204


def _fresh_things(served: Served, owner: Caller) -> dict[str, str]:
    """Of the operator's things, too, one that nobody has renamed or deleted yet."""
    name, admin = f"fresh-{uuid4().hex}", served.admin
    things = things_of(served, owner.headers)
    served.client.post("/admin/intents", json={"name": name, "title": name}, headers=admin)
    served.client.put(f"/admin/documents/{name}", json={"text": f"About {name}."}, headers=admin)
    number = served.services.database.write_now(
        lambda c: model_versions.add(
            c,
            b"a fake network",
            data_hash="0" * 64,
            intents=4,
            examples=8,
            evaluation={"accuracy": 0.9},
            training_job_id=None,
        )
    )
    served.services.database.write_now(lambda c: _sample(c, number, things["turn_id"]))
    promoted = served.client.post(f"/admin/model-versions/{number}/promote", json={}, headers=admin)
    return things | {
        "name": name,
        "number": str(number),
        "epoch": str(promoted.json()["epoch"]),
    }


def _sample(connection: Connection, network: int, turn_id: str) -> None:
    sample_id = uuid4().hex
    connection.execute(
        insert(samples).values(
            id=sample_id,
            network=network,
            drawn_at=0.0,
            drawn_by="key:a",
            asked_from=0.0,
            asked_to=0.0,
            population=1,
            size=1,
            tries=1,
        )
    )
    connection.execute(insert(sampled_turns).values(turn_id=turn_id, sample_id=sample_id, place=0))


def _fail(served: Served, turn_id: str) -> None:
    """As if its generator had broken: only such a turn can be answered again."""
    served.services.database.write_now(
        lambda c: c.execute(
            update(turns)
            .where(turns.c.id == turn_id)
            .values(status="failed", error_code="internal")
        )
    )


def _call(
    served: Served, operation: Operation, caller: Caller, things: Mapping[str, str], **more: str
) -> Any:
    body = None
    if operation.takes_body:
        body = dict(VALID_BODIES[operation.method, operation.path])
        body |= {name: things[name] for name in operation.mine if name in body}
        if "name" in body:
            body["name"] = f"new-{uuid4().hex}"
        if "expected_epoch" in body:
            body["expected_epoch"] = int(things.get("epoch", "1"))
    return served.client.request(
        operation.method,
        operation.path.format_map(things),
        json=body,
        headers=caller.headers | more,
    )


def _operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method not in operations:
                continue
            security = operations[method]["security"]
            scopes = {scope for one in security for names in one.values() for scope in names}
            assert len(scopes) <= 1, f"{method} {path}"
            named = VALID_BODIES.get((method.upper(), path), {})
            yield Operation(
                method.upper(),
                path,
                next(iter(scopes), None),
                is_open=not security,
                takes_body="requestBody" in operations[method],
                mine=frozenset(
                    one
                    for one in OWNED
                    if not path.startswith("/admin/") and (f"{{{one}}}" in path or one in named)
                ),
            )


def _comparable(response: Any) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """All of it, to the byte, but the number that only this response has."""
    request_id = response.headers["x-request-id"].encode()
    assert request_id in response.content
    return (
        response.status_code,
        response.content.replace(request_id, b"-"),
        [one for one in response.headers.raw if one[1] != request_id],
    )

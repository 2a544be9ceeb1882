"""Every route that the OpenAPI document lists, with things that exist to call it on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from app.database.tables import conversations, metadata
from tests.integration.conftest import Served

METHODS = ("get", "post", "put", "patch", "delete")
ABSENT = "0" * 32

VALID_BODIES: Mapping[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/session"): {"key": "tf_no_such_key"},
    ("POST", "/v1/conversations"): {"title": "A talk", "variables": {"name": "Ada"}},
    ("POST", "/v1/conversations/{conversation_id}/turns"): {"text": "hello", "deadline_ms": 5000},
    ("PUT", "/v1/turns/{turn_id}/feedback"): {"rating": "up", "comment": "good"},
    ("POST", "/v1/route"): {"text": "hello", "conversation_id": ABSENT},
    ("PUT", "/admin/assistant"): {
        "name": "Juno",
        "greeting": "Hello!",
        "suggestions": ["Where is my parcel?"],
        "variables": {"shop": "Pine & Cone"},
    },
    ("POST", "/admin/intents"): {
        "name": "ask_price",
        "title": "Ask the price",
        "replies": ["It is free."],
        "examples": ["what does it cost"],
    },
    ("PATCH", "/admin/intents/{name}"): {
        "name": "salute",
        "title": "Say hello",
        "replies": ["Hello!"],
    },
    ("POST", "/admin/intents/{name}/examples"): {"texts": ["good evening"]},
    ("PATCH", "/admin/examples/{example_id}"): {"text": "good night"},
    ("POST", "/admin/review/{turn_id}"): {"intent": "greet", "text": "good day"},
    ("POST", "/admin/review/accept-suggestions"): {"turn_ids": [ABSENT]},
    ("POST", "/admin/sample"): {"replaces": ABSENT},
    ("POST", "/admin/sample/enlarge"): {"replaces": ABSENT},
    ("POST", "/admin/sample/turns/{turn_id}"): {"intent": "greet"},
    ("POST", "/admin/training-jobs"): {},
    ("POST", "/admin/model-versions/{number}/promote"): {"expected_epoch": 1},
    ("POST", "/admin/model-versions/rollback"): {"expected_epoch": 1},
    ("POST", "/admin/model-versions/recalibrate"): {
        "expected_epoch": 1,
        "even_uncertified": False,
    },
    ("PUT", "/admin/documents/{name}"): {"title": "Returns", "text": "You have 30 days."},
    ("POST", "/admin/keys"): {
        "name": "somebody",
        "scopes": ["chat", "admin:read"],
        "expires_at": "2999-01-01T00:00:00Z",
    },
}


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    takes_body: bool

    @property
    def is_admin(self) -> bool:
        return self.path.startswith("/admin/")

    @property
    def body(self) -> dict[str, Any] | None:
        """One that the route takes; None where it takes none."""
        return VALID_BODIES[self.method, self.path] if self.takes_body else None

    def url(self, things: Mapping[str, str]) -> str:
        return self.path.format_map(things)


def routes(served: Served) -> list[Route]:
    found = list(_routes(served.client.app.openapi()))
    with_bodies = {(one.method, one.path) for one in found if one.takes_body}
    assert with_bodies == set(VALID_BODIES), "give each new route a body that it takes"
    return found


def things_of_ada(served: Served) -> dict[str, str]:
    return things_of(served, served.user)


def things_of(served: Served, owner: dict[str, str]) -> dict[str, str]:
    """One of each, by the name that it has in paths; conversations, turns and receipts are
    the owner's."""
    client, admin = served.client, served.admin
    conversation = served.conversation(owner)
    turn = client.post(
        f"/v1/conversations/{conversation}/turns", json={"text": "hello"}, headers=owner
    ).json()["id"]
    texts = [f"hello {conversation}"]
    added = client.post("/admin/intents/greet/examples", json={"texts": texts}, headers=admin)
    client.put("/admin/documents/delivery", json={"text": "It takes 3 days."}, headers=admin)
    job = client.post("/admin/training-jobs", json={}, headers=admin).json()["id"]
    # Its events end only when the job does.
    client.post(f"/admin/training-jobs/{job}/cancel", headers=admin)
    key = client.post("/admin/keys", json={"name": "old"}, headers=admin).json()["id"]
    return {
        "conversation_id": conversation,
        "turn_id": turn,
        "example_id": added.json()["items"][0]["id"],
        "job_id": job,
        "key_id": key,
        "name": "greet",
        "number": "1",
        "owner": _owner(served, conversation),
        "erasure_id": _erasure(served, owner),
    }


def _owner(served: Served, conversation: str) -> str:
    whose = select(conversations.c.owner).where(conversations.c.id == conversation)
    return str(served.services.database.read_now(lambda c: c.scalar(whose)))


def _erasure(served: Served, owner: dict[str, str]) -> str:
    """The receipt of a conversation of the owner's that is gone."""
    url = f"/v1/conversations/{served.conversation(owner)}"
    gone = served.client.delete(url, headers=owner)
    return str(gone.headers["location"].rsplit("/", 1)[1])


IN_THE_BACKGROUND = ("last_used_at", "meaning", "word_meanings", "meaning_version")


def table_contents(served: Served) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, to see that nothing has changed. What is noted in the background,
    whatever the request did, is left out: when a key was last used, what passages mean."""

    def read(connection: Any) -> dict[str, list[tuple[Any, ...]]]:
        return {
            table.name: sorted(
                map(
                    tuple,
                    connection.execute(
                        select(*(one for one in table.c if one.name not in IN_THE_BACKGROUND))
                    ),
                ),
                key=repr,
            )
            for table in metadata.sorted_tables
        }

    return served.services.database.read_now(read)


def assert_problem(response: Any, *statuses: int) -> dict[str, Any]:
    """The response's problem+json."""
    assert response.status_code in (statuses or range(400, 500)), response.text[:500]
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["code"] not in ("", "http_error", "error", "internal")
    assert problem["title"] != "Error"
    assert problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"] != ""
    return problem


def _routes(document: dict[str, Any]) -> Iterator[Route]:
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                yield Route(method.upper(), path, "requestBody" in operations[method])

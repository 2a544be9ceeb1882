"""A whole server in this process, with a fake network and a scripted generator."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from fastapi.testclient import TestClient

from app.api.dependencies import Services
from app.classifying import LoadClassifier
from app.database import api_keys, intents, model_versions
from app.database.api_keys import ADMIN, USER, Scope
from app.database.database import Database
from app.main import create_app
from app.secret import load_secret
from app.settings import Settings
from generator.interface import Generator
from generator.scripted import ScriptedGenerator
from intent.interface import Prediction
from tests.fakes import FakeClassifier, prediction

PREDICTIONS = {
    "hello": prediction(("greet", 0.95), ("goodbye", 0.05)),
    "bye": prediction(("goodbye", 0.95), ("greet", 0.05)),
    "no more order": prediction(("cancel_order", 0.48), ("return_item", 0.44), ("greet", 0.08)),
    "tell me a story": prediction(("greet", 0.3), ("goodbye", 0.2)),
}


@dataclass(frozen=True)
class Served:
    """`client` sends no credentials by itself; pass `headers=served.user` or `.admin`."""

    client: TestClient
    user: dict[str, str]
    other: dict[str, str]
    admin: dict[str, str]
    services: Services

    def conversation(self, headers: dict[str, str] | None = None, **fields: object) -> str:
        made = self.client.post("/v1/conversations", json=fields, headers=headers or self.user)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    def say(self, conversation: str, text: str, **headers: str):
        return self.client.post(
            f"/v1/conversations/{conversation}/turns",
            json={"text": text},
            headers=self.user | headers,
        )


Serve = Callable[..., Iterator[Served]]


@contextmanager
def serving(
    settings: Settings,
    generator: Generator | None = None,
    predictions: dict[str, Prediction] | None = None,
    *,
    teach: bool = True,
    load: LoadClassifier | None = None,
) -> Iterator[Served]:
    database = Database(settings.url)
    pepper = load_secret(settings)
    from app.database.migration import migrate

    database.write_now(migrate)

    def key(name: str, scopes: frozenset[Scope]) -> dict[str, str]:
        _, secret = database.write_now(lambda c: api_keys.create(c, name, scopes, pepper=pepper))
        return {"Authorization": f"Bearer {secret}"}

    user, other, admin = key("ada", USER), key("bob", USER), key("op", ADMIN)
    if teach:
        database.write_now(_teach)
    database.close()
    app = create_app(
        settings,
        generator=generator or ScriptedGenerator(["A story about a fox."]),
        load=load or (lambda _: FakeClassifier(predictions or PREDICTIONS)),
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Served(client, user, other, admin, app.state.services)


def _teach(connection) -> None:
    for name, title, replies in (
        ("greet", "Say hello", ["Hello!", "Hi there!"]),
        ("goodbye", "Say goodbye", ["Bye, {name}!", "Bye!"]),
        ("cancel_order", "Cancel an order", ["Here is how to cancel."]),
        ("return_item", "Return an item", ["Here is how to return."]),
    ):
        intents.create(connection, name, title=title, replies=replies)
    number = model_versions.add(
        connection,
        b"a fake network",
        data_hash="0" * 64,
        intents=4,
        examples=8,
        evaluation={"accuracy": 0.9},
        training_job_id=None,
    )
    model_versions.promote(connection, number, by="test")


@pytest.fixture
def served(settings: Settings) -> Iterator[Served]:
    with serving(settings) as running:
        yield running

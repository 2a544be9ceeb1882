"""Turns for tests as a trained version decided on them, and a network that reads them."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert

from app.database import intents, model_versions
from app.database.database import Database
from app.database.ids import new_id
from app.database.tables import turns
from intent.certificate import Calibration
from intent.interface import OUT_OF_SCOPE, Prediction, RankedIntent
from tests.fakes import FakeClassifier
from tests.unit.app import stored

THRESHOLDS = (0.9, 0.6)
COUNTED = Calibration(
    basis="held_out",
    thresholds=THRESHOLDS,
    expected=((0.6, 0.001, 0.01), (0.95, 0.005, 0.05)),
    floors=(),
    inside=900,
    outside=100,
    answered=(540, 850),
    wrong=(1, 5),
    let_through=(1, 5),
    all_wrong=20,
    intents=2,
    in_scope=(880, 10),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of message: what the network makes of it, and the truth."""

    text: str
    prediction: Prediction
    label: str | None
    """None: nobody can tell."""
    share: float = 0.0
    """Of the traffic."""


def guess(intent: str, assurance: float, second: str = "other") -> Prediction:
    ranking = (RankedIntent(intent, assurance), RankedIntent(second, 0.01))
    in_scope = assurance >= 0.3
    return Prediction(intent, assurance, ranking, in_scope, assurance=assurance)


GREETING = Kind("hello", guess("greet", 0.95), "greet", 0.5)
FAREWELL = Kind("bye", guess("leave", 0.7), "leave", 0.42)
STRANGE = Kind("sing", guess("greet", 0.1), OUT_OF_SCOPE, 0.08)
WRONG = Kind("see you", guess("greet", 0.93), "leave")
MURKY = Kind("hm", guess("leave", 0.92), None)
USUAL = (GREETING, FAREWELL, STRANGE)


def network(kinds: Iterable[Kind]) -> FakeClassifier:
    return FakeClassifier({one.text: one.prediction for one in kinds})


def teach(database: Database) -> int:
    """The number of a version that is live."""

    def store(connection: Connection) -> int:
        for name in ("greet", "leave"):
            intents.create(connection, name)
        number = model_versions.add(
            connection,
            b"a network",
            data_hash="0" * 64,
            intents=2,
            examples=90,
            evaluation={"accuracy": 0.9},
            calibration=COUNTED.to_json(),
            training_job_id=None,
        )
        model_versions.promote(connection, number, by="ada")
        return number

    return database.write_now(store)


def decision_on(prediction: Prediction, **more: Any) -> dict[str, Any]:
    return {
        "route": "instant",
        "cause": "confident",
        "intent": prediction.intent,
        "confidence": prediction.confidence,
        "threshold": 0.6,
        "margin": 0.5,
        "alternatives": [[one.intent, one.confidence] for one in prediction.ranking],
        "assurance": prediction.assurance,
        "basis": "certified",
        "in_scope": prediction.in_scope,
        "goes_on": None,
    } | more


def talk(
    database: Database,
    version: int,
    said: Iterable[Kind],
    *,
    at: float = 1_790_000_000.0,
    owner: str = "ada",
    decision: Mapping[str, Any] | None = None,
) -> str:
    """All of it in one conversation, a second apart; returns its id."""
    mine = stored.conversation(database, owner)
    rows = [
        {
            "id": new_id(),
            "conversation_id": mine,
            "owner": owner,
            "seq": place,
            "status": "done",
            "text": one.text,
            "reply": "Well.",
            "route": "instant",
            "intent": one.prediction.intent,
            "decision": decision_on(one.prediction, **(decision or {})),
            "model_version": version,
            "created_at": at + place,
        }
        for place, one in enumerate(said, start=1)
    ]
    database.write_now(lambda c: c.execute(insert(turns), rows))
    return mine


def mixed(kinds: Iterable[Kind], count: int, seed: int = 0) -> list[Kind]:
    kinds = list(kinds)
    return random.Random(seed).choices(kinds, [one.share for one in kinds], k=count)

"""Looks at the messages of the live version, in the database of all replicas."""

import asyncio
import random
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from app.database import drift, model_versions
from app.database.database import Database
from app.database.ids import new_id
from app.database.tables import drift as table
from app.database.tables import now, turns
from app.drift_watch import DriftWatch
from app.live import LiveAssistant
from intent.certificate import CONFIDENCE_EDGES, Calibration
from intent.interface import Promise
from tests.fakes import FakeClassifier, prediction
from tests.unit.app import stored

BINS = len(CONFIDENCE_EDGES) + 1
SURE, UNSURE = 0.96, 0.42
PROMISE = Promise(least_in_scope=0.9)


def row(sure: int, unsure: int) -> tuple[int, ...]:
    counts = [0] * BINS
    for confidence, count in ((SURE, sure), (UNSURE, unsure)):
        counts[sum(edge <= confidence for edge in CONFIDENCE_EDGES)] += count
    return tuple(counts)


COUNTED = Calibration(
    basis="held_out",
    thresholds=(0.9,),
    expected=((0.9, 0.01, 0.1),),
    floors=(),
    inside=500,
    outside=100,
    answered=(450,),
    wrong=(5,),
    let_through=(10,),
    all_wrong=5,
    intents=9,
    in_scope=(490, 10),
    confidences=(row(450, 40), row(0, 10), row(10, 0), row(0, 90)),
)


def promote(database: Database, calibration: Any) -> int:
    def store(connection: Any) -> int:
        number = model_versions.add(
            connection,
            b"a network",
            data_hash="0" * 64,
            intents=9,
            examples=90,
            evaluation={},
            calibration=calibration,
            training_job_id=None,
        )
        model_versions.promote(connection, number, by="ada")
        return number

    return database.write_now(store)


def talk(
    database: Database,
    number: int,
    messages: int,
    in_scope: float,
    *,
    goes_on: float | None = None,
    basis: str = "certified",
    threshold: float = 0.9,
) -> None:
    """As the calibration's utterances, but for the share that is in scope."""
    draw, mine = random.Random(messages), stored.conversation(database)
    rows = []
    for seq in range(1, messages + 1):
        inside = draw.random() < in_scope
        called = draw.random() < (0.98 if inside else 0.1)
        sure = called and draw.random() < (450 / 490 if inside else 1)
        confidence = SURE if sure else UNSURE
        decision = {
            "cause": "confident" if sure else "unsure",
            "confidence": confidence,
            "assurance": confidence,
            "threshold": threshold,
            "basis": basis,
            "in_scope": called,
            "goes_on": goes_on,
        }
        rows.append(
            {
                "id": new_id(),
                "conversation_id": mine,
                "owner": "ada",
                "seq": seq,
                "status": "done",
                "text": "hello",
                "route": "instant" if sure else "generate",
                "decision": decision,
                "model_version": number,
            }
        )

    database.write_now(lambda c: c.execute(insert(turns).values(created_at=now()), rows))


def look(database: Database) -> drift.Look | None:
    return asyncio.run(DriftWatch(database, PROMISE).look_if_due())


def test_a_look_follows_when_enough_messages_have_come(database: Database) -> None:
    assert look(database) is None
    number = promote(database, COUNTED.to_json())
    talk(database, number, 150, in_scope=0.95)
    assert look(database) is None
    talk(database, number, 60, in_scope=0.95)
    first = look(database)
    assert first is not None
    assert (first.looks, first.messages, first.moved, first.usual) == (1, 210, (), True)
    assert first.found is not None
    assert len(first.found["confidence"]["seen"]) == len(first.found["edges"]) + 1
    assert look(database) is None
    talk(database, number, 101, in_scope=0.95)
    second = look(database)
    assert second is not None
    assert (second.looks, second.messages) == (2, 311)


def test_other_messages_raise_an_alarm_that_says_since_when_and_ends(database: Database) -> None:
    number = promote(database, COUNTED.to_json())
    talk(database, number, 400, in_scope=0.5)
    first = look(database)
    assert first is not None
    assert set(first.moved) == {"confidence", "instant"}
    assert not first.usual
    assert first.alarm_since is not None
    assert not database.read_now(lambda c: drift.usual(c, number))
    talk(database, number, 401, in_scope=0.5)
    again = look(database)
    assert again is not None
    assert again.alarm_since == first.alarm_since
    talk(database, number, 1_100, in_scope=0.95)
    over = look(database)
    assert over is not None
    assert (over.moved, over.alarm_since, over.usual) == ((), None, True)


def test_what_goes_on_with_what_was_said_before_is_not_compared(database: Database) -> None:
    number = promote(database, COUNTED.to_json())
    talk(database, number, 201, in_scope=0.95, goes_on=0.1)
    talk(database, number, 400, in_scope=0.0, goes_on=0.9)
    found = look(database)
    assert found is not None
    assert (found.messages, found.moved) == (201, ())


def test_a_version_without_a_window_is_looked_at_and_raises_no_alarm(database: Database) -> None:
    old = COUNTED.to_json()
    del old["confidences"]
    for calibration in (old, None):
        number = promote(database, calibration)
        talk(database, number, 300, in_scope=0.2)
        found = look(database)
        assert found is not None
        assert (found.found, found.moved) == (None, ())


def test_of_two_replicas_one_looks(database: Database) -> None:
    number = promote(database, COUNTED.to_json())
    talk(database, number, 300, in_scope=0.95)
    results = stored.together([(database, lambda c: drift.look(c, PROMISE))] * 2)
    assert all(one is None or isinstance(one, drift.Look) for one in results)
    rows = database.read_now(lambda c: c.execute(select(table)).all())
    assert [one.looks for one in rows] == [sum(one is not None for one in results)]


def test_every_replica_hears_that_the_traffic_is_another(database: Database) -> None:
    number = promote(database, COUNTED.to_json())
    talk(database, number, 300, in_scope=0.95)
    look(database)

    async def usual() -> list[bool]:
        sure = FakeClassifier({"hello": prediction(("greet", 0.9))})
        live = LiveAssistant(database, lambda _: sure)
        await live.refresh()
        heard = [(await live.read("hello")).grounds.is_usual_traffic]
        await database.write(lambda c: c.execute(update(table).values(usual=False)))
        await live.refresh()
        heard.append((await live.read("hello")).grounds.is_usual_traffic)
        await live.close()
        return heard

    assert asyncio.run(usual()) == [True, False]


@pytest.mark.parametrize(("basis", "threshold"), [("under_pressure", 0.3), ("other_traffic", 0.97)])
def test_a_threshold_of_the_hour_moves_no_shares(
    database: Database, basis: str, threshold: float
) -> None:
    """Compared are the messages, not what was made of them."""
    number = promote(database, COUNTED.to_json())
    talk(database, number, 300, in_scope=0.95, basis=basis, threshold=threshold)
    steady = look(database)
    assert steady is not None
    assert steady.found is not None
    assert steady.found["instant"] is not None
    assert steady.moved == ()
    talk(database, number, 1_000, in_scope=0.4, basis=basis, threshold=threshold)
    moved = look(database)
    assert moved is not None
    assert set(moved.moved) == {"confidence", "instant"}

"""A version that is calibrated anew, from messages that people labelled."""

import asyncio

import pytest

from app.database import model_versions
from app.database.database import Database
from app.errors import Conflict
from app.recalibration import Labelled, recalibrate
from intent.artifact import from_bytes, to_bytes
from intent.certificate import Calibration
from intent.data import TrainingSet
from intent.interface import OUT_OF_SCOPE
from intent.training import Trained

REVIEWED = [
    Labelled("could you track my new boots", "track_order"),
    Labelled("i'd like to give the chair back", "return_item"),
    Labelled("are you open at easter", "opening_hours"),
    Labelled("recite a limerick", OUT_OF_SCOPE),
]


def add(database: Database, trained: Trained) -> int:
    return database.write_now(
        lambda c: model_versions.add(
            c,
            to_bytes(trained.artifact),
            data_hash="0" * 64,
            intents=5,
            examples=80,
            evaluation={"accuracy": 0.9},
            calibration=None,
            training_job_id=None,
        )
    )


def test_the_same_network_gets_the_counts_of_what_was_labelled(
    database: Database, trained: Trained, small_data: TrainingSet
) -> None:
    number = add(database, trained)
    known = small_data.examples[0]
    labelled = [*REVIEWED, Labelled(known.text, known.intent)]
    new = asyncio.run(recalibrate(database, number, labelled))
    version = database.read_now(lambda c: model_versions.get(c, new))
    counted = Calibration.from_json(version.calibration)
    assert (counted.basis, counted.inside, counted.outside, counted.seen) == ("given", 3, 1, 1)
    assert sum(map(sum, counted.confidences)) == 4
    before = trained.artifact.calibration
    if before is not None:
        assert counted.thresholds == before.thresholds
    after = from_bytes(database.read_now(lambda c: model_versions.artifact(c, new)))
    assert after.calibration == counted
    assert after.intents == trained.artifact.intents
    assert database.read_now(model_versions.live).model_version is None


def test_labels_that_it_does_not_know_and_messages_that_it_learned_are_refused(
    database: Database, trained: Trained, small_data: TrainingSet
) -> None:
    number = add(database, trained)
    with pytest.raises(Conflict, match="does not know 1 of the labels"):
        asyncio.run(recalibrate(database, number, [Labelled("a new thing", "of_a_new_intent")]))
    known = small_data.examples[0]
    with pytest.raises(Conflict, match="label more"):
        asyncio.run(recalibrate(database, number, [Labelled(known.text, known.intent)]))
    assert len(database.read_now(model_versions.everything)) == 1

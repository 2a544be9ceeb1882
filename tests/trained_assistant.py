"""A very small assistant, trained, for tests that need a real network in a database."""

from collections.abc import Sequence
from pathlib import Path

from app.database import intents, model_versions
from app.database.database import Database
from app.database.migration import migrate
from intent.artifact import to_bytes
from intent.config import TrainingConfig
from intent.data import Example, training_set
from intent.training import Trained, train
from tests.unit.app import traffic

GREETINGS = ("hello", "hi", "good morning", "good day", "hey there", "hello again", "hi you")
FAREWELLS = ("bye", "see you", "good night", "so long", "bye bye", "until then", "take care")
STRANGE = ("sing a song", "write a poem", "what is 7 times 8", "draw me a sheep")


def fill(folder: Path, said: Sequence[str]) -> None:
    """A trained version that is live, and what people said to it, in a database in `folder`."""
    examples = [
        *(Example(text, "greet") for text in GREETINGS),
        *(Example(text, "leave") for text in FAREWELLS),
        *(Example(text, "out_of_scope") for text in STRANGE),
    ]
    config = TrainingConfig(embedding=16, hidden=16, features=16, epochs=20, learning_rate=0.01)
    *_, trained = train(training_set(examples), config)
    assert isinstance(trained, Trained)
    database = Database(f"sqlite:///{folder / 'twofold.db'}")
    database.write_now(migrate)
    for name in ("greet", "leave"):
        database.write_now(lambda c, name=name: intents.create(c, name, title=name.title()))
    number = database.write_now(
        lambda c: model_versions.add(
            c,
            to_bytes(trained.artifact),
            data_hash="0" * 64,
            intents=2,
            examples=len(examples),
            evaluation={"accuracy": 0.9},
            calibration=traffic.COUNTED.to_json(),
            training_job_id=None,
        )
    )
    database.write_now(lambda c: model_versions.promote(c, number, by="op"))
    guess = traffic.guess("leave", 0.9, "greet")
    traffic.talk(database, number, [traffic.Kind(text, guess, None) for text in said])
    database.close()

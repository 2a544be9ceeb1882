"""`twofold recalibrate`, on a sample that is labelled."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from app.database import model_versions, samples
from app.database.database import Database
from app.database.samples import Label
from app.main import load_classifier
from app.recalibration import Recalibrator
from intent.interface import Promise
from tests.trained_assistant import FAREWELLS, GREETINGS, STRANGE, fill

EASY = {"TWOFOLD_MAX_WRONG_INSTANT": "0.6", "TWOFOLD_LEAST_IN_SCOPE": "0.7"}
HARD = {"TWOFOLD_MAX_WRONG_INSTANT": "0.01", "TWOFOLD_LEAST_IN_SCOPE": "0.7"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # away from a developer's own .env
    monkeypatch.setenv("TWOFOLD_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("TWOFOLD_DATABASE_URL", raising=False)
    fill(tmp_path, [*GREETINGS * 3, *FAREWELLS * 3, *STRANGE * 3])
    return tmp_path


def recalibrate(*options: str, **settings: str) -> Result:
    return CliRunner().invoke(cli, ["recalibrate", *options], env=settings)


def label_all(database: Database) -> None:
    """All that there is; the drawn order decides only in which order."""
    drawing = Recalibrator(database, load_classifier, Promise(0.6, 0.9, 0.7))
    sample = asyncio.run(drawing.draw(by="key:a", replaces=None))
    for one in database.read_now(lambda c: samples.everything(c, sample)):
        kind, intent = Label.OUT_OF_SCOPE, None
        if one.text not in STRANGE:
            kind, intent = Label.INTENT, "greet" if one.text in GREETINGS else "leave"
        database.write_now(
            lambda c, one=one, kind=kind, intent=intent: samples.label(
                c, one.turn_id, kind, intent, by="key:a"
            )
        )


def test_it_says_what_it_counted_and_changes_nothing_that_is_not_borne_out(folder: Path) -> None:
    refused = recalibrate(**EASY)
    assert refused.exit_code == 1
    assert "draw a sample and label it first" in str(refused.exception)
    database = Database(f"sqlite:///{folder / 'twofold.db'}")
    label_all(database)
    uncertified = recalibrate(**HARD)
    assert uncertified.exit_code == 1
    assert "uncertified" in uncertified.output
    assert "nothing was changed" in uncertified.output
    assert database.read_now(model_versions.live).model_version == 1
    certified = recalibrate(**EASY)
    assert certified.exit_code == 0, certified.output
    assert "drawn by chance from what people said" in certified.output
    assert "asked from 2026-09-21 to 2026-09-21" in certified.output
    assert "version 2 is live" in certified.output
    database.close()

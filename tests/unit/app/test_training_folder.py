"""What a killed server leaves of a training does not stay."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.training_runner import training_folder

TRAINS = """
from app.training_runner import training_folder
with training_folder() as folder:
    (folder / "examples.jsonl").write_text("somebody's words")
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def a_server_that_trains(temporary: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    with subprocess.Popen(
        [sys.executable, "-c", TRAINS],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        yield server, Path(server.stdout.readline().strip())
        server.kill()


def test_it_is_gone_after_its_training(temporary: Path) -> None:
    with training_folder() as folder:
        (folder / "examples.jsonl").write_text("somebody's words")
    assert list(temporary.iterdir()) == []


def test_that_of_a_killed_server_goes_and_that_of_a_living_one_stays(temporary: Path) -> None:
    with (
        a_server_that_trains(temporary) as (_, living),
        a_server_that_trains(temporary) as (killed, left),
    ):
        killed.kill()
        killed.wait()
        assert (left / "examples.jsonl").exists()
        with training_folder() as mine:
            assert set(temporary.iterdir()) == {living, mine}
        assert (living / "examples.jsonl").exists()

"""`teach-reader` and `teach-writer`, as they are typed."""

import json
from pathlib import Path

import pytest

from generator.__main__ import main
from generator.reader import Reader
from generator.writer import Writer


def test_the_commands_make_all_files(
    answers: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["--answers", str(answers), "--validate", "pool", "--out", str(tmp_path / "out")]
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"text": "zebra zebra"}) + "\n")
    code = main(
        ["teach-reader", *shared, "--base", str(base), "--epochs", "0.5",
         "--checkpoint", str(tmp_path / "work" / "reader.pt"), "--texts", str(texts)]
    )  # fmt: skip
    told = capsys.readouterr().err
    assert code == 0, told
    assert "AUROC" in told
    assert "calibration" in told
    saved = str(tmp_path / "work" / "reader.pt"), f"{tmp_path / 'out'}=0.5"
    assert main(["save-reader", *shared, "--base", str(base), "--begin", *saved]) == 0
    told = capsys.readouterr().err
    assert "AUROC" in told
    assert "saved in" in told
    code = main(
        ["teach-writer", *shared, "--reader", str(tmp_path / "out"), "--epochs", "1",
         "--checkpoint", str(tmp_path / "work" / "writer.pt")]
    )  # fmt: skip
    told = capsys.readouterr().err
    assert code == 0, told
    assert "written:" in told
    for name in ("reader-course.svg", "writer-course.svg"):
        assert "<svg" in (tmp_path / "out" / name).read_text()
    Writer(Reader(tmp_path / "out"), tmp_path / "out")


def test_a_command_says_what_is_wrong_and_what_to_do(
    answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        ["teach-reader", "--answers", str(answers), "--validate", "pool", "--base", str(tmp_path),
         "--out", str(tmp_path / "out"), "--checkpoint", str(tmp_path / "reader.pt")]
    )  # fmt: skip
    assert code == 2
    assert "name a folder" in capsys.readouterr().err


def test_a_mean_needs_positive_parts(
    answers: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(
            ["save-reader", "--answers", str(answers), "--base", str(base),
             "--out", str(tmp_path / "out"), "--begin", f"{tmp_path}=-1"]
        )  # fmt: skip
    assert "a positive number of parts" in capsys.readouterr().err

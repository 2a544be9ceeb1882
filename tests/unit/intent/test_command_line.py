"""`python -m intent`, as scripts and the training worker call it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from intent.__main__ import main
from intent.artifact import save
from intent.data import TrainingSet, write
from intent.training import Trained


def run(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "intent", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
    )


def rows(output: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.fixture(scope="module")
def data_file(small_data: TrainingSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "small.yml"
    write(small_data, path)
    return path


@pytest.fixture(scope="module")
def network_file(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "small.twofold"
    save(trained.artifact, path)
    return path


@pytest.mark.parametrize(
    "arguments", [(), ("train",), ("evaluate",), ("certify",), ("explain",), ("classify",)]
)
def test_help_comes_without_torch(arguments: Sequence[str]) -> None:
    code = (
        "import sys\nfrom intent.__main__ import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: sys.exit(7 if 'torch' in sys.modules else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--help"], capture_output=True, check=False
    )
    assert result.returncode == 0
    assert b"usage: python -m intent" in result.stdout


def test_training_tells_the_worker_of_every_epoch(data_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.twofold"
    result = run("train", data_file, "-o", target, "--progress", "json", "--epochs", 2, "--seed", 3)
    assert result.returncode == 0, result.stderr
    *epochs, saved = rows(result.stdout)
    assert {epoch["event"] for epoch in epochs} == {"epoch"}
    assert [(epoch["number"], epoch["of"]) for epoch in epochs] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [epoch["valid_loss"] is None for epoch in epochs] == [False, False, True, True]
    assert {"train_loss", "valid_loss", "valid_accuracy", "gradient_norm", "seconds"} <= set(
        epochs[0]
    )
    assert saved["event"] == "saved"
    evaluation = saved["evaluation"]
    assert isinstance(evaluation, dict)
    assert evaluation["basis"] == "held out from the training data"
    assert evaluation["out_of_scope"]["examples"] == 6
    assert target.stat().st_size == saved["bytes"]


def test_training_talks_to_people_in_plain_lines(data_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.twofold"
    result = run("train", data_file, "--valid", data_file, "-o", target, "--epochs", 1)
    assert result.returncode == 0, result.stderr
    assert b"epoch 1/1  loss" in result.stderr
    assert b"utterances, validation data" in result.stdout
    assert target.exists()


def test_data_that_cannot_train_is_refused_line_by_line(tmp_path: Path) -> None:
    data = tmp_path / "bad.csv"
    data.write_text("text,intent\nhi,greet\n ,leave\n")
    result = run("train", data, "-o", tmp_path / "out", "--progress", "json")
    assert result.returncode == 2
    problems = result.stderr.decode().splitlines()
    assert len(problems) == 3
    assert all(problem.startswith(f"{data}:") for problem in problems)
    assert rows(result.stdout) == [{"event": "failed", "problems": problems}]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("of_each", "severity"), [(1, ""), (2, "warning: ")])
def test_what_holds_of_every_intent_is_told_of_the_first_ones(
    tmp_path: Path, of_each: int, severity: str
) -> None:
    data = tmp_path / "many.csv"
    lines = [f"word{number} {n},about {number}" for number in range(60) for n in range(of_each)]
    data.write_text("\n".join(["text,intent", *lines]))
    result = run("train", data, "-o", tmp_path / "out", "--epochs", 1)
    assert result.returncode == (2 if of_each == 1 else 0)
    told = [line for line in result.stderr.decode().splitlines() if line.startswith(severity)]
    assert f"{data}:2: intent 'about 0'" in told[0]
    assert told[50] == f"{severity}and 10 more"


def test_a_missing_output_folder_is_refused_before_training(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(data_file), "-o", str(tmp_path / "none" / "out")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "create it first" in said.err


def test_evaluation_as_json(network_file: Path, data_file: Path) -> None:
    result = run("evaluate", network_file, data_file, "--oos", data_file, "--json")
    assert result.returncode == 0, result.stderr
    (evaluation,) = rows(result.stdout)
    assert isinstance(evaluation["accuracy"], float)
    assert isinstance(evaluation["out_of_scope"], dict)
    assert evaluation["out_of_scope"]["examples"] == 12 + 12 + 80


def test_evaluation_as_a_table(
    network_file: Path, data_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(network_file), str(data_file)]) == 0
    table = capsys.readouterr().out
    assert "weakest intents" in table
    assert "退货" in table


def test_all_that_was_examined_is_in_the_json(network_file: Path, data_file: Path) -> None:
    result = run("evaluate", network_file, data_file, "--training", data_file, "--json")
    assert result.returncode == 0, result.stderr
    assert not result.stderr  # no progress where no terminal is
    (figures,) = rows(result.stdout)
    assert {"accuracy", "macro_f1", "expected_calibration_error", "out_of_scope"} <= set(figures)
    assert {"errors", "lengths", "robustness", "scope_curve", "leakage"} <= set(figures)
    assert isinstance(figures["leakage"], dict)
    assert figures["leakage"]["exact"] == 80


def test_evaluation_as_a_page(
    network_file: Path, data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.html"
    assert main(["evaluate", str(network_file), str(data_file), "--report", str(report)]) == 0
    page = report.read_text(encoding="utf-8")
    assert "<h1>Evaluation of small.twofold on small.yml</h1>" in page
    assert f"saved {report}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows_of_data", "complaint"),
    [
        ("", "no examples of any intent"),
        ("sing a song,out_of_scope", "no examples of any intent"),
        ("hello,greet", "knows none of its intents"),
    ],
)
def test_data_that_cannot_be_evaluated_is_refused_in_one_line(
    network_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows_of_data: str,
    complaint: str,
) -> None:
    data = tmp_path / "test.csv"
    data.write_text(f"text,intent\n{rows_of_data}\n")
    assert main(["evaluate", str(network_file), str(data)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"{data}: ")
    assert complaint in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("report", ["missing/report.html", "."])
def test_a_page_that_cannot_be_written_is_refused_in_one_line(
    network_file: Path,
    data_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    report: str,
) -> None:
    target = str(tmp_path / report)
    assert main(["evaluate", str(network_file), str(data_file), "--report", target]) == 2
    problem = capsys.readouterr().err
    assert problem.startswith(f"{target}: ") or problem.startswith(f"{tmp_path}: ")
    assert problem.count("\n") == 1


def test_some_unknown_intents_are_named_and_the_rest_is_evaluated(
    network_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "test.jsonl"
    data.write_text(
        '{"text": "where is my order", "intent": "track_order"}\n'
        '{"text": "good morning \\ud800 [bold]", "intent": "greet[/]"}\n'
    )
    assert main(["evaluate", str(network_file), str(data)]) == 0
    said = capsys.readouterr().out
    assert "50.0% right" in said
    assert "unknown to the file, so always wrong: greet[/]" in said


def test_a_prediction_is_explained_to_people(
    network_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(network_file), "where is my order"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("track_order")
    assert "In scope: " in said
    assert "where is my order" in said.split("nearest", 1)[1]


@pytest.mark.parametrize(
    "text", ["order", "", "😀", "我想退货", "[bold]sing[/] me a song", "a\udcff", "x" * 10_000]
)
def test_any_text_is_explained(
    network_file: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert main(["explain", str(network_file), text]) == 0
    assert "scope" in capsys.readouterr().out
    assert main(["explain", str(network_file), text, "--json"]) == 0
    explanation = json.loads(capsys.readouterr().out)
    assert {"intent", "runner_up", "margin", "words", "nearest", "reasons"} <= set(explanation)


def test_evaluating_and_explaining_need_no_torch(network_file: Path, data_file: Path) -> None:
    code = (
        "import sys\nfrom intent.__main__ import main\n"
        "main(sys.argv[1:])\nsys.exit(7 if 'torch' in sys.modules else 0)"
    )
    report = f"{network_file}.html"
    for arguments in (
        ["evaluate", network_file, data_file, "--report", report],
        ["explain", network_file, "where is my order"],
    ):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, check=False)
        assert result.returncode == 0, result.stderr


def test_a_bad_line_gets_an_error_and_the_run_goes_on(network_file: Path) -> None:
    lines = [
        b'{"text": "where is my order"}',
        b"not json",
        b'{"text": 3}',
        b'{"text": ""}',
        b'"\xff"',
        b"",
        b"[" * 50_000,
        b'{"text": "' + b"x" * 2**21 + b'"}',
        '{"text": "где мой заказ"}'.encode(),
    ]
    result = run("classify", network_file, stdin=b"\n".join(lines))
    assert result.returncode == 0, result.stderr
    first, *bad, last = rows(result.stdout)
    assert set(first) == {
        *("intent", "confidence", "ranking", "in_scope", "scope_score", "slots", "assurance")
    }
    assert first["intent"] == "track_order"
    assert ["error" in row for row in bad] == [True, True, False, True, True, True]
    assert last["intent"] == "где_заказ"


def test_a_damaged_file_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken"
    path.write_bytes(b"nonsense")
    assert main(["classify", str(path)]) == 2
    problem = capsys.readouterr().err
    assert problem.startswith(f"{path}: ")
    assert problem.count("\n") == 1


def test_unlabelled_messages_without_a_teacher_are_refused(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.txt").write_text("where is it\n")
    arguments = ["train", data_file, "-o", tmp_path / "n", "--unlabelled", tmp_path / "log.txt"]
    assert main([str(one) for one in arguments]) == 2
    assert "needs a --teacher" in capsys.readouterr().err


def test_a_folder_without_a_teacher_is_refused_in_one_line(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", data_file, "-o", tmp_path / "n", "--teacher", tmp_path]
    assert main([str(one) for one in arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "no sentence encoder" in line


def test_certify_counts_on_other_utterances_and_draws(
    network_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output, picture = (tmp_path / name for name in ("new.csv", "new.twofold", "risk.svg"))
    rows = [f"where would hat {n} be,track_order" for n in range(30)]
    rows += [f"i would return hat {n},return_item" for n in range(30)]
    data.write_text("\n".join(["text,intent", *rows]), encoding="utf-8")
    assert main(["certify", str(network_file)]) == 0
    assert "no in-scope utterances are at hand" in capsys.readouterr().out
    options = ["--max-wrong", "0.1", "--least-in-scope", "1", "--json"]
    arguments = ["certify", str(network_file), str(data), "-o", str(output)]
    assert main([*arguments, "--picture", str(picture), *options]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["basis"], first["inside"], first["outside"]) == ("given", 60, 0)
    assert first["promise"]["max_wrong_instant"] == 0.1
    assert main(["certify", str(output), *options]) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert picture.read_text(encoding="utf-8").startswith("<svg xmlns=")
    assert "var(--" not in picture.read_text(encoding="utf-8")

"""`certify` and `train --calibration` on what cannot be certified: a reason, a remedy, no crash."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from intent.__main__ import main
from intent.artifact import save
from intent.data import TrainingSet
from intent.training import Trained

Rows = Sequence[tuple[str, str]]
TRACK = [(f"where would hat {n} be", "track_order") for n in range(30)]
RETURN = [(f"i would return hat {n}", "return_item") for n in range(30)]
STRANGE = [(f"sing of {n} ducks", "out_of_scope") for n in range(30)]


@pytest.fixture(scope="module")
def network_file(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("network") / "small.twofold"
    save(trained.artifact, path)
    return str(path)


@pytest.fixture
def certify(
    network_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[dict, str]]:
    """The certificate as JSON, and what people read."""

    def run(rows: Rows, *options: str) -> tuple[dict, str]:
        data = str(write(tmp_path / "data.jsonl", rows))
        assert main(["certify", network_file, data, *options, "--json"]) == 0
        as_json = json.loads(capsys.readouterr().out)
        assert main(["certify", network_file, data, *options]) == 0
        return as_json, capsys.readouterr().out

    return run


def write(path: Path, rows: Rows) -> Path:
    lines = (json.dumps({"text": text, "intent": intent}) for text, intent in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


Certify = Callable[..., tuple[dict, str]]


def test_a_promise_that_no_threshold_keeps_is_said_to_be_one(certify: Certify) -> None:
    found, said = certify([*TRACK, *RETURN, *STRANGE], "--max-wrong", "0.0001")
    assert (found["certified"], found["points"], found["missing_inside"]) == (False, [], None)
    assert found["doubt"] == "too_many_wrong"
    assert "at most 0.01%" in said
    assert "allow more, or mend the examples" in said


def test_one_class_alone(certify: Certify) -> None:
    found, said = certify(TRACK)
    assert (found["certified"], found["doubt"]) == (False, "one_intent")
    assert "all of one intent; add those of others" in said


def test_nothing_out_of_scope(certify: Certify) -> None:
    found, said = certify([*TRACK, *RETURN], "--least-in-scope", "0.6")
    assert (found["certified"], found["outside"]) == (False, 0)
    if found["doubt"] == "no_out_of_scope":
        assert "add out-of-scope utterances" in said
        assert found["certifiable_from"] > 0.6
    assert found["missing_outside"] is None or found["missing_outside"] > 0


def test_only_what_is_out_of_scope(certify: Certify) -> None:
    found, said = certify(STRANGE)
    assert (found["certified"], found["doubt"]) == (False, "nothing_unseen")
    assert "no in-scope utterances are at hand" in said


def test_what_the_network_was_trained_on(certify: Certify, small_data: TrainingSet) -> None:
    known = [(one.text.upper(), one.intent) for one in small_data.examples]
    found, said = certify(known)
    assert (found["certified"], found["doubt"], found["inside"]) == (False, "nothing_unseen", 0)
    assert found["seen"] == len(known)
    assert f"{len(known)} were left out: the network was trained on the same words" in said


def test_twenty_examples_are_counted_out(certify: Certify) -> None:
    found, said = certify([*TRACK[:10], *RETURN[:10]])
    assert (found["certified"], found["doubt"], found["inside"]) == (False, "too_few", 20)
    assert found["missing_inside"] > 0
    assert f"about {found['missing_inside']:,} more in scope" in said


def test_labels_that_contradict_each_other(certify: Certify) -> None:
    both = [(text, intent) for text, _ in TRACK for intent in ("track_order", "return_item")]
    found, said = certify([*both, *STRANGE])
    assert (found["certified"], found["doubt"]) == (False, "too_many_wrong")
    assert found["contradictory"] == len(both)
    assert f"{len(both)} stand under several intents" in said


def test_an_empty_file(certify: Certify) -> None:
    found, _ = certify([])
    assert (found["certified"], found["doubt"]) == (False, "nothing_unseen")


def test_intents_that_the_network_does_not_know(
    network_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [(text, "buy_hat") for text, _ in TRACK]
    assert main(["certify", network_file, str(write(tmp_path / "all.jsonl", others))]) == 2
    assert "knows none of its intents (buy_hat); mend them" in capsys.readouterr().err
    some = str(write(tmp_path / "some.jsonl", [*others[:3], *RETURN]))
    assert main(["certify", network_file, some]) == 0
    told = capsys.readouterr()
    assert "3 calibration utterances are of intents that the network does not know" in told.err
    assert told.out.startswith("uncertified")


def test_bad_calibration_is_told_before_a_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(write(tmp_path / "data.jsonl", [*TRACK, *RETURN]))
    strange = str(write(tmp_path / "other.jsonl", [(text, "buy_hat") for text, _ in TRACK]))
    output = tmp_path / "network"
    assert main(["train", data, "--calibration", strange, "-o", str(output)]) == 2
    assert "knows none of its intents" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("share", ["0", "1.5", "-1", "much", "nan"])
@pytest.mark.parametrize("option", ["--max-wrong", "--confidence", "--least-in-scope"])
def test_a_share_that_is_none_is_refused(
    network_file: str, option: str, share: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["certify", network_file, option, share])
    assert "must be above 0 and at most 1" in capsys.readouterr().err

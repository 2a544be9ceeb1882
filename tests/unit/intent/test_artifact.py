"""A file is loaded whole and right, or not at all."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from intent import artifact
from intent.artifact import Artifact, from_bytes, load, save, to_bytes
from intent.classifier import GRUClassifier
from intent.interface import ArtifactError
from intent.training import Trained

TEXTS = ["where is my order", "send it back", "我想退鞋子", "unrelated"]


@pytest.fixture(scope="module")
def content(trained: Trained) -> bytes:
    return to_bytes(trained.artifact)


def test_a_saved_file_predicts_as_before(
    trained: Trained, classifier: GRUClassifier, tmp_path: Path
) -> None:
    path = tmp_path / "network.twofold"
    path.write_text("an older file")
    save(trained.artifact, path)
    assert GRUClassifier.load(path).classify_batch(TEXTS) == classifier.classify_batch(TEXTS)
    assert GRUClassifier.load(path.read_bytes()).card == classifier.card
    assert list(tmp_path.iterdir()) == [path]


def test_loading_and_saving_again_changes_no_byte(content: bytes) -> None:
    assert to_bytes(from_bytes(content)) == content


@settings(max_examples=200)
@given(data=st.data())
def test_a_flipped_bit_is_noticed_or_harmless(content: bytes, data: st.DataObject) -> None:
    header = int.from_bytes(content[:8], "little") + 8
    places = st.integers(0, header) | st.integers(0, len(content) - 1)
    place, bit = data.draw(places), data.draw(st.integers(0, 7))
    damaged = bytearray(content)
    damaged[place] ^= 1 << bit
    try:
        loaded = from_bytes(bytes(damaged))
    except ArtifactError:
        return
    assert to_bytes(loaded) == content


@given(st.integers(0, 100_000))
def test_a_truncated_file_is_refused(content: bytes, length: int) -> None:
    with pytest.raises(ArtifactError):
        from_bytes(content[: min(length, len(content) - 1)])


@given(st.binary(max_size=200))
def test_a_foreign_file_is_refused(foreign: bytes) -> None:
    with pytest.raises(ArtifactError):
        from_bytes(foreign)
    with pytest.raises(ArtifactError):
        from_bytes(len(foreign).to_bytes(8, "little") + foreign)


def test_another_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(safetensors.torch.save({"a": torch.zeros(2)}))
    with pytest.raises(ArtifactError, match=r"other\.safetensors: not a trained file"):
        load(path)


def test_a_missing_file_and_a_missing_folder_are_named(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="check the path"):
        load(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="choose another place"):
        save(trained.artifact, tmp_path / "nowhere" / "file")


def with_weight(artifact: Artifact, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    name, weight = next(iter(artifact.weights.items()))
    return {"weights": {**artifact.weights, name: change(weight)}}


SPOILERS: dict[str, Callable[[Artifact], dict[str, Any]]] = {
    "weights not finite": lambda a: with_weight(a, lambda w: torch.full_like(w, torch.nan)),
    "weights of another size": lambda a: with_weight(a, lambda w: w[:-1].clone()),
    "weights of another type": lambda a: with_weight(a, Tensor.double),
    "no weights": lambda a: {"weights": {}},
    "an intent too few": lambda a: {"intents": a.intents[1:]},
    "an intent twice": lambda a: {"intents": a.intents[:-1] + a.intents[:1]},
    "temperature 0": lambda a: {"temperature": 0.0},
    "an unknown cell": lambda a: {"shape": replace(a.shape, cell="tree")},  # type: ignore[arg-type]
    "a huge shape": lambda a: {"shape": replace(a.shape, hidden=10**9)},
    "a negative shape": lambda a: {"shape": replace(a.shape, layers=-1)},
    "no card": lambda a: {"card": []},
    "stored examples of another type": lambda a: {
        "scope": replace(a.scope, inside=a.scope.inside.float())
    },
    "deviation 0": lambda a: {"scope": replace(a.scope, deviations=(1.0, 0.0, 1.0))},
    "a signal too few": lambda a: {"scope": replace(a.scope, means=(1.0, 1.0))},
}


@pytest.mark.parametrize("what", SPOILERS)
def test_a_file_made_wrong_is_refused_though_its_checksum_is_right(
    trained: Trained, what: str
) -> None:
    spoilt = replace(trained.artifact, **SPOILERS[what](trained.artifact))
    with pytest.raises(ArtifactError, match="do not fit together"):
        from_bytes(to_bytes(spoilt))


def test_a_later_format_is_refused_by_name(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "FORMAT_VERSION", 2)
    later = to_bytes(trained.artifact)
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="format '2'"):
        from_bytes(later)


def test_the_card_can_be_read_without_torch(content: bytes) -> None:
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    about = json.loads(header["__metadata__"][artifact.METADATA_KEY])
    assert about["card"]["intents"]["track_order"] == 20

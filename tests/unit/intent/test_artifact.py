"""A file is loaded whole and right, or not at all."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from intent import artifact
from intent.artifact import Artifact, from_bytes, load, save, to_bytes
from intent.certificate import Calibration
from intent.classifier import GRUClassifier
from intent.interface import ArtifactError, Doubt, Promise
from intent.quantization import QuantizedRows
from intent.scope import SIGNALS
from intent.training import Trained

Vector = NDArray[np.float32]

CALIBRATION = Calibration(
    basis="given",
    thresholds=(0.9, 0.5),
    expected=((0.8, 0.001, 0.01), (0.9, 0.01, 0.1)),
    floors=(("track_order", 0.95),),
    inside=1_000,
    outside=100,
    answered=(800, 900),
    wrong=(0, 10),
    let_through=(0, 10),
    all_wrong=20,
    intents=5,
    in_scope=(950, 20),
)

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


def test_a_calibration_is_stored_and_an_older_file_has_none(
    trained: Trained, content: bytes
) -> None:
    assert trained.artifact.calibration is None
    assert GRUClassifier.load(content).certify(Promise()).doubt is Doubt.NOTHING_UNSEEN
    counted = replace(trained.artifact, calibration=CALIBRATION)
    again = from_bytes(to_bytes(counted))
    assert again.calibration == CALIBRATION
    assert GRUClassifier(again).certify(Promise()).point is not None


def test_words_that_are_no_longer_examples_can_be_forgotten(
    trained: Trained, content: bytes
) -> None:
    texts = trained.artifact.scope.inside.texts
    gone = texts[0]
    assert gone.encode() in content
    less = artifact.forget_texts(content, set(texts[1:]))
    assert gone.encode() not in less
    assert texts[1].encode() in less
    before, after = GRUClassifier.load(content), GRUClassifier.load(less)
    assert after.classify_batch(TEXTS) == before.classify_batch(TEXTS)
    assert artifact.forget_texts(less, set(texts[1:])) == less


def test_a_reports_examples_can_be_forgotten() -> None:
    report = {"confusions": [{"expected": "a", "example": "said"}, {"example": "kept"}]}
    assert artifact.forget_in_report(report, {"kept"}) == {
        "confusions": [{"expected": "a", "example": ""}, {"example": "kept"}]
    }


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
    path.write_bytes(safetensors.numpy.save({"a": np.zeros(2)}))
    with pytest.raises(ArtifactError, match=r"other\.safetensors: not a trained file"):
        load(path)


def test_a_missing_file_and_a_missing_folder_are_named(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="check the path"):
        load(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="choose another place"):
        save(trained.artifact, tmp_path / "nowhere" / "file")


def with_vector(artifact: Artifact, change: Callable[[Vector], Vector]) -> dict[str, Any]:
    vectors = artifact.network.vectors
    changed = {**vectors, "head.bias": change(vectors["head.bias"])}
    return {"network": replace(artifact.network, vectors=changed)}


def with_matrix(
    artifact: Artifact, change: Callable[[QuantizedRows], QuantizedRows]
) -> dict[str, Any]:
    matrices = artifact.network.matrices
    changed = {**matrices, "head.weight": change(matrices["head.weight"])}
    return {"network": replace(artifact.network, matrices=changed)}


def with_shape(artifact: Artifact, **changes: Any) -> dict[str, Any]:
    network = artifact.network
    return {"network": replace(network, shape=replace(network.shape, **changes))}


def with_inside(artifact: Artifact, **changes: Any) -> dict[str, Any]:
    return {"scope": replace(artifact.scope, inside=replace(artifact.scope.inside, **changes))}


SPOILERS: dict[str, Callable[[Artifact], dict[str, Any]]] = {
    "weights not finite": lambda a: with_vector(a, lambda v: np.full_like(v, np.nan)),
    "weights of another size": lambda a: with_vector(a, lambda v: v[:-1]),
    "weights of another type": lambda a: with_vector(a, lambda v: v.astype(np.float64)),  # type: ignore[arg-type]
    "a matrix of another size": lambda a: with_matrix(
        a, lambda m: QuantizedRows(m.values[:, 1:], m.scales)
    ),
    "scales not finite": lambda a: with_matrix(
        a, lambda m: QuantizedRows(m.values, m.scales * np.float32(np.inf))
    ),
    "too few scales": lambda a: with_matrix(a, lambda m: QuantizedRows(m.values, m.scales[1:])),
    "no weights": lambda a: {"network": replace(a.network, vectors={}, matrices={})},
    "a weight too many": lambda a: {
        "network": replace(
            a.network, vectors={**a.network.vectors, "other": np.zeros(1, np.float32)}
        )
    },
    "an intent too few": lambda a: {"intents": a.intents[1:]},
    "an intent twice": lambda a: {"intents": a.intents[:-1] + a.intents[:1]},
    "temperature 0": lambda a: {"temperature": 0.0},
    "an unknown cell": lambda a: with_shape(a, cell="tree"),
    "a huge shape": lambda a: with_shape(a, hidden=10**9),
    "a negative shape": lambda a: with_shape(a, layers=-1),
    "no card": lambda a: {"card": []},
    "stored examples of another type": lambda a: with_inside(
        a, features=a.scope.inside.features.astype(np.float32)
    ),
    "stored examples without texts": lambda a: with_inside(a, texts=()),
    "stored examples of no intent": lambda a: with_inside(a, labels=a.scope.inside.labels + 99),
    "stored examples out of order": lambda a: with_inside(a, labels=a.scope.inside.labels[::-1]),
    "a calibration that counts more than there is": lambda a: {
        "calibration": replace(CALIBRATION, inside=10)
    },
    "deviation 0": lambda a: {"scope": replace(a.scope, deviations=(0.0,) * SIGNALS)},
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
    monkeypatch.setattr(artifact, "FORMAT_VERSION", 3)
    later = to_bytes(trained.artifact)
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="format '3'"):
        from_bytes(later)


def test_a_graph_that_cannot_run_is_refused(trained: Trained) -> None:
    for graph in (b"", b"no graph", trained.artifact.network.graph[:-40]):
        network = replace(trained.artifact.network, graph=graph)
        content = to_bytes(replace(trained.artifact, network=network))
        with pytest.raises(ArtifactError, match="cannot run"):
            GRUClassifier.load(content)


def test_the_card_can_be_read_without_torch(content: bytes) -> None:
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    about = json.loads(header["__metadata__"][artifact.METADATA_KEY])
    assert about["card"]["intents"]["track_order"] == 20

"""A trained network as one safetensors file, and back again, with every part checked."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from intent.certificate import Calibration
from intent.engine import Network
from intent.follow_up import FollowUpHead
from intent.interface import ArtifactError
from intent.neighbours import StoredExamples
from intent.quantization import QuantizedRows
from intent.scope import SIGNALS, ScopeDetector
from intent.shape import CELLS, NetworkShape
from intent.slot_rules import RuleMatcher, SlotRules, rule_problems
from intent.slots import SlotKind, SlotModel, feature_count
from intent.text import Vocabulary

Tensor = NDArray[Any]

FORMAT_VERSION = 2
METADATA_KEY = "twofold.intent"  # one key only: safetensors does not keep several in order
MAX_BYTES = 64 * 2**20
MAX_HEADER_BYTES = 8 * 2**20
LARGEST_SIZES = {
    "vocabulary": 1_000_000,
    "intents": 20_000,
    "embedding": 2_048,
    "hidden": 4_096,
    "layers": 8,
    "directions": 2,
    "features": 4_096,
    "tags": 4_096,
    "token_features": 4_096,
}
WEIGHT = "network."
SCALES = ".scales"
FOLLOW_UP = "follow_up."
REMEDY = "train it again, or restore the file from a backup"


@dataclass(frozen=True)
class Artifact:
    """Everything that classification needs."""

    network: Network
    intents: tuple[str, ...]
    temperature: float
    scope: ScopeDetector
    slots: SlotModel
    card: dict[str, Any]
    """What it was trained on, how, and how good it is; plain JSON, read by people."""
    calibration: Calibration | None = None
    """What was counted on utterances that it never saw; older files have none."""
    follow_up: FollowUpHead | None = None
    """How it reads utterances in their conversation; only with a pre-trained encoder's own head."""


def save(artifact: Artifact, path: str | os.PathLike[str]) -> None:
    """Replaces an older file in one step, so that nobody ever reads half of it."""
    path = Path(path)
    content = to_bytes(artifact)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".saving-", delete=False) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        reason = error.strerror or "failed"
        raise ArtifactError(f"{path}: cannot write ({reason}); choose another place") from error


def load(source: str | os.PathLike[str] | bytes) -> Artifact:
    """From a path or from bytes. Raises ArtifactError."""
    if isinstance(source, bytes):
        return from_bytes(source)
    path = Path(source)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ArtifactError(f"{path}: over {MAX_BYTES // 2**20} MiB; name a trained file")
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or "failed"
        raise ArtifactError(f"{path}: cannot read ({reason}); check the path") from error
    try:
        return from_bytes(content)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error


def to_bytes(artifact: Artifact) -> bytes:
    """The same bytes for the same artifact."""
    network, scope = artifact.network, artifact.scope
    tensors = {
        **weight_tensors(network.matrices, network.vectors),
        "graph": np.frombuffer(network.graph, np.uint8),
        "vocabulary": json_tensor(network.vocabulary.words),
        "scope.seen_ngrams": scope.seen_ngrams,
        "slots": json_tensor(
            {
                "kinds": [(kind.name, kind.role, kind.group) for kind in artifact.slots.kinds],
                "rules": artifact.slots.rules.to_json(),
            }
        ),
    }
    for part, examples in (("inside", scope.inside), ("outside", scope.outside)):
        tensors[f"scope.{part}.features"] = examples.features
        tensors[f"scope.{part}.labels"] = examples.labels.astype(np.uint16)
        tensors[f"scope.{part}.texts"] = json_tensor(examples.texts)
    if artifact.follow_up is not None:
        tensors |= {FOLLOW_UP + name: one for name, one in artifact.follow_up.weights.items()}
    about = {
        "shape": asdict(network.shape),
        "intents": artifact.intents,
        "temperature": artifact.temperature,
        "scope": {
            "means": scope.means,
            "deviations": scope.deviations,
            "threshold": scope.threshold,
        },
        "card": artifact.card,
    }
    if artifact.calibration is not None:
        about["calibration"] = artifact.calibration.to_json()
    return pack(about, tensors)


def from_bytes(content: bytes) -> Artifact:
    about, tensors = unpack(content)
    try:
        return _assemble(about, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"the file's parts do not fit together ({error}); {REMEDY}") from error


def forget_texts(content: bytes, kept: Container[str]) -> bytes:
    """The same network, without the words of examples that are not `kept`: their directions
    stay, as do the weights that learned from them. Raises ArtifactError."""
    artifact = from_bytes(content)
    scope = replace(
        artifact.scope,
        inside=_only(artifact.scope.inside, kept),
        outside=_only(artifact.scope.outside, kept),
    )
    return to_bytes(replace(artifact, scope=scope, card=forget_in_report(artifact.card, kept)))


def forget_in_report(report: Any, kept: Container[str]) -> Any:
    """A card or an evaluation, with nothing for each example in it that is not `kept`."""
    if isinstance(report, dict):
        return {
            name: ""
            if name in ("text", "example") and isinstance(value, str) and value not in kept
            else forget_in_report(value, kept)
            for name, value in report.items()
        }
    if isinstance(report, list | tuple):
        return [forget_in_report(one, kept) for one in report]
    return report


def _only(examples: StoredExamples, kept: Container[str]) -> StoredExamples:
    return replace(examples, texts=tuple(one if one in kept else "" for one in examples.texts))


def pack(about: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """One safetensors file with a checksum over everything in it."""
    about = {"format_version": FORMAT_VERSION, **about}
    about["sha256"] = _digest(about, tensors)
    metadata = {METADATA_KEY: json.dumps(about, sort_keys=True, allow_nan=False)}
    plain = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    content: bytes = safetensors.numpy.save(plain, metadata)
    return content


def unpack(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `pack` was given. Raises ArtifactError for anything else, and for any damage."""
    about = _read_metadata(content)
    version = about.get("format_version")
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"file format {str(version)[:20]!r} is not the {FORMAT_VERSION} read here; "
            "train it again with this version of Twofold"
        )
    try:
        tensors = safetensors.numpy.load(content)
    except Exception as error:  # the reader's own error types are not part of its interface
        raise ArtifactError(f"the file is damaged; {REMEDY}") from error
    if about.pop("sha256", None) != _digest(about, tensors):
        raise ArtifactError(f"the file is damaged (its checksum differs); {REMEDY}")
    return about, tensors


def _read_metadata(content: bytes) -> dict[str, Any]:
    if len(content) > MAX_BYTES:
        raise ArtifactError(f"over {MAX_BYTES // 2**20} MiB; name a trained file")
    header_bytes = int.from_bytes(content[:8], "little")
    if not 2 <= header_bytes <= min(MAX_HEADER_BYTES, len(content) - 8):
        raise ArtifactError(f"not a trained file, or cut short; {REMEDY}")
    try:
        header = json.loads(content[8 : 8 + header_bytes])
        about = json.loads(header["__metadata__"][METADATA_KEY])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"not a trained file of Twofold; {REMEDY}") from error
    if not isinstance(about, dict):
        raise ArtifactError(f"not a trained file of Twofold; {REMEDY}")
    return about


def _digest(about: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()


def weight_tensors(
    matrices: Mapping[str, QuantizedRows], vectors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {WEIGHT + name: vector for name, vector in vectors.items()}
    for name, matrix in matrices.items():
        tensors[WEIGHT + name] = matrix.values
        tensors[WEIGHT + name + SCALES] = matrix.scales
    return tensors


def read_weights(
    tensors: Mapping[str, Tensor], sizes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, QuantizedRows], dict[str, Tensor]]:
    """Matrices and vectors of exactly these sizes. Raises ValueError."""
    matrices: dict[str, QuantizedRows] = {}
    vectors: dict[str, Tensor] = {}
    named = {name for name in tensors if name.startswith(WEIGHT)}
    for name, size in sizes.items():
        weight = tensors[WEIGHT + name]
        expected: type[np.generic] = np.float32 if len(size) == 1 else np.int8
        if weight.shape != size or weight.dtype != expected:
            raise ValueError(f"{name} has another size or type")
        numbers = weight
        if len(size) == 1:
            vectors[name] = weight
        else:
            numbers = tensors[WEIGHT + name + SCALES]
            if numbers.shape != size[:1] or numbers.dtype != np.float32:
                raise ValueError(f"the scales of {name} have another size or type")
            matrices[name] = QuantizedRows(weight, numbers)
        if not bool(np.isfinite(numbers).all()):
            raise ValueError(f"{name} is not finite")
    if len(named) != len(vectors) + 2 * len(matrices):
        raise ValueError("extra weights")
    return matrices, vectors


def _assemble(about: dict[str, Any], tensors: dict[str, Tensor]) -> Artifact:
    """The checksum holds already; this refuses a file that was made wrong."""
    shape = _check_shape(about["shape"])
    words = _names(read_json_tensor(tensors["vocabulary"]), "words", shape.vocabulary)
    intents = _names(about["intents"], "intents", shape.intents)
    matrices, vectors = read_weights(tensors, shape.weights())
    if tensors["graph"].dtype != np.uint8 or tensors["graph"].ndim != 1:
        raise ValueError("no graph")
    temperature = _number(about["temperature"])
    if temperature <= 0:
        raise ValueError("temperature not above 0")
    if not isinstance(about["card"], dict):
        raise ValueError("no card")
    return Artifact(
        network=Network(shape, Vocabulary(words), matrices, vectors, tensors["graph"].tobytes()),
        intents=intents,
        temperature=temperature,
        scope=_read_scope(about["scope"], tensors, shape),
        slots=_read_slots(read_json_tensor(tensors["slots"]), shape),
        card=about["card"],
        calibration=Calibration.from_json(about["calibration"]) if "calibration" in about else None,
        follow_up=read_follow_up(tensors, shape.features),
    )


def read_follow_up(tensors: Mapping[str, Tensor], features: int) -> FollowUpHead | None:
    """Raises ValueError for a head that reads features of another width."""
    found = {
        name.removeprefix(FOLLOW_UP): one
        for name, one in tensors.items()
        if name.startswith(FOLLOW_UP)
    }
    if not found:
        return None
    head = FollowUpHead(found)
    if head.features != features:
        raise ValueError("a follow-up head of another network")
    return head


def _names(found: Any, what: str, count: int) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{what} that are not text")
    if len(found) != count or len(set(found)) != count:
        raise ValueError(f"not {count} different {what}")
    return tuple(found)


def _check_shape(fields: dict[str, Any]) -> NetworkShape:
    shape = NetworkShape(**fields)
    if shape.cell not in CELLS:
        raise ValueError("unknown cell")
    for name, largest in LARGEST_SIZES.items():
        value = getattr(shape, name)
        least = 0 if name in {"vocabulary", "tags", "token_features"} else 1
        if type(value) is not int or not least <= value <= largest:
            raise ValueError(f"{name} not in {least} to {largest}")
    if type(shape.layer_norm) is not bool:
        raise ValueError("layer_norm neither true nor false")
    return shape


def _read_scope(
    fields: dict[str, Any], tensors: dict[str, Tensor], shape: NetworkShape
) -> ScopeDetector:
    inside = _read_examples(tensors, "inside", shape.features, shape.intents)
    seen = tensors["scope.seen_ngrams"]
    if not len(inside.labels) or seen.dtype != np.uint32 or seen.ndim != 1:
        raise ValueError("no stored examples or n-grams")
    means, deviations = (tuple(map(_number, fields[name])) for name in ("means", "deviations"))
    if len(means) != SIGNALS or len(deviations) != SIGNALS or min(deviations) <= 0:
        raise ValueError(f"scope signals are not {SIGNALS}")
    return ScopeDetector(
        inside=inside,
        outside=_read_examples(tensors, "outside", shape.features, 1),
        seen_ngrams=seen,
        means=means,
        deviations=deviations,
        threshold=_number(fields["threshold"]),
    )


def _read_slots(found: Any, shape: NetworkShape) -> SlotModel:
    kinds = []
    for name, role, group in found["kinds"]:
        if not isinstance(name, str) or not isinstance(role, str | None):
            raise ValueError("slots without names")
        if not isinstance(group, str | None):
            raise ValueError("slots of a group that is none")
        kinds.append(SlotKind(name, role, group))
    rules = SlotRules.from_json(found["rules"])
    if any(problem for rule in rules.rows() for problem in rule_problems(*rule)):
        raise ValueError("slot rules that cannot be applied")
    slots = SlotModel(tuple(kinds), rules)
    expected = feature_count(RuleMatcher(rules)) if slots.kinds else 0
    if (slots.labels, expected) != (shape.tags, shape.token_features):
        raise ValueError("slots that are not the network's")
    return slots


def _read_examples(
    tensors: dict[str, Tensor], part: str, width: int, intents: int
) -> StoredExamples:
    features, labels = tensors[f"scope.{part}.features"], tensors[f"scope.{part}.labels"]
    texts = read_json_tensor(tensors[f"scope.{part}.texts"])
    if features.dtype != np.int8 or features.ndim != 2 or features.shape[1] != width:
        raise ValueError("stored examples have another size or type")
    if labels.dtype != np.uint16 or labels.shape != features.shape[:1]:
        raise ValueError("stored examples without intents")
    if np.any(labels[1:] < labels[:-1]) or np.any(labels >= intents):
        raise ValueError("stored examples out of order")
    if not isinstance(texts, list) or len(texts) != len(labels):
        raise ValueError("stored examples without texts")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("stored examples whose texts are none")
    return StoredExamples(features, labels.astype(np.int64), tuple(texts))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a number that is none")
    return float(value)


def json_tensor(value: Any) -> Tensor:
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return np.frombuffer(content, np.uint8)


def read_json_tensor(tensor: Tensor) -> Any:
    if tensor.dtype != np.uint8 or tensor.ndim != 1:
        raise ValueError("text of another type")
    return json.loads(tensor.tobytes())

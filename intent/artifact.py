"""A trained network as one safetensors file, and back again, with every part checked."""

import hashlib
import json
import math
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from intent.interface import ArtifactError
from intent.network import CELLS, IntentNetwork, NetworkShape
from intent.scope import SIGNALS, ScopeDetector
from intent.text import Vocabulary

FORMAT_VERSION = 1
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
}
WEIGHT = "network."
REMEDY = "train it again, or restore the file from a backup"


@dataclass(frozen=True)
class Artifact:
    """Everything that classification needs. Weights are held in half precision."""

    shape: NetworkShape
    weights: dict[str, Tensor]
    vocabulary: Vocabulary
    intents: tuple[str, ...]
    temperature: float
    scope: ScopeDetector
    card: dict[str, Any]
    """What it was trained on, how, and how good it is; plain JSON, read by people."""

    def network(self) -> IntentNetwork:
        with torch.device("meta"):  # allocates nothing and draws no random numbers
            network = IntentNetwork(self.shape)
        weights = {name: weight.float() for name, weight in self.weights.items()}
        network.load_state_dict(weights, assign=True)
        return network.requires_grad_(False).eval()


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
    scope = artifact.scope
    tensors = {WEIGHT + name: weight.contiguous() for name, weight in artifact.weights.items()}
    tensors["vocabulary"] = json_tensor(artifact.vocabulary.words)
    tensors["scope.inside"] = scope.inside.contiguous()
    tensors["scope.outside"] = scope.outside.contiguous()
    tensors["scope.seen_ngrams"] = scope.seen_ngrams.contiguous()
    about = {
        "shape": asdict(artifact.shape),
        "intents": artifact.intents,
        "temperature": artifact.temperature,
        "scope": {
            "means": scope.means,
            "deviations": scope.deviations,
            "threshold": scope.threshold,
        },
        "card": artifact.card,
    }
    return pack(about, tensors)


def from_bytes(content: bytes) -> Artifact:
    about, tensors = unpack(content)
    try:
        return _assemble(about, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"the file's parts do not fit together ({error}); {REMEDY}") from error


def pack(about: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """One safetensors file with a checksum over everything in it."""
    about = {"format_version": FORMAT_VERSION, **about}
    about["sha256"] = _digest(about, tensors)
    metadata = {METADATA_KEY: json.dumps(about, sort_keys=True, allow_nan=False)}
    content: bytes = safetensors.torch.save(tensors, metadata)
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
        tensors = safetensors.torch.load(content)
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
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _assemble(about: dict[str, Any], tensors: dict[str, Tensor]) -> Artifact:
    """The checksum holds already; this refuses a file that was made wrong."""
    shape = _check_shape(about["shape"])
    words = read_json_tensor(tensors["vocabulary"])
    intents = about["intents"]
    for what, names, count in (
        ("words", words, shape.vocabulary),
        ("intents", intents, shape.intents),
    ):
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{what} that are not text")
        if len(names) != count or len(set(names)) != count:
            raise ValueError(f"not {count} different {what}")
    weights = {
        name.removeprefix(WEIGHT): tensor
        for name, tensor in tensors.items()
        if name.startswith(WEIGHT)
    }
    _check_weights(shape, weights)
    temperature = _number(about["temperature"])
    if temperature <= 0:
        raise ValueError("temperature not above 0")
    if not isinstance(about["card"], dict):
        raise ValueError("no card")
    return Artifact(
        shape=shape,
        weights=weights,
        vocabulary=Vocabulary(tuple(words)),
        intents=tuple(intents),
        temperature=temperature,
        scope=_read_scope(about["scope"], tensors, shape),
        card=about["card"],
    )


def _check_shape(fields: dict[str, Any]) -> NetworkShape:
    shape = NetworkShape(**fields)
    if shape.cell not in CELLS:
        raise ValueError("unknown cell")
    for name, largest in LARGEST_SIZES.items():
        value = getattr(shape, name)
        least = 0 if name == "vocabulary" else 1
        if type(value) is not int or not least <= value <= largest:
            raise ValueError(f"{name} not in {least} to {largest}")
    return shape


def _check_weights(shape: NetworkShape, weights: dict[str, Tensor]) -> None:
    with torch.device("meta"):
        expected = IntentNetwork(shape).state_dict()
    if weights.keys() != expected.keys():
        raise ValueError("missing or extra weights")
    for name, weight in weights.items():
        if weight.shape != expected[name].shape or weight.dtype != torch.float16:
            raise ValueError(f"{name} has another size or type")
        if not bool(weight.isfinite().all()):
            raise ValueError(f"{name} is not finite")


def _read_scope(
    fields: dict[str, Any], tensors: dict[str, Tensor], shape: NetworkShape
) -> ScopeDetector:
    inside, outside = tensors["scope.inside"], tensors["scope.outside"]
    seen = tensors["scope.seen_ngrams"]
    for stored in (inside, outside):
        if stored.dtype != torch.int8 or stored.ndim != 2 or stored.shape[1] != shape.features:
            raise ValueError("stored examples have another size or type")
    if not len(inside) or seen.dtype != torch.int64 or seen.ndim != 1:
        raise ValueError("no stored examples or n-grams")
    means, deviations = (tuple(map(_number, fields[name])) for name in ("means", "deviations"))
    if len(means) != SIGNALS or len(deviations) != SIGNALS or min(deviations) <= 0:
        raise ValueError(f"scope signals are not {SIGNALS}")
    return ScopeDetector(
        inside=inside,
        outside=outside,
        seen_ngrams=seen,
        means=means,
        deviations=deviations,
        threshold=_number(fields["threshold"]),
    )


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a number that is none")
    return float(value)


def json_tensor(value: Any) -> Tensor:
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def read_json_tensor(tensor: Tensor) -> Any:
    if tensor.dtype != torch.uint8 or tensor.ndim != 1:
        raise ValueError("text of another type")
    return json.loads(tensor.numpy().tobytes())

"""A pre-trained sentence encoder as a file: the one that is shipped, or one of your own."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from intent import artifact
from intent.follow_up import FollowUpHead
from intent.interface import ArtifactError
from intent.quantization import QuantizedRows, quantize
from intent.shape import NetworkShape
from intent.text import Vocabulary

Array = NDArray[np.float32]
SHIPPED = Path(__file__).parent / "pretrained" / "encoder.safetensors"


@dataclass(frozen=True)
class PretrainedEncoder:
    """Weights by the names of `Encoder`; the matrices are quantized."""

    shape: NetworkShape
    vocabulary: Vocabulary
    matrices: dict[str, QuantizedRows]
    vectors: dict[str, Array]
    card: dict[str, Any]
    follow_up: FollowUpHead | None = None
    """How classifiers that begin here read utterances in their conversation."""

    def weights(self) -> dict[str, Tensor]:
        """A `state_dict` of `Encoder`."""
        weights = {name: torch.from_numpy(m.restore()) for name, m in self.matrices.items()}
        return weights | {name: torch.tensor(vector) for name, vector in self.vectors.items()}

    def to_bytes(self) -> bytes:
        about = {"kind": "encoder", "shape": asdict(self.shape), "card": self.card}
        tensors = artifact.weight_tensors(self.matrices, self.vectors)
        return artifact.pack(
            about, {**tensors, "vocabulary": artifact.json_tensor(self.vocabulary.words)}
        )

    @classmethod
    def load(cls, path: Path = SHIPPED) -> "PretrainedEncoder":
        """With the head for follow-ups that lies beside it, if one does. Raises ArtifactError."""
        try:
            content = path.read_bytes()
            about, tensors = artifact.unpack(content)
            shape = NetworkShape(**about["shape"])
            words = artifact.read_json_tensor(tensors["vocabulary"])
            matrices, vectors = artifact.read_weights(tensors, encoder_weights(shape))
        except (OSError, KeyError, TypeError, ValueError, ArtifactError) as error:
            raise ArtifactError(f"{path}: no pre-trained encoder ({error})") from error
        head = _load_follow_up(follow_up_file(path), digest(content), shape.features)
        return cls(shape, Vocabulary(tuple(words)), matrices, vectors, about["card"], head)


def digest(encoder: bytes) -> str:
    return hashlib.sha256(encoder).hexdigest()


def follow_up_file(encoder: Path) -> Path:
    return encoder.with_name("follow_up.safetensors")


def follow_up_to_bytes(head: FollowUpHead, encoder: bytes, card: dict[str, Any]) -> bytes:
    """`encoder`: the file whose classifiers it is for; no other's may use it."""
    about = {"kind": "follow_up", "encoder": digest(encoder), "card": card}
    tensors = {artifact.FOLLOW_UP + name: one for name, one in head.weights.items()}
    return artifact.pack(about, tensors)


def _load_follow_up(path: Path, encoder: str, features: int) -> FollowUpHead | None:
    """None where there is none, or one of another encoder."""
    if not path.exists():
        return None
    try:
        about, tensors = artifact.unpack(path.read_bytes())
        return artifact.read_follow_up(tensors, features) if about["encoder"] == encoder else None
    except (OSError, KeyError, TypeError, ValueError, ArtifactError) as error:
        raise ArtifactError(f"{path}: no head for follow-ups ({error}); restore it") from error


def encoder_weights(shape: NetworkShape) -> dict[str, tuple[int, ...]]:
    """The sizes of the encoder's weights alone, by the names of `Encoder`."""
    prefix = "encoder."
    sizes = shape.weights().items()
    return {name.removeprefix(prefix): size for name, size in sizes if name.startswith(prefix)}


def split_weights(module: nn.Module) -> tuple[dict[str, QuantizedRows], dict[str, Array]]:
    """Matrices, quantized, and vectors."""
    weights = {name: weight.detach().numpy() for name, weight in module.state_dict().items()}
    return (
        {name: quantize(weight) for name, weight in weights.items() if weight.ndim == 2},
        {name: weight.copy() for name, weight in weights.items() if weight.ndim == 1},
    )

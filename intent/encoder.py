"""A pre-trained sentence encoder as a file: the one that is shipped, or one of your own."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from intent import artifact
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
        """Raises ArtifactError."""
        try:
            about, tensors = artifact.unpack(path.read_bytes())
            shape = NetworkShape(**about["shape"])
            words = artifact.read_json_tensor(tensors["vocabulary"])
            matrices, vectors = artifact.read_weights(tensors, encoder_weights(shape))
        except (OSError, KeyError, TypeError, ValueError, ArtifactError) as error:
            raise ArtifactError(f"{path}: no pre-trained encoder ({error})") from error
        return cls(shape, Vocabulary(tuple(words)), matrices, vectors, about["card"])


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

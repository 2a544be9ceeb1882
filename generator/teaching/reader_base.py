"""What the reader begins at: a BERT in Hugging Face's format."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from generator.reader_graph import NARROW, ReaderShape
from generator.teaching.lesson import TeachingError
from generator.teaching.reader_network import ReaderNetwork

BASE_NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "inner_norm": "output.LayerNorm",
}


def base_network(folder: Path, *, seed: int = 0) -> ReaderNetwork:
    """A network that has learnt nothing beyond its base, a BERT in Hugging Face's format; the
    seed is for what is new. Raises TeachingError."""
    torch.manual_seed(seed)
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        layers = config["num_hidden_layers"]
        shape = ReaderShape(
            vocabulary=config["vocab_size"],
            width=config["hidden_size"],
            heads=config["num_attention_heads"],
            inner=config["intermediate_size"],
            layers=layers,
            alone=max(1, layers // 3),
            positions=config["max_position_embeddings"],
            narrow=min(NARROW, config["hidden_size"]),
        )
        stored = load_file(folder / "model.safetensors")
        network = ReaderNetwork(shape)
        network.load_state_dict(_of_base(stored, shape), strict=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise TeachingError(
            f"{folder} holds no BERT ({error}); name a folder with config.json, model.safetensors "
            "and tokenizer.json, such as that of all-MiniLM-L6-v2"
        ) from error
    return network


def _of_base(stored: dict[str, Tensor], shape: ReaderShape) -> dict[str, Tensor]:
    weights = {
        "words.weight": stored["embeddings.word_embeddings.weight"],
        "positions.weight": stored["embeddings.position_embeddings.weight"],
        "kinds.weight": stored["embeddings.token_type_embeddings.weight"],
    }
    for kind in ("weight", "bias"):
        weights[f"embedding_norm.{kind}"] = stored[f"embeddings.LayerNorm.{kind}"]
        for layer in range(shape.layers):
            for name, base in BASE_NAMES.items():
                weights[f"layers.{layer}.{name}.{kind}"] = stored[
                    f"encoder.layer.{layer}.{base}.{kind}"
                ]
    return {name: weight.float() for name, weight in weights.items()}

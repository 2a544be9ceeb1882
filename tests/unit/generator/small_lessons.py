"""What two small networks can learn in seconds: invented places, their prices and their hours."""

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from torch import Tensor

PLACES = "pool library cinema garden museum bakery market stable".split()
THINGS = "ticket boat locker towel tour lamp coat bicycle".split()


def write_answers(folder: Path) -> Path:
    """A field for each place, with a page for each of four things."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(4)
    for place in PLACES:
        things = draw.sample(THINGS, 4)
        field = {
            "field": place,
            "organisation": f"The old {place}",
            "passages": [_passage(thing, draw) for thing in things],
        }
        (folder / f"{place}.yml").write_text(yaml.safe_dump(field, allow_unicode=True), "utf-8")
    return folder


def _passage(thing: str, draw: random.Random) -> dict[str, object]:
    price, hour = draw.randrange(10, 90), draw.randrange(1, 12)
    costs = f"- A {thing} costs {price} euros."
    opens = f"- We hand it out after {hour} o'clock."
    return {
        "title": f"Your {thing}",
        "text": f"{costs}\n{opens}\n- Please bring it back dry.\n",
        "questions": [
            {
                "ask": [f"how much is a {thing}", f"price of the {thing}"],
                "say": f"{price} euros.",
                "from": [costs],
            },
        ],
        "follow_ups": [
            {
                "before": {"user": f"can I borrow a {thing}", "bot": "Yes."},
                "ask": ["from when on"],
                "say": f"{hour} o'clock.",
                "from": [opens],
            },
        ],
        "unanswered": {f"is the {thing} blue": "is | blue"},
        "unanswered_follow_ups": [
            {
                "before": {"user": f"how much is a {thing}", "bot": f"{price} euros."},
                "ask": ["and for groups"],
            },
        ],
    }


def write_base(folder: Path, answers: Path) -> Path:
    """A small BERT with random weights, and a tokenizer of the answer files' words."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    special = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=400, min_frequency=1, special_tokens=special, show_progress=False
    )
    tokenizer.train([str(file) for file in sorted(answers.glob("*.yml"))], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
        "model_type": "bert",
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(_weights(**config), folder / "model.safetensors", {"format": "pt"})
    return folder


def _weights(**config: Any) -> dict[str, "Tensor"]:
    """Random ones, under the names of Hugging Face's BertModel."""
    import torch

    width, inner = config["hidden_size"], config["intermediate_size"]
    draw = torch.Generator().manual_seed(2)
    weights: dict[str, Tensor] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        weights[f"{name}.weight"] = 0.15 * torch.randn(outputs, inputs, generator=draw)
        weights[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=draw)

    def norm(name: str) -> None:
        weights[f"{name}.weight"] = 1 + 0.1 * torch.randn(width, generator=draw)
        weights[f"{name}.bias"] = 0.1 * torch.randn(width, generator=draw)

    sizes = {"word": "vocab_size", "position": "max_position_embeddings"}
    rows = {name: config[size] for name, size in sizes.items()} | {"token_type": 2}
    for name, count in rows.items():
        table = torch.randn(count, width, generator=draw)
        weights[f"embeddings.{name}_embeddings.weight"] = 0.5 * table
    norm("embeddings.LayerNorm")
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value"):
            linear(f"{layer}.{name}", width, width)
        linear(f"{layer}.attention.output.dense", width, width)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", width, inner)
        linear(f"{layer}.output.dense", inner, width)
        norm(f"{layer}.output.LayerNorm")
    linear("pooler.dense", width, width)
    return weights

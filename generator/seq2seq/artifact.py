"""The folder that a trained network is kept in: weights, tokenizer, configuration. No torch."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from generator.interface import ChatMessage, GeneratorUnavailable
from generator.seq2seq.config import NetworkShape
from generator.seq2seq.engine import Array, Engine, Reply, weight_sizes
from generator.seq2seq.search import Decoding, beam_search, sample
from generator.seq2seq.tokens import BEGIN, END, USER, Tokens

FORMAT = "twofold.seq2seq"
FORMAT_VERSION = 1
CONFIG, WEIGHTS, TOKENIZER = "config.json", "network.safetensors", "tokenizer.json"
LARGEST_SIZE = 100_000
MOST_BYTES = 2**30
REMEDY = "train it again with `python -m generator train`, or restore the folder from a backup"

BEAM_WIDTH = 4
LENGTH_PENALTY = 0.6


@dataclass(frozen=True)
class Seq2Seq:
    """A trained network that can be asked."""

    engine: Engine
    tokens: Tokens
    card: dict[str, Any]
    """What it was trained on, how, and how good it is; plain JSON, read by people."""

    def read(self, messages: Sequence[ChatMessage]) -> Reply:
        source = self.tokens.context(messages, most=self.engine.shape.source_tokens)
        return self.engine.read(source or [USER])

    def say(
        self,
        reply: Decoding,
        *,
        most_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        beam_width: int = BEAM_WIDTH,
    ) -> Iterator[int]:
        """Token by token: the best reply found, or at a temperature above 0 a drawn one."""
        most_tokens = min(most_tokens, self.engine.shape.reply_tokens)
        if temperature > 0 or beam_width == 1:
            return sample(
                reply,
                begin=BEGIN,
                end=END,
                most_tokens=most_tokens,
                temperature=temperature,
                seed=seed,
            )
        return beam_search(
            reply,
            begin=BEGIN,
            end=END,
            most_tokens=most_tokens,
            width=beam_width,
            length_penalty=LENGTH_PENALTY,
        )


def save(network: Seq2Seq, folder: Path) -> None:
    """The configuration comes last and knows the other files' checksums, so that no half-written
    folder can be taken for a whole one."""
    weights = {name: np.ascontiguousarray(one) for name, one in network.engine.weights.items()}
    files = {
        WEIGHTS: safetensors.numpy.save(weights),
        TOKENIZER: network.tokens.to_json().encode(),
    }
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "shape": asdict(network.engine.shape),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "card": network.card,
    }
    files[CONFIG] = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False).encode()
    for name, content in files.items():
        write(folder / name, content)


def write(path: Path, content: bytes) -> None:
    """In one step, so that nobody ever reads half of it."""
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


def load(folder: Path) -> Seq2Seq:
    """Raises GeneratorUnavailable for anything but a whole folder of this version."""
    if not folder.is_dir():
        raise GeneratorUnavailable(
            f"there is no folder {folder}; make one with `python -m generator train --out {folder}`"
        )
    config = _read_config(folder)
    checksums = config.get("sha256")
    files = {}
    for name in (WEIGHTS, TOKENIZER):
        files[name] = _read(folder / name)
        expected = checksums.get(name) if isinstance(checksums, dict) else None
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise GeneratorUnavailable(
                f"{folder / name} is damaged or of another training; {REMEDY}"
            )
    try:
        shape = NetworkShape(**config["shape"])
        _check(shape)
        tokens = Tokens.from_json(files[TOKENIZER].decode())
        if len(tokens) != shape.vocabulary:
            raise ValueError("the tokenizer has another number of tokens than the network")
        weights = _checked_weights(safetensors.numpy.load(files[WEIGHTS]), shape)
    except Exception as error:  # the readers' own error types are not part of their interfaces
        raise GeneratorUnavailable(
            f"the parts of {folder} do not fit together ({str(error)[:200]}); {REMEDY}"
        ) from error
    return Seq2Seq(Engine(shape, weights), tokens, config.get("card") or {})


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise GeneratorUnavailable(f"{path} is no JSON, or cut short; {REMEDY}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise GeneratorUnavailable(
            f"{folder} holds no network of `python -m generator train`; for a Hugging Face folder "
            "use the local generator"
        )
    version = config.get("format_version")
    if version != FORMAT_VERSION:
        raise GeneratorUnavailable(
            f"{folder}: format {str(version)[:20]!r} is not the {FORMAT_VERSION} read here; train "
            "it again with this version of Twofold"
        )
    return config


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise GeneratorUnavailable(f"{path} is over {MOST_BYTES // 2**20} MiB; {REMEDY}")
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise GeneratorUnavailable(f"{path}: cannot be read ({reason}); {REMEDY}") from error


def _check(shape: NetworkShape) -> None:
    for name, size in asdict(shape).items():
        if type(size) is not int or not 1 <= size <= LARGEST_SIZE:
            raise ValueError(f"{name} is not from 1 to {LARGEST_SIZE}")


def _checked_weights(found: Mapping[str, Any], shape: NetworkShape) -> dict[str, Array]:
    sizes = weight_sizes(shape)
    if found.keys() != sizes.keys():
        raise ValueError("weights are missing, or there are others")
    for name, size in sizes.items():
        weight = found[name]
        if weight.shape != size or weight.dtype != np.float32:
            raise ValueError(f"{name} has another size or type")
        if not np.isfinite(weight).all():
            raise ValueError(f"{name} is not finite")
    return dict(found)

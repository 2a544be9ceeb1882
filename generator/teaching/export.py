"""What was learnt, as the files that `generator.reader` and `generator.writer` read."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from tokenizers import Tokenizer
from torch import Tensor

from generator.judging import Calibration
from generator.question import LEANING_FEATURES
from generator.reader_graph import ReaderShape
from generator.teaching.lesson import TeachingError
from generator.teaching.quantization import quantized_rows
from generator.teaching.reader_validation import UNCALIBRATED
from generator.teaching.vocabulary import count_tokens, kept_tokens, pruned, read_texts
from generator.teaching.writer_network import WriterShape

Stored = dict[str, NDArray[Any]]

FEWEST_TIMES = 3
"""A token that was counted less often is left out."""
LAYER_MATRICES = ("query", "key", "value", "output", "up", "down")
LAYER_NORMS = ("attention", "inner")
WRITER_NAMES = {
    "features": "inp",
    "positions": "pos",
    "kinds": "typ",
    "beginning": "bos",
    "encoder": "enc",
    "encoder_norm": "en",
    "decoder": "dec",
    "decoder_norm": "dn",
    "pointer_query": "cq",
    "pointer_key": "ck",
    "own_words": "out",
    "attention_norm": "n1",
    "source_norm": "n2",
    "inner_norm": "n3",
    "attention": "a",
    "source_attention": "c",
    "query": "q",
    "key": "k",
    "value": "v",
    "output": "o",
}
"""What the parts of a name in `WriterNetwork` are called in the file."""


def export_reader(
    weights: Mapping[str, Tensor],
    shape: ReaderShape,
    *,
    base: Path,
    folder: Path,
    calibration: Calibration = UNCALIBRATED,
    leaning: NDArray[np.float32] | None = None,
    texts: Sequence[Path] = (),
) -> int:
    """Writes reader.safetensors, reader.json and tokenizer.json; returns their bytes.

    `weights`: of a ReaderNetwork. `base`: where its tokenizer.json is. `leaning`: from
    `generator.teaching.leaning`; without it no question leans on another. `texts`: files whose
    words the vocabulary keeps; all words are kept where there are none. Raises TeachingError."""
    file = base / "tokenizer.json"
    try:
        content = json.loads(file.read_text("utf-8"))
        counts = count_tokens(_whole(file), read_texts(texts)) if texts else None
        kept = kept_tokens(content, counts, fewest=FEWEST_TIMES)
        tokenizer = pruned(content, kept)
    except (OSError, KeyError, ValueError) as error:
        if isinstance(error, TeachingError):
            raise
        raise TeachingError(f"{file} is no tokenizer of a BERT ({error!r}); take one") from error
    arrays = _reader_weights(weights, shape, kept)
    if leaning is None:
        leaning = np.zeros(shape.width + LEANING_FEATURES + 1, np.float32)
    stored = save({**arrays, "leaning": leaning})
    about = {
        "version": hashlib.sha256(stored).hexdigest()[:16],
        "shape": {**asdict(shape), "vocabulary": len(kept)},
        "calibration": asdict(calibration),
    }
    return _write(
        folder,
        {
            "reader.safetensors": stored,
            "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False).encode(),
            "reader.json": json.dumps(about, indent=1).encode(),
        },
    )


def exported_weights(folder: Path) -> dict[str, Tensor]:
    """What `export_reader` has written, rounded as it is, for a ReaderNetwork to go on from; but
    for its words, which are those of the base. Raises TeachingError."""
    try:
        stored = load_file(folder / "reader.safetensors")
        about = json.loads((folder / "reader.json").read_text("utf-8"))
        weights = _restored(stored, ReaderShape(**about["shape"]))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise TeachingError(
            f"{folder} holds no reader to go on from ({error!r}); name a folder with "
            "reader.safetensors and reader.json"
        ) from error
    return {name: torch.from_numpy(np.array(one, np.float32)) for name, one in weights.items()}


def export_writer(
    weights: Mapping[str, Tensor],
    shape: WriterShape,
    vocabulary: Sequence[str],
    *,
    folder: Path,
) -> int:
    """Writes writer.safetensors and writer.json; returns their bytes. `weights`: of a
    WriterNetwork."""
    stored: Stored = {}
    for name, weight in weights.items():
        matrix = _array(weight)
        short = ".".join(WRITER_NAMES.get(part, part) for part in name.split("."))
        if matrix.ndim == 2:
            stored[short], stored[f"{short}.scale"] = quantized_rows(matrix)
        else:
            stored[short] = matrix
    about = {
        "vocabulary": list(vocabulary),
        "encoder_layers": shape.encoder_layers,
        "decoder_layers": shape.decoder_layers,
        "heads": shape.heads,
    }
    return _write(
        folder,
        {
            "writer.safetensors": save(stored),
            "writer.json": json.dumps(about, ensure_ascii=False).encode(),
        },
    )


def _reader_weights(
    weights: Mapping[str, Tensor], shape: ReaderShape, kept: Sequence[int]
) -> Stored:
    """Under the names of `generator.reader_graph`. A matrix stands there as (inputs, outputs), and
    its scales are those of its outputs."""
    arrays = {name: _array(weight) for name, weight in weights.items()}
    stored: Stored = _norm("embedding", arrays, "embedding_norm")
    for number in range(shape.layers):
        layer = f"layer{number}"
        for name in LAYER_MATRICES:
            stored |= _matrix(f"{layer}.{name}", arrays, f"layers.{number}.{name}")
            stored[f"{layer}.{name}.bias"] = arrays[f"layers.{number}.{name}.bias"]
        for name in LAYER_NORMS:
            stored |= _norm(f"{layer}.{name}", arrays, f"layers.{number}.{name}_norm")
        if number in shape.together:
            size = (1, shape.heads, 1, shape.width // shape.heads)
            stored[f"{layer}.of_passage"] = arrays["of_passage"][number].reshape(size)
    for head in ("score", "nothing"):
        stored |= _matrix(f"{head}.in", arrays, f"{head}.0")
        stored[f"{head}.in.bias"] = arrays[f"{head}.0.bias"]
        stored[f"{head}.out"] = arrays[f"{head}.2.weight"][0]
        stored[f"{head}.out.bias"] = arrays[f"{head}.2.bias"]
    for name in ("narrow", "spot", "point"):
        stored |= _matrix(name, arrays, name)
    stored["point.bias"] = arrays["point.bias"]
    stored["weigh"], stored["weigh.bias"] = arrays["weigh.weight"][0], arrays["weigh.bias"]
    stored["looked"] = arrays["looked"]
    stored["closeness"] = arrays["closeness"].reshape(1)
    stored["rarity"] = arrays["rarity"][list(kept)].astype(np.float16)
    stored["words"], stored["words.scale"] = quantized_rows(arrays["words.weight"][list(kept)])
    stored["positions"], stored["positions.scale"] = quantized_rows(arrays["positions.weight"])
    stored["kind"] = arrays["kinds.weight"][0]
    return {name: np.ascontiguousarray(array) for name, array in stored.items()}


def _matrix(name: str, arrays: Mapping[str, NDArray[np.float32]], layer: str) -> Stored:
    values, scales = quantized_rows(arrays[f"{layer}.weight"])
    return {name: values.T, f"{name}.scale": scales}


def _restored(stored: Stored, shape: ReaderShape) -> Stored:
    """The names of a ReaderNetwork again."""
    weights = _restored_norm(stored, "embedding", "embedding_norm")
    marks = np.zeros((shape.layers, shape.width), np.float32)
    for number in range(shape.layers):
        layer, name = f"layer{number}", f"layers.{number}"
        for matrix in LAYER_MATRICES:
            weights |= _restored_matrix(stored, f"{layer}.{matrix}", f"{name}.{matrix}")
            weights[f"{name}.{matrix}.bias"] = stored[f"{layer}.{matrix}.bias"]
        for norm in LAYER_NORMS:
            weights |= _restored_norm(stored, f"{layer}.{norm}", f"{name}.{norm}_norm")
        if number in shape.together:
            marks[number] = stored[f"{layer}.of_passage"].reshape(-1)
    for head in ("score", "nothing"):
        weights |= _restored_matrix(stored, f"{head}.in", f"{head}.0")
        weights[f"{head}.0.bias"] = stored[f"{head}.in.bias"]
        weights[f"{head}.2.weight"] = stored[f"{head}.out"][None]
        weights[f"{head}.2.bias"] = stored[f"{head}.out.bias"]
    for name in ("narrow", "spot", "point"):
        weights |= _restored_matrix(stored, name, name)
    weights["point.bias"] = stored["point.bias"]
    weights["weigh.weight"], weights["weigh.bias"] = stored["weigh"][None], stored["weigh.bias"]
    weights["looked"] = stored["looked"]
    return {**weights, "closeness": stored["closeness"].reshape(()), "of_passage": marks}


def _restored_matrix(stored: Stored, name: str, layer: str) -> Stored:
    return {f"{layer}.weight": (stored[name] * stored[f"{name}.scale"]).T}


def _restored_norm(stored: Stored, name: str, layer: str) -> Stored:
    return {
        f"{layer}.weight": stored[f"{name}.norm.weight"],
        f"{layer}.bias": stored[f"{name}.norm.bias"],
    }


def _norm(name: str, arrays: Mapping[str, NDArray[np.float32]], layer: str) -> Stored:
    return {
        f"{name}.norm.weight": arrays[f"{layer}.weight"],
        f"{name}.norm.bias": arrays[f"{layer}.bias"],
    }


def _array(weight: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = weight.detach().float().numpy()
    return array


def _whole(file: Path) -> Tokenizer:
    """It cuts no text, and fills none up."""
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _write(folder: Path, contents: Mapping[str, bytes]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        draft = folder / f"{name}.part"
        draft.write_bytes(content)
        draft.replace(folder / name)
    return sum(map(len, contents.values()))

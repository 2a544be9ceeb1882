"""What was learnt, as the files that `generator.reader` and `generator.writer` read."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from tokenizers import Tokenizer
from torch import Tensor

from generator.question import LEANING_FEATURES
from generator.reader import Calibration
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
    stored["looked"] = arrays["looked"]
    stored["closeness"] = arrays["closeness"].reshape(1)
    stored["words"], stored["words.scale"] = quantized_rows(arrays["words.weight"][list(kept)])
    stored["positions"], stored["positions.scale"] = quantized_rows(arrays["positions.weight"])
    stored["kind"] = arrays["kinds.weight"][0]
    return {name: np.ascontiguousarray(array) for name, array in stored.items()}


def _matrix(name: str, arrays: Mapping[str, NDArray[np.float32]], layer: str) -> Stored:
    values, scales = quantized_rows(arrays[f"{layer}.weight"])
    return {name: values.T, f"{name}.scale": scales}


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

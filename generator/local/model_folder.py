"""What can be wrong with a folder of a Hugging Face network, told before torch is loaded."""

import json
import struct
from pathlib import Path
from typing import Any

from generator.interface import GeneratorUnavailable

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
WRITE_AGAIN = "write the folder with save_pretrained of both the network and its tokenizer"
FETCH_AGAIN = "the download or copy was not finished; fetch the folder again"


def check_folder(model: str) -> bool:
    """Whether `model` is a folder here. Raises GeneratorUnavailable."""
    folder = Path(model)
    if not folder.is_dir():
        if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
            raise GeneratorUnavailable(
                f"there is no folder {model}; give a folder written by save_pretrained, "
                "or the hub's owner/name"
            )
        return False
    if not (folder / "config.json").is_file():
        raise GeneratorUnavailable(f"{model} has no config.json; {WRITE_AGAIN}")
    for shard in sorted(_shards_of_index(folder)):
        if not (folder / shard).is_file():
            raise GeneratorUnavailable(
                f"{model} lacks {shard}, which its index names; {FETCH_AGAIN}"
            )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise GeneratorUnavailable(
            f"{model} has no *.safetensors weights (other formats can run code and are not "
            f"read); {WRITE_AGAIN}"
        )
    for file in weights:
        if not _is_whole(file):
            raise GeneratorUnavailable(f"{file} is cut off or no safetensors file; {FETCH_AGAIN}")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise GeneratorUnavailable(f"{model} has no tokenizer; {WRITE_AGAIN}")
    return True


def _shards_of_index(folder: Path) -> set[str]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return set()
    return set(_read_json(index).get("weight_map", {}).values())


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise GeneratorUnavailable(f"{file} is no JSON; {FETCH_AGAIN}") from error
    if not isinstance(content, dict):
        raise GeneratorUnavailable(f"{file} is no JSON object; {FETCH_AGAIN}")
    return content


def _is_whole(file: Path) -> bool:
    """A safetensors file says in its header where its last tensor ends."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(8)
        if len(start) < 8:
            return False
        (header_bytes,) = struct.unpack("<Q", start)
        if header_bytes > size - 8:
            return False
        try:
            header = json.loads(opened.read(header_bytes))
            ends = [one["data_offsets"][1] for name, one in header.items() if name[:2] != "__"]
        except (ValueError, AttributeError, KeyError, TypeError, IndexError):
            return False
    return bool(size == 8 + header_bytes + max(ends, default=0))

"""A transformer sentence encoder, and what it says of a corpus."""

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from intent.interface import TrainingDataError

SHARD_SENTENCES = 8192
FEWEST_SENTENCES = 4000


class Teacher(Protocol):
    @property
    def name(self) -> str: ...

    def embed(self, sentences: Sequence[str]) -> Tensor:
        """(N, E), of length 1."""
        ...


class TransformerTeacher:
    """A sentence encoder in Hugging Face's format, whose embedding is the mean of its tokens'."""

    def __init__(self, folder: Path, *, half: bool = False) -> None:
        """`half`: in bfloat16, twice as fast on a processor that has it, to within a cosine of
        .9999. Raises TrainingDataError where the folder holds no such encoder."""
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._network = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            ).eval()
        except (OSError, ValueError) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise TrainingDataError(
                [f"{folder}: no sentence encoder ({reason}); name its folder"]
            ) from error
        if half:
            self._network = self._network.to(torch.bfloat16)
        config = self._network.config
        self.name = f"{config.model_type}-{config.num_hidden_layers}x{config.hidden_size}"

    @torch.inference_mode()
    def embed(self, sentences: Sequence[str]) -> Tensor:
        order = sorted(range(len(sentences)), key=lambda n: len(sentences[n]))
        embeddings = torch.empty(len(sentences), self._network.config.hidden_size)
        for start in range(0, len(order), 64):
            chosen = order[start : start + 64]
            encoded = self._tokenizer(
                [sentences[n] for n in chosen],
                padding=True,
                truncation=True,
                max_length=128,
                return_tensors="pt",
            )
            states = self._network(**encoded).last_hidden_state.float()  # (B, T, E)
            mask = encoded["attention_mask"][:, :, None].to(states.dtype)
            embeddings[chosen] = (states * mask).sum(1) / mask.sum(1)
        return functional.normalize(embeddings, dim=1)


def read_corpus(paths: Sequence[Path], *, fewest: int = FEWEST_SENTENCES) -> list[str]:
    """Each sentence once, in the order of the files: `.txt` has one a line, `.jsonl` has them
    as `text`; either may be gzipped. Raises TrainingDataError."""
    sentences: dict[str, None] = {}
    for path in paths:
        is_json = ".jsonl" in path.suffixes
        try:
            with (gzip.open if path.suffix == ".gz" else open)(
                path, "rt", encoding="utf-8"
            ) as file:
                for number, line in enumerate(file, start=1):
                    try:
                        text = json.loads(line)["text"] if is_json else line.strip()
                    except (ValueError, KeyError, TypeError):
                        problem = f'{path}:{number}: not {{"text": …}}; mend or remove the line'
                        raise TrainingDataError([problem]) from None
                    if isinstance(text, str) and text:
                        sentences[text] = None
        except (OSError, UnicodeDecodeError) as error:
            raise TrainingDataError([f"{path}: cannot be read ({error}); check it"]) from error
    if len(sentences) < fewest:
        raise TrainingDataError(
            [f"{len(sentences)} sentences are too few; give {fewest:,} or more"]
        )
    return list(sentences)


def embed_corpus(
    teacher: Teacher,
    sentences: Sequence[str],
    cache: Path,
    *,
    on_shard: Callable[[int, int], None] = lambda done, of: None,
) -> Tensor:
    """(N, E) in half precision. Each finished shard is kept in `cache` under a name that its
    sentences decide, so that an interrupted run goes on where it was."""
    cache.mkdir(parents=True, exist_ok=True)
    shards: list[Tensor] = []
    for start in range(0, len(sentences), SHARD_SENTENCES):
        shard = sentences[start : start + SHARD_SENTENCES]
        digest = hashlib.sha256("\0".join((teacher.name, *shard)).encode()).hexdigest()
        path = cache / f"teacher-{digest[:24]}.npy"
        if not path.exists():
            draft = path.with_suffix(".part.npy")
            np.save(draft, teacher.embed(shard).half().numpy())
            draft.replace(path)
        shards.append(torch.from_numpy(np.load(path, allow_pickle=False)))
        on_shard(min(start + SHARD_SENTENCES, len(sentences)), len(sentences))
    return torch.cat(shards)

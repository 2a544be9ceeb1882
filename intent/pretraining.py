"""Distils a transformer sentence encoder into the recurrent one.

The student learns to place a sentence where its teacher does: by the cosine to the teacher's
embedding, and by the similarities inside a batch (as in Passalis and Tefas 2018). What it learns
is of sentences at large, so a handful of examples of an intent is enough afterwards.
"""

import gzip
import hashlib
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from intent import artifact
from intent.interface import ArtifactError, TrainingDataError
from intent.network import BatchBuilder, Cell, Encoder, NetworkShape, Noise
from intent.optimization import batches_by_length, learning_rate_share
from intent.text import NGRAM_BUCKETS, Vocabulary, build_vocabulary, ngram_hashes, tokenize

SHARD_SENTENCES = 8192
HELD_OUT_SENTENCES = 2000
SHIPPED = Path(__file__).parent / "pretrained" / "encoder.safetensors"


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    cell: Cell = "gru"
    directions: int = 2
    layers: int = 1
    embedding: int = 128
    hidden: int = 128
    min_word_count: int = 3
    most_words: int = 12_000
    epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 3e-3
    warm_up_share: float = 0.05
    weight_decay: float = 0.001
    clip_norm: float = 1.0
    word_dropout: float = 0.05
    embedding_dropout: float = 0.05
    typo_share: float = 0.15
    """Of the sentences that are shown with one misspelt word."""
    similarity_temperature: float = 0.07
    similarity_weight: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PretrainingEpoch:
    """`valid_cosine`: mean cosine to the teacher on held-out sentences; `valid_agreement`: how
    often the nearest of them to one of them is the same for student and teacher."""

    number: int
    of: int
    train_loss: float
    valid_cosine: float
    valid_agreement: float
    gradient_norm: float
    seconds: float


@dataclass(frozen=True)
class PretrainedEncoder:
    """Weights in half precision, by the names of `Encoder`."""

    shape: NetworkShape
    vocabulary: Vocabulary
    weights: dict[str, Tensor]
    card: dict[str, Any]

    def to_bytes(self) -> bytes:
        about = {"kind": "encoder", "shape": asdict(self.shape), "card": self.card}
        tensors = {**self.weights, "vocabulary": artifact.json_tensor(self.vocabulary.words)}
        return artifact.pack(about, tensors)

    @classmethod
    def load(cls, path: Path = SHIPPED) -> "PretrainedEncoder":
        """Raises ArtifactError."""
        try:
            about, tensors = artifact.unpack(path.read_bytes())
            shape = NetworkShape(**about["shape"])
            words = artifact.read_json_tensor(tensors.pop("vocabulary"))
            with torch.device("meta"):
                expected = Encoder(shape).state_dict()
            sizes = {name: weight.shape for name, weight in expected.items()}
            if sizes != {name: weight.shape for name, weight in tensors.items()}:
                raise ValueError("missing or extra weights")
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: no pre-trained encoder ({error})") from error
        return cls(shape, Vocabulary(tuple(words)), tensors, about["card"])


class Teacher(Protocol):
    @property
    def name(self) -> str: ...

    def embed(self, sentences: Sequence[str]) -> Tensor:
        """(N, E), of length 1."""
        ...


class TransformerTeacher:
    """A sentence encoder in Hugging Face's format, whose embedding is the mean of its tokens'."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._network = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        ).eval()
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
            states = self._network(**encoded).last_hidden_state  # (B, T, E)
            mask = encoded["attention_mask"][:, :, None].to(states.dtype)
            embeddings[chosen] = (states * mask).sum(1) / mask.sum(1)
        return functional.normalize(embeddings, dim=1)


def read_corpus(paths: Sequence[Path]) -> list[str]:
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
    if len(sentences) < 2 * HELD_OUT_SENTENCES:
        raise TrainingDataError([f"{len(sentences)} sentences are too few; thousands are needed"])
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
    import numpy as np

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


def pretrain(
    sentences: Sequence[str],
    targets: Tensor,
    config: PretrainingConfig,
    *,
    teacher: Teacher | None = None,
    checkpoint: Path | None = None,
    card: dict[str, Any] | None = None,
) -> Iterator[PretrainingEpoch | PretrainedEncoder]:
    """Yields every epoch, then the encoder. `targets`: (N, E), the teacher's embeddings.

    `teacher`, where given, places single words too, and word vectors begin there.
    `checkpoint`: written after each epoch; where it is there, the run goes on from it.
    """
    tokenized = [tokenize(sentence) for sentence in sentences]
    kept = [n for n, tokens in enumerate(tokenized) if tokens]
    random.Random(config.seed).shuffle(kept)
    held_out, lesson = kept[:HELD_OUT_SENTENCES], kept[HELD_OUT_SENTENCES:]
    vocabulary = _frequent_words([tokenized[n] for n in lesson], config)
    shape = NetworkShape(
        vocabulary=len(vocabulary.words),
        intents=1,
        cell=config.cell,
        embedding=config.embedding,
        hidden=config.hidden,
        layers=config.layers,
        directions=config.directions,
        features=targets.shape[1],
    )
    torch.manual_seed(config.seed)
    encoder = Encoder(shape)
    if teacher is not None:
        _begin_at_teacher(encoder, vocabulary, teacher)
    student = _Student(encoder, vocabulary, config, steps_per_epoch=_steps(len(lesson), config))
    first = student.resume(checkpoint) if checkpoint is not None else 1
    for number in range(first, config.epochs + 1):
        started = time.perf_counter()
        loss, norm = student.epoch(number, tokenized, targets, lesson)
        cosine, agreement = student.compare([tokenized[n] for n in held_out], targets[held_out])
        yield PretrainingEpoch(
            number=number,
            of=config.epochs,
            train_loss=loss,
            valid_cosine=cosine,
            valid_agreement=agreement,
            gradient_norm=norm,
            seconds=time.perf_counter() - started,
        )
        if checkpoint is not None:
            student.keep(checkpoint, number)
    weights = {name: weight.half() for name, weight in encoder.state_dict().items()}
    about = {"config": asdict(config), "sentences": len(lesson), **(card or {})}
    yield PretrainedEncoder(shape, vocabulary, weights, about)


def _frequent_words(tokenized: Sequence[Sequence[str]], config: PretrainingConfig) -> Vocabulary:
    """The `most_words` words seen most often."""
    words = build_vocabulary(tokenized, min_count=config.min_word_count).words
    if len(words) <= config.most_words:
        return Vocabulary(words)
    counts = Counter(token for tokens in tokenized for token in tokens)
    frequent = sorted(words, key=lambda word: (-counts[word], word))[: config.most_words]
    return Vocabulary(tuple(sorted(frequent)))


@torch.no_grad()
def _begin_at_teacher(encoder: Encoder, vocabulary: Vocabulary, teacher: Teacher) -> None:
    """Words begin where the teacher places them, in its first principal components; n-grams at
    the mean of the words that have them."""
    placed = teacher.embed(vocabulary.words).float()  # (V, E)
    placed = placed - placed.mean(0)
    width = encoder.word_vectors.own.embedding_dim
    _, _, directions = torch.linalg.svd(placed, full_matrices=False)
    vectors = placed @ directions[:width].T  # (V, D)
    vectors = vectors * (0.35 / vectors.std())
    encoder.word_vectors.own.weight[1:] = vectors
    sums = torch.zeros(NGRAM_BUCKETS, width)
    counts = torch.zeros(NGRAM_BUCKETS)
    for vector, word in zip(vectors, vocabulary.words, strict=True):
        for value in ngram_hashes(word):
            sums[value % NGRAM_BUCKETS] += vector
            counts[value % NGRAM_BUCKETS] += 1
    used = counts > 0
    encoder.word_vectors.ngrams.weight[used] = sums[used] / counts[used, None]


def _steps(sentences: int, config: PretrainingConfig) -> int:
    return math.ceil(sentences / config.batch_size)


class _Student:
    """The encoder with all that a step needs, and that a checkpoint keeps."""

    def __init__(
        self,
        encoder: Encoder,
        vocabulary: Vocabulary,
        config: PretrainingConfig,
        *,
        steps_per_epoch: int,
    ) -> None:
        self.encoder = encoder
        self._config = config
        self._build = BatchBuilder(vocabulary, cache_words=200_000)
        self._noise = Noise(
            generator=torch.Generator().manual_seed(config.seed),
            word_dropout=config.word_dropout,
            embedding_dropout=config.embedding_dropout,
            feature_dropout=0.0,
        )
        self._parameters = list(encoder.parameters())
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        steps = steps_per_epoch * config.epochs
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: learning_rate_share(step / steps, config.warm_up_share)
        )

    def epoch(
        self,
        number: int,
        tokenized: Sequence[list[str]],
        targets: Tensor,
        lesson: Sequence[int],
    ) -> tuple[float, float]:
        """Mean loss and mean gradient norm."""
        shuffler = random.Random(f"{self._config.seed} {number}")
        losses: list[float] = []
        norms: list[float] = []
        for chosen in batches_by_length(tokenized, lesson, self._config.batch_size, shuffler):
            shown = [
                misspell(tokenized[n], shuffler)
                if shuffler.random() < self._config.typo_share
                else tokenized[n]
                for n in chosen
            ]
            features = self.encoder(self._build(shown), self._noise)
            loss = self._loss(features, targets[chosen].float())
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            norm = nn.utils.clip_grad_norm_(self._parameters, self._config.clip_norm)
            self._optimizer.step()
            self._schedule.step()
            losses.append(loss.item())
            norms.append(norm.item())
        return sum(losses) / len(losses), sum(norms) / len(norms)

    def _loss(self, features: Tensor, wanted: Tensor) -> Tensor:
        placed = functional.normalize(features, dim=1)  # (B, E)
        cosine = (placed * wanted).sum(1).mean()
        temperature = self._config.similarity_temperature
        itself = torch.eye(len(placed), dtype=torch.bool)
        mine = (placed @ placed.T / temperature).masked_fill(itself, -1e4).log_softmax(1)
        theirs = (wanted @ wanted.T / temperature).masked_fill(itself, -1e4).softmax(1)
        likeness = functional.kl_div(mine, theirs, reduction="batchmean")
        return 1 - cosine + self._config.similarity_weight * likeness

    @torch.inference_mode()
    def compare(self, tokenized: Sequence[list[str]], targets: Tensor) -> tuple[float, float]:
        """Mean cosine to the teacher, and agreement about nearest neighbours."""
        wanted = targets.float()
        placed = torch.cat(
            [
                functional.normalize(self.encoder(self._build(tokenized[n : n + 256])), dim=1)
                for n in range(0, len(tokenized), 256)
            ]
        )
        nearest = [(one @ one.T).fill_diagonal_(-1).argmax(1) for one in (placed, wanted)]
        agreement = (nearest[0] == nearest[1]).double().mean().item()
        return (placed * wanted).sum(1).mean().item(), agreement

    def keep(self, checkpoint: Path, epoch: int) -> None:
        state = {
            "epoch": epoch,
            "encoder": self.encoder.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "noise": self._noise.generator.get_state(),
        }
        draft = checkpoint.with_suffix(".part")
        torch.save(state, draft)
        draft.replace(checkpoint)

    def resume(self, checkpoint: Path) -> int:
        """The number of the first epoch that is still to do."""
        if not checkpoint.exists():
            return 1
        state = torch.load(checkpoint, weights_only=True)  # our own file, of tensors only
        self.encoder.load_state_dict(state["encoder"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._noise.generator.set_state(state["noise"])
        return int(state["epoch"]) + 1


def misspell(tokens: Sequence[str], draw: random.Random) -> list[str]:
    """With one letter of one longer word left out, doubled, replaced or swapped with the next."""
    long_words = [n for n, token in enumerate(tokens) if len(token) >= 4]
    shown = list(tokens)
    if not long_words:
        return shown
    place = draw.choice(long_words)
    word = shown[place]
    at = draw.randrange(len(word) - 1)
    kind = draw.randrange(4)
    middle = ("", word[at] * 2, draw.choice("abcdefghijklmnopqrstuvwxyz"), word[at + 1] + word[at])
    shown[place] = word[:at] + middle[kind] + word[at + (2 if kind == 3 else 1) :]
    return shown

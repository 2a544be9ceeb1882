"""Distils a transformer sentence encoder into the recurrent one.

The student learns to place a sentence where its teacher does: by the cosine to the teacher's
embedding, and by the similarities inside a batch (as in Passalis and Tefas 2018). What it learns
is of sentences at large, so a handful of examples of an intent is enough afterwards.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from intent.encoder import PretrainedEncoder, split_weights
from intent.network import BatchBuilder, Encoder
from intent.noise import Noise
from intent.optimization import batches_by_length, learning_rate_share, misspell
from intent.shape import Cell, NetworkShape
from intent.teacher import Teacher
from intent.text import NGRAM_BUCKETS, Vocabulary, build_vocabulary, ngram_hashes, tokenize

HELD_OUT_SENTENCES = 2000


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    cell: Cell = "gru"
    directions: int = 2
    layers: int = 1
    layer_norm: bool = False
    embedding: int = 128
    hidden: int = 128
    min_word_count: int = 3
    most_words: int = 16_000
    epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 3e-3
    warm_up_share: float = 0.05
    weight_decay: float = 0.001
    clip_norm: float = 1.0
    word_dropout: float = 0.05
    embedding_dropout: float = 0.05
    estranged_words: float = 0.15
    """Of the known words, those that are shown by their n-grams alone."""
    typo_share: float = 0.3
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
    matrices, vectors = split_weights(encoder)
    about = {"config": asdict(config), "sentences": len(lesson), **(card or {})}
    yield PretrainedEncoder(shape, vocabulary, matrices, vectors, about)


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
            estranged_words=config.estranged_words,
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

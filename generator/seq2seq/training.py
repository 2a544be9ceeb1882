"""From conversations to a trained network: teacher forcing, and then less of it."""

import hashlib
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from generator.seq2seq.artifact import Seq2Seq
from generator.seq2seq.config import (
    NetworkShape,
    TrainingConfig,
    sampling_decay,
    teacher_forcing_share,
)
from generator.seq2seq.conversations import Conversation, ConversationError, Split, exchanges
from generator.seq2seq.engine import Engine
from generator.seq2seq.network import Dropout, Memory, Seq2SeqNetwork, State
from generator.seq2seq.tokens import BEGIN, PAD, Tokens

BATCHES_SORTED_TOGETHER = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """An exchange as numbers. The reply ends with END, unless it was too long."""

    source: list[int]
    reply: list[int]


@dataclass(frozen=True, slots=True)
class Progress:
    """Inside an epoch."""

    step: int
    of: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """`gradient_norm` is the mean before clipping, `forced` the share of the decoder's inputs that
    were a person's words at the epoch's end."""

    number: int
    of: int
    train_loss: float
    valid_loss: float
    gradient_norm: float
    forced: float
    seconds: float

    @property
    def valid_perplexity(self) -> float:
        return math.exp(min(self.valid_loss, 700.0))


@dataclass(frozen=True)
class Trained:
    network: Seq2SeqNetwork
    tokens: Tokens
    epochs: list[Epoch]


def train(
    data: Split, config: TrainingConfig, *, checkpoint: Path | None = None
) -> Iterator[Progress | Epoch | Trained]:
    """Yields what happens, then `Trained`, with the weights of the epoch that did best on the
    validation part. Stop asking, and it stops.

    `checkpoint`: written after each epoch; where it is there, the training goes on from it, to
    the same end as if it had never been interrupted. The same conversations, configuration and
    thread count give the same weights on one machine. Raises ConversationError.
    """
    tokens = Tokens.learn(texts_of(data.train), size=config.vocabulary)
    lesson, check = (pairs(part, tokens, config) for part in (data.train, data.valid))
    student = _Student(tokens, lesson, config)
    if checkpoint is not None:
        student.resume(checkpoint, _fingerprint(data, config))
    while not student.is_done:
        yield from student.epoch(check)
        if checkpoint is not None:
            student.keep(checkpoint)
    yield Trained(student.best(), tokens, student.epochs)


def served(trained: Trained) -> Seq2Seq:
    """The network as it answers, without torch; its card is empty."""
    weights = {name: one.numpy().copy() for name, one in trained.network.state_dict().items()}
    return Seq2Seq(Engine(trained.network.shape, weights), trained.tokens, {})


def perplexity(trained: Trained, conversations: Sequence[Conversation]) -> float:
    """Per token, given a person's words before it."""
    shape = trained.network.shape
    return math.exp(mean_loss(trained.network, pairs(conversations, trained.tokens, shape)))


def texts_of(conversations: Sequence[Conversation]) -> Iterator[str]:
    return (message.text for one in conversations for message in one)


def pairs(
    conversations: Sequence[Conversation], tokens: Tokens, config: TrainingConfig | NetworkShape
) -> list[Pair]:
    return [
        Pair(
            tokens.context(exchange.context, most=config.source_tokens),
            tokens.reply(exchange.reply, most=config.reply_tokens),
        )
        for conversation in conversations
        for exchange in exchanges(conversation)
    ]


@torch.inference_mode()
def mean_loss(network: Seq2SeqNetwork, check: Sequence[Pair], batch_size: int = 64) -> float:
    """Nats per token of the replies, their ends included; its exponential is the perplexity."""
    total, count = 0.0, 0
    ordered = sorted(check, key=_length)
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        losses = reply_losses(network, batch)
        total += float(losses.sum())
        count += len(losses)
    return total / count


def reply_losses(
    network: Seq2SeqNetwork,
    batch: Sequence[Pair],
    *,
    dropout: Dropout | None = None,
    sampling: "Sampling | None" = None,
) -> Tensor:
    """(N,) a loss for each token of the replies."""
    wanted = padded([pair.reply for pair in batch])  # (B, T)
    memory, state = network.read(padded([pair.source for pair in batch]), dropout)
    before = torch.cat([torch.full((len(batch), 1), BEGIN), wanted[:, :-1]], dim=1)
    if sampling is not None:
        before = sampling(before, state, memory, network)
    vectors = network.embedding(before)  # (B, T, D); at once, as each look-up's gradient is a table
    if dropout is not None:
        vectors = dropout(vectors)
    attended = []
    for vector in vectors.unbind(1):
        state, _ = network.step(vector, state, memory)
        attended.append(state.attended)
    at = wanted != PAD
    logits = network.logits(torch.stack(attended, dim=1)[at], dropout)
    return functional.cross_entropy(logits, wanted[at], reduction="none")


@dataclass(frozen=True)
class Sampling:
    """Replaces some of a person's words by what the network would have said there. No gradient
    flows through the choice, as in Bengio et al. 2015."""

    generator: torch.Generator
    forced: float

    @torch.no_grad()
    def __call__(
        self, before: Tensor, state: State, memory: Memory, network: Seq2SeqNetwork
    ) -> Tensor:
        """`before`: (B, T), the token that stands before each of a reply."""
        own = torch.rand(before.shape, generator=self.generator) >= self.forced
        own &= before != PAD
        own[:, 0] = False
        said = before.clone()
        places = torch.nonzero(own.any(0))[:, 0].tolist()
        for place in range(max(places, default=0)):
            state, _ = network.step(network.embedding(said[:, place]), state, memory)
            rows = torch.nonzero(own[:, place + 1])[:, 0]
            if len(rows):
                chances = network.logits(state.attended[rows]).softmax(1)
                drawn = torch.multinomial(chances, 1, generator=self.generator)[:, 0]
                said[rows, place + 1] = drawn
        return said


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])


def batches(lesson: Sequence[Pair], size: int, shuffler: random.Random) -> list[list[Pair]]:
    """In random order; what is about equally long stands together, so that little is padding."""
    order = list(lesson)
    shuffler.shuffle(order)
    together = size * BATCHES_SORTED_TOGETHER
    found: list[list[Pair]] = []
    for start in range(0, len(order), together):
        some = sorted(order[start : start + together], key=_length)
        found += (some[place : place + size] for place in range(0, len(some), size))
    shuffler.shuffle(found)
    return found


def _length(pair: Pair) -> tuple[int, int]:
    return len(pair.source) // 8, len(pair.reply)


class _Student:
    """The network on its way, with all that a checkpoint keeps."""

    def __init__(self, tokens: Tokens, lesson: Sequence[Pair], config: TrainingConfig) -> None:
        self.epochs: list[Epoch] = []
        self._config = config
        self._lesson = lesson
        shape = NetworkShape(
            vocabulary=len(tokens),
            embedding=config.embedding,
            hidden=config.hidden,
            source_tokens=config.source_tokens,
            reply_tokens=config.reply_tokens,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._network = Seq2SeqNetwork(shape)
        self._parameters = list(self._network.parameters())
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        steps = config.epochs * math.ceil(len(lesson) / config.batch_size)
        self._steps = min(steps, config.most_steps or steps)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, self._rate_share)
        self._decay = sampling_decay(self._steps, config.sampled_share)
        self._done = 0
        self._best: dict[str, Tensor] = {}
        self._fingerprint = ""

    def _rate_share(self, step: int) -> float:
        """Up in a line, then down along half a cosine (Loshchilov and Hutter 2017)."""
        warm_up = max(1, round(self._config.warm_up_share * self._steps))
        if step < warm_up:
            return (step + 1) / warm_up
        progress = (step - warm_up) / max(1, self._steps - warm_up)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    @property
    def is_done(self) -> bool:
        return self._done >= self._steps or self._epochs_since_best() > self._config.patience_epochs

    def _epochs_since_best(self) -> int:
        if not self.epochs:
            return 0
        losses = [epoch.valid_loss for epoch in self.epochs]
        return len(losses) - 1 - losses.index(min(losses))

    def epoch(self, check: Sequence[Pair]) -> Iterator[Progress | Epoch]:
        started = time.perf_counter()
        number = len(self.epochs) + 1
        # Drawn anew for each epoch, so that a checkpoint need not hold any random state.
        shuffler = random.Random(f"{self._config.seed} {number}")
        generator = torch.Generator().manual_seed(shuffler.getrandbits(60))
        dropout = Dropout(generator, self._config.dropout) if self._config.dropout else None
        losses: list[float] = []
        norms: list[float] = []
        for batch in batches(self._lesson, self._config.batch_size, shuffler):
            if self._done >= self._steps:
                break
            forced = teacher_forcing_share(self._done, self._decay)
            sampling = Sampling(generator, forced) if self._config.sampled_share else None
            loss = reply_losses(self._network, batch, dropout=dropout, sampling=sampling).mean()
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            norm = nn.utils.clip_grad_norm_(self._parameters, self._config.clip_norm)
            self._optimizer.step()
            self._schedule.step()
            self._done += 1
            losses.append(loss.item())
            norms.append(norm.item())
            yield Progress(self._done, self._steps)
        valid_loss = mean_loss(self._network, check)
        if not math.isfinite(valid_loss):
            raise ConversationError(
                ["the training diverged; lower the learning rate, and begin in a new folder"]
            )
        if not self.epochs or valid_loss < min(epoch.valid_loss for epoch in self.epochs):
            self._best = {
                name: weight.clone() for name, weight in self._network.state_dict().items()
            }
        epoch = Epoch(
            number=number,
            of=self._config.epochs,
            train_loss=sum(losses) / len(losses),
            valid_loss=valid_loss,
            gradient_norm=sum(norms) / len(norms),
            forced=teacher_forcing_share(self._done, self._decay),
            seconds=time.perf_counter() - started,
        )
        self.epochs.append(epoch)
        yield epoch

    def best(self) -> Seq2SeqNetwork:
        self._network.load_state_dict(self._best)
        return self._network

    def keep(self, checkpoint: Path) -> None:
        state = {
            "fingerprint": self._fingerprint,
            "done": self._done,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "network": self._network.state_dict(),
            "best": self._best,
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
        }
        draft = checkpoint.with_suffix(".part")
        torch.save(state, draft)
        draft.replace(checkpoint)

    def resume(self, checkpoint: Path, fingerprint: str) -> None:
        """Raises ConversationError where the checkpoint is of another training."""
        self._fingerprint = fingerprint
        if not checkpoint.exists():
            return
        try:
            # Of tensors, numbers and text only: no code of anybody runs.
            state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        except Exception as error:  # torch's own error types are not part of its interface
            raise ConversationError(
                [f"{checkpoint}: is damaged; delete it to begin the training anew"]
            ) from error
        if state["fingerprint"] != fingerprint:
            raise ConversationError(
                [
                    f"{checkpoint}: is of a training with other conversations or settings; "
                    "give the same again, or delete it to begin anew"
                ]
            )
        self._done = state["done"]
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self._best = state["best"]
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])


def _fingerprint(data: Split, config: TrainingConfig) -> str:
    told = [[[m.role, m.text] for m in one] for one in (*data.train, (), *data.valid)]
    content = json.dumps([asdict(config), told, str(torch.__version__)])
    return hashlib.sha256(content.encode()).hexdigest()

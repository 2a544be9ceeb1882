"""Teaches the head of `intent.follow_up` on dialogues.

It learns to read what a classifier makes of utterances, so a classifier is needed that has not
seen these dialogues: each half of them is read by one whose examples come from the other half.
The belief about topics is carried from utterance to utterance by the head itself, and what it
learns by is the intent of every utterance under that belief: its own mistakes are what it goes on
from, as in service.

Shapes: B dialogues, T utterances of the longest, I intents, F features.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from intent.artifact import Artifact
from intent.classifier import GRUClassifier
from intent.data import TrainingSet, training_set
from intent.dialogues import Dialogue, openings
from intent.encoder import PretrainedEncoder
from intent.follow_up import (
    FEATURE_SCALE,
    HIDDEN,
    LEAST_EVIDENCE,
    LEAST_REST,
    LEAST_SCOPE,
    OUTPUTS,
    SIGNALS,
    FollowUpHead,
)
from intent.interface import TrainingDataError
from intent.text import tokenize
from intent.training import Trained, train

FIRST_BIAS = (2.0, -1.5, 0.5)
"""At first: most utterances go on, confidences sharpen little, and choose as they are."""
FEWEST_DIALOGUES = 20
LEAST_SHARE = 1e-5
"""Of every intent, so that none is out of reach for good."""


@dataclass(frozen=True, kw_only=True)
class FollowUpConfig:
    examples: int = 60
    """Of each intent, for the classifiers that read the dialogues."""
    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    dropout: float = 0.3
    clip_norm: float = 1.0
    going_on_weight: float = 0.5
    """Of the loss that asks whether the topic goes on; the intent's loss has weight 1."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FollowUpEpoch:
    number: int
    of: int
    loss: float


@dataclass(frozen=True)
class TaughtHead:
    head: FollowUpHead
    card: dict[str, Any]


class FollowUpNetwork(nn.Module):
    """As `FollowUpTracker` computes it, for many dialogues at once and with every intent named."""

    def __init__(self, features: int, dropout: float) -> None:
        super().__init__()
        self.words = nn.Linear(features, HIDDEN)
        self.signals = nn.Linear(SIGNALS, HIDDEN, bias=False)
        self.output = nn.Linear(HIDDEN, OUTPUTS)
        self._dropout = nn.Dropout(dropout)
        with torch.no_grad():
            self.output.weight.zero_()
            self.output.bias.copy_(torch.tensor(FIRST_BIAS))

    def forward(self, belief: Tensor, read: "_Read") -> tuple[Tensor, Tensor]:
        """The belief (B, I) after the utterances, and the logits (B,) of going on."""
        confidence = read.confidences
        elsewhere = (1 - belief) * confidence
        most = belief.argmax(1, keepdim=True)
        signals = torch.stack(
            [
                _log_odds((belief * confidence).sum(1)),
                _log_odds(confidence.amax(1)),
                _log_odds(confidence.gather(1, most)[:, 0]),
                _log_odds(elsewhere.amax(1)),
                (most[:, 0] == confidence.argmax(1)).float(),
                _log_odds(belief.gather(1, most)[:, 0]),
                read.scope_scores / 3,
                read.lengths.log1p(),
            ],
            dim=1,
        )
        placed = functional.normalize(read.features, dim=1) * FEATURE_SCALE
        hidden = torch.relu(self.words(placed) + self.signals(signals))
        goes_on, sharpening, choosing = self.output(self._dropout(hidden)).unbind(1)
        sharpened = (
            belief * (confidence + LEAST_EVIDENCE) ** functional.softplus(sharpening)[:, None]
        )
        chosen = (1 - belief) * confidence ** functional.softplus(choosing)[:, None]
        share = goes_on.sigmoid()[:, None]
        after = share * sharpened / sharpened.sum(1, keepdim=True)
        after = after + (1 - share) * chosen / chosen.sum(1, keepdim=True)
        return (after + LEAST_SHARE) / (1 + LEAST_SHARE * belief.shape[1]), goes_on

    def head(self) -> FollowUpHead:
        return FollowUpHead(
            {name: weight.detach().numpy().copy() for name, weight in self.state_dict().items()}
        )


def teach(
    dialogues: Sequence[Dialogue],
    encoder: PretrainedEncoder,
    config: FollowUpConfig | None = None,
) -> Iterator[FollowUpEpoch | TaughtHead]:
    """Yields every epoch, then the head, for classifiers that begin at `encoder`. Raises
    TrainingDataError."""
    config = config or FollowUpConfig()
    if len(dialogues) < FEWEST_DIALOGUES:
        problem = f"{len(dialogues)} dialogues are too few; give {FEWEST_DIALOGUES} or more"
        raise TrainingDataError([problem])
    encoder = replace(encoder, follow_up=None)
    halves = dialogues[::2], dialogues[1::2]
    readings = [
        _read(GRUClassifier(reader_of(other, encoder, config.examples, seed=config.seed)), half)
        for half, other in (halves, halves[::-1])
    ]
    torch.manual_seed(config.seed)
    shuffler = random.Random(config.seed)
    network = FollowUpNetwork(encoder.shape.features, config.dropout)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps = config.epochs * sum(len(_batches(one, config, shuffler)) for one in readings)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0, 1 - step / steps))
    for number in range(1, config.epochs + 1):
        chosen = [(one, batch) for one in readings for batch in _batches(one, config, shuffler)]
        shuffler.shuffle(chosen)
        losses: list[float] = []
        for reading, batch in chosen:
            loss = _loss(network, reading, batch, config)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        yield FollowUpEpoch(number, config.epochs, sum(losses) / len(losses))
    card = {"config": asdict(config), "dialogues": len(dialogues)}
    yield TaughtHead(network.eval().head(), card)


def reader_of(
    dialogues: Sequence[Dialogue], encoder: PretrainedEncoder, examples: int, *, seed: int
) -> Artifact:
    """Taught, as an operator would, with the utterances that open each intent in them. Without a
    certificate: dialogues show nothing out of scope, so that there is none to be had."""
    taught = training_set(openings(dialogues, most=examples, seed=seed))
    # Given none to certify with, training spares the networks that only count for one.
    steps = train(taught, encoder=encoder, calibration=TrainingSet(()))
    return next(step for step in steps if isinstance(step, Trained)).artifact


@dataclass(frozen=True)
class _Read:
    """Utterances as a classifier sees them."""

    confidences: Tensor  # (B, I)
    features: Tensor  # (B, F)
    scope_scores: Tensor  # (B,)
    lengths: Tensor  # (B,)

    def rows(self, chosen: NDArray[np.int64]) -> "_Read":
        return _Read(
            self.confidences[chosen],
            self.features[chosen],
            self.scope_scores[chosen],
            self.lengths[chosen],
        )


@dataclass(frozen=True)
class _Reading:
    """Dialogues as a classifier sees them."""

    said: _Read  # of each distinct utterance
    places: NDArray[np.int64]  # (dialogues, T): which of them; -1 where there is none
    wanted: NDArray[np.bool_]  # (dialogues, T, I)
    goes_on: NDArray[np.float32]  # (dialogues, T)


def _read(classifier: GRUClassifier, dialogues: Sequence[Dialogue]) -> _Reading:
    # Without words nothing is said, and a tracker leaves the topics as they are.
    talks = [[one for one in each.utterances if tokenize(one.text)] for each in dialogues]
    talks = [talk for talk in talks if talk]
    number_of = {text: n for n, text in enumerate({one.text: 0 for talk in talks for one in talk})}
    texts = list(number_of)
    predictions = classifier.classify_batch(texts)
    intent_of = {intent: n for n, intent in enumerate(classifier.intents)}
    confidences = np.zeros((len(texts), len(intent_of)), np.float32)
    for row, prediction in zip(confidences, predictions, strict=True):
        named = [intent_of[one.intent] for one in prediction.ranking]
        known = sum(one.confidence for one in prediction.ranking)
        row[:] = max(LEAST_REST, 1 - known) / max(1, len(intent_of) - len(named))
        row[named] = [one.confidence for one in prediction.ranking]
    said = _Read(
        torch.from_numpy(confidences),
        torch.from_numpy(classifier.features(texts)),
        torch.tensor([max(LEAST_SCOPE, one.scope_score) for one in predictions]),
        torch.tensor([float(len(tokenize(text))) for text in texts]),
    )
    size = (len(talks), max(map(len, talks)))
    places = np.full(size, -1, np.int64)
    wanted = np.zeros((*size, len(intent_of)), np.bool_)
    goes_on = np.zeros(size, np.float32)
    for number, talk in enumerate(talks):
        for place, one in enumerate(talk):
            names = [intent_of[name] for name in one.intents if name in intent_of]
            places[number, place] = number_of[one.text]
            wanted[number, place, names] = True
            goes_on[number, place] = bool(one.intents) and not one.turns_away
    return _Reading(said, places, wanted, goes_on)


def _batches(
    reading: _Reading, config: FollowUpConfig, shuffler: random.Random
) -> list[NDArray[np.int64]]:
    order = np.array(shuffler.sample(range(len(reading.places)), len(reading.places)))
    return np.array_split(order, max(1, len(order) // config.batch_size))


def _loss(
    network: FollowUpNetwork,
    reading: _Reading,
    batch: NDArray[np.int64],
    config: FollowUpConfig,
) -> Tensor:
    places = reading.places[batch]
    belief = reading.said.rows(places[:, 0]).confidences
    losses: list[Tensor] = []
    counted = 0
    for place in range(1, int((places >= 0).sum(1).max(initial=0))):
        there = torch.from_numpy(places[:, place] >= 0)
        after, logits = network(belief, reading.said.rows(np.maximum(0, places[:, place])))
        belief = torch.where(there[:, None], after, belief)
        wanted = torch.from_numpy(reading.wanted[batch, place])
        labelled = there & wanted.any(1)
        right = (belief * wanted).sum(1)
        losses.append(-(right[labelled] + 1e-6).log().sum())
        going_on = torch.from_numpy(reading.goes_on[batch, place])
        asked = functional.binary_cross_entropy_with_logits(logits, going_on, reduction="none")
        losses.append(config.going_on_weight * asked[there].sum())
        counted += int(labelled.sum())
    if not losses:
        return torch.zeros((), requires_grad=True)
    return torch.stack(losses).sum() / max(1, counted)


def _log_odds(share: Tensor) -> Tensor:
    capped = share.clamp(1e-4, 1 - 1e-4)
    return torch.log(capped / (1 - capped))

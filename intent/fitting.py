"""A network on its way: where it begins, what it learns from, and how it gets better."""

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from intent import graph
from intent.config import TrainingConfig
from intent.data import TrainingSet
from intent.encoder import PretrainedEncoder, split_weights
from intent.engine import OWN, Network
from intent.interface import OUT_OF_SCOPE
from intent.lesson import Lesson
from intent.network import BatchBuilder, IntentNetwork
from intent.objective import Objective
from intent.optimization import RunningMean, batches_by_length, learning_rate_share
from intent.quantization import QuantizedRows
from intent.shape import NetworkShape
from intent.slot_rules import RuleMatcher
from intent.slots import NO_SLOTS, SlotModel, feature_count
from intent.text import NGRAM_BUCKETS, Vocabulary, build_vocabulary, is_word, ngram_hashes
from intent.tutor import Tutor

ENCODER_SIZES = ("cell", "directions", "layers", "embedding", "hidden", "features", "layer_norm")
FIRST_CONFIDENCE = 10.0
"""The logit of an utterance right at the middle of its intent, before training."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """`gradient_norm` is the mean before clipping; the two validation figures are None where
    there is nothing to validate on."""

    number: int
    of: int
    train_loss: float
    valid_loss: float | None
    valid_accuracy: float | None
    gradient_norm: float
    seconds: float


@dataclass(frozen=True)
class Help:
    """What else may teach: a tutor that knows every text of the lesson, and these."""

    tutor: Tutor
    unlabelled: Sequence[str] = ()


class Student:
    """A network on its way: where it begins, and what it learns from."""

    def __init__(
        self,
        data: TrainingSet,
        intents: Sequence[str],
        config: TrainingConfig,
        encoder: PretrainedEncoder | None,
        help: Help | None = None,
        slots: SlotModel = NO_SLOTS,
        *,
        check: Sequence[list[str]] = (),
    ) -> None:
        """`check`: the tokens that it will be validated on."""
        self.intents = tuple(intents)
        self.lesson = Lesson.of(data.examples, intents, slots)
        self._studied = self.lesson
        if help is not None:
            self._studied = self.lesson.with_tutor(help.tutor, help.unlabelled, len(intents))
        self.strangers = Lesson.of(data.out_of_scope, (OUT_OF_SCOPE,))
        vocabulary = build_vocabulary(self._studied.tokens, min_count=config.min_word_count)
        self._encoder = encoder
        if encoder is not None:
            # Of the encoder's words only those that occur: a step costs what the table is wide.
            met = {word for tokens in (*self._studied.tokens, *check) for word in tokens}
            words = met.intersection(encoder.vocabulary.words).union(vocabulary.words)
            vocabulary = Vocabulary(tuple(sorted(words)))
            sizes = {name: getattr(encoder.shape, name) for name in ENCODER_SIZES}
            config = replace(config, **sizes)
            if config.most_epochs_of_strange_words and _known_share(encoder, self._studied) < 0.5:
                config = replace(config, most_epochs=config.most_epochs_of_strange_words)
        self.vocabulary = vocabulary
        self.config = config.for_examples(len(self._studied.tokens))
        self._network = _new_network(self.config, vocabulary, intents, slots)
        if encoder is not None:
            _begin_at(encoder, self._network, vocabulary)
            _point_head_at_intents(self._network, vocabulary, self.lesson)

    def fit(self, check: Lesson, *, rounds: int, number: int) -> Iterator[Epoch]:
        """Round `number` of so many; ends with the weights of the best epoch."""
        assert self.config.epochs is not None
        for epoch in _fit(
            self._network, self.vocabulary, self._studied, check, self.strangers.tokens, self.config
        ):
            before = (number - 1) * self.config.epochs
            yield replace(epoch, number=before + epoch.number, of=rounds * self.config.epochs)

    def network(self) -> Network:
        """As it will be served."""
        shape, vocabulary = self._network.shape, self.vocabulary
        matrices, vectors = split_weights(self._network)
        if self._encoder is not None:
            vocabulary, matrices[OWN] = _with_words_of(self._encoder, vocabulary, matrices[OWN])
            shape = replace(shape, vocabulary=len(vocabulary.words))
        return Network(shape, vocabulary, matrices, vectors, graph.build(shape))


def _known_share(encoder: PretrainedEncoder, lesson: Lesson) -> float:
    """Of the words in the utterances, those that the encoder has met."""
    words = [word for tokens in lesson.tokens for word in tokens if is_word(word)]
    return sum(encoder.vocabulary.number(word) > 0 for word in words) / max(1, len(words))


def _new_network(
    config: TrainingConfig, vocabulary: Vocabulary, intents: Sequence[str], slots: SlotModel
) -> IntentNetwork:
    shape = NetworkShape(
        vocabulary=len(vocabulary.words),
        intents=len(intents),
        cell=config.cell,
        embedding=config.embedding,
        hidden=config.hidden,
        layers=config.layers,
        directions=config.directions,
        features=config.features,
        layer_norm=config.layer_norm,
        tags=slots.labels,
        token_features=feature_count(RuleMatcher(slots.rules)) if slots.kinds else 0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return IntentNetwork(shape)


@torch.no_grad()
def _begin_at(encoder: PretrainedEncoder, network: IntentNetwork, vocabulary: Vocabulary) -> None:
    """A word that the encoder does not know begins where its n-grams place it."""
    weights = encoder.weights()
    known = weights.pop("word_vectors.own.weight")
    network.encoder.load_state_dict(weights, strict=False)
    own = network.encoder.word_vectors.own.weight
    ngrams = network.encoder.word_vectors.ngrams.weight
    for number, word in enumerate(vocabulary.words, start=1):
        place = encoder.vocabulary.number(word)
        own[number] = (
            known[place]
            if place
            else ngrams[[value % NGRAM_BUCKETS for value in ngram_hashes(word)]].mean(0)
        )


def _with_words_of(
    encoder: PretrainedEncoder, vocabulary: Vocabulary, own: QuantizedRows
) -> tuple[Vocabulary, QuantizedRows]:
    """The words that did not occur in training stay where the encoder has them."""
    words = tuple(sorted({*encoder.vocabulary.words, *vocabulary.words}))
    values = np.zeros((len(words) + 1, own.values.shape[1]), own.values.dtype)
    scales = np.zeros(len(words) + 1, own.scales.dtype)
    known = encoder.matrices["word_vectors.own.weight"]
    for number, word in enumerate(words, start=1):
        place = vocabulary.number(word)
        source, place = (own, place) if place else (known, encoder.vocabulary.number(word))
        values[number], scales[number] = source.values[place], source.scales[place]
    return Vocabulary(words), QuantizedRows(values, scales)


@torch.no_grad()
def _point_head_at_intents(network: IntentNetwork, vocabulary: Vocabulary, lesson: Lesson) -> None:
    """The head begins at the mean direction of each intent's examples (a prototype, as in
    Snell et al. 2017), so that training starts from sense."""
    _, features = _infer(network, BatchBuilder(vocabulary), lesson.tokens)
    directions = nn.functional.normalize(features, dim=1)
    sums = torch.zeros_like(network.head.weight).index_add_(0, lesson.labels, directions)
    prototypes = nn.functional.normalize(sums, dim=1)
    length = features.norm(dim=1).mean().clamp_min(1e-6)
    network.head.weight.copy_(prototypes * (FIRST_CONFIDENCE / length))
    network.head.bias.zero_()


def _fit(
    network: IntentNetwork,
    vocabulary: Vocabulary,
    lesson: Lesson,
    check: Lesson,
    strangers: Sequence[list[str]],
    config: TrainingConfig,
) -> Iterator[Epoch]:
    """Leaves the weights of the epoch with the highest validation accuracy in `network`."""
    assert config.epochs is not None
    assert config.batch_size is not None
    build = BatchBuilder(vocabulary)
    shuffler = random.Random(config.seed)
    objective = Objective(network, build, lesson, strangers, config, shuffler)
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(
        [
            {
                "params": list(network.encoder.parameters()),
                "lr": config.encoder_learning_rate or config.learning_rate,
            },
            {
                "params": [
                    weight
                    for name, weight in network.named_parameters()
                    if not name.startswith("encoder.")
                ],
                "lr": config.learning_rate,
            },
        ],
        weight_decay=config.weight_decay,
        fused=True,
    )
    steps = config.epochs * math.ceil(len(lesson.tokens) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_share(step / steps, config.warm_up_share)
    )
    mean = RunningMean(parameters, config.averaged_share * steps)
    lowest, highest, epochs_without = math.inf, 0.0, 0
    best_weights: dict[str, Tensor] | None = None
    for number in range(1, config.epochs + 1):
        started = time.perf_counter()
        losses: list[float] = []
        norms: list[float] = []
        for chosen in batches_by_length(
            lesson.tokens, range(len(lesson.tokens)), config.batch_size, shuffler
        ):
            loss = objective(chosen)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            optimizer.step()
            schedule.step()
            mean.step()
            losses.append(loss.item())
            norms.append(norm.item())
        with mean.in_place():
            valid_loss, valid_accuracy = _validate(network, build, check)
            merit = (valid_accuracy or 0.0) + _tag_accuracy(network, build, check)
            if valid_accuracy is not None and merit >= highest:
                # Of equals the latest, as its learning rate was lowest.
                best_weights = {name: w.clone() for name, w in network.state_dict().items()}
        yield Epoch(
            number=number,
            of=config.epochs,
            train_loss=sum(losses) / len(losses),
            valid_loss=valid_loss,
            valid_accuracy=valid_accuracy,
            gradient_norm=sum(norms) / len(norms),
            seconds=time.perf_counter() - started,
        )
        if valid_loss is None:
            continue
        epochs_without = 0 if valid_loss < lowest or merit > highest else epochs_without + 1
        lowest, highest = min(lowest, valid_loss), max(highest, merit)
        if epochs_without >= config.patience_epochs:
            break
    if best_weights is not None:
        network.load_state_dict(best_weights)
    else:
        mean.settle()


def _validate(
    network: IntentNetwork, build: BatchBuilder, check: Lesson
) -> tuple[float | None, float | None]:
    if not check.tokens:
        return None, None
    logits, _ = _infer(network, build, check.tokens)
    loss = functional.cross_entropy(logits, check.labels).item()
    return loss, (logits.argmax(1) == check.labels).double().mean().item()


@torch.no_grad()
def _tag_accuracy(network: IntentNetwork, build: BatchBuilder, check: Lesson) -> float:
    """Share of utterances whose tokens' likeliest labels are all right; 0 without a tagger."""
    if network.tagger is None or check.tagged is None:
        return 0.0
    right = 0
    for start in range(0, len(check.tokens), 256):
        chosen = range(start, min(start + 256, len(check.tokens)))
        batch = build([check.tokens[n] for n in chosen])
        size = (len(batch.tokens), batch.tokens.shape[1])
        told, labels, _ = check.tagged.batch(chosen, size)
        _, _, scores = network.tag(batch, told)
        right += int(((scores.argmax(2) == labels) | ~batch.mask).all(1).sum())
    return right / len(check.tokens)


@torch.no_grad()
def _infer(
    network: IntentNetwork, build: BatchBuilder, tokenized: Sequence[Sequence[str]]
) -> tuple[Tensor, Tensor]:
    """Logits (N, I) and features (N, F)."""
    order = sorted(range(len(tokenized)), key=lambda n: len(tokenized[n]))
    logits = torch.empty(len(tokenized), network.shape.intents)
    features = torch.empty(len(tokenized), network.shape.features)
    for start in range(0, len(order), 256):
        chosen = order[start : start + 256]
        logits[chosen], features[chosen] = network(build([tokenized[n] for n in chosen]))
    return logits, features

"""A network on its way: where it begins, what it learns from, and how it gets better."""

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from intent import graph
from intent.data import Example, TrainingSet
from intent.encoder import PretrainedEncoder, split_weights
from intent.engine import Network
from intent.interface import OUT_OF_SCOPE
from intent.network import BatchBuilder, IntentNetwork, Noise
from intent.optimization import batches_by_length, learning_rate_share, misspell
from intent.shape import Cell, NetworkShape
from intent.text import NGRAM_BUCKETS, Vocabulary, build_vocabulary, ngram_hashes, tokenize
from intent.tutor import Tutor

ENCODER_SIZES = ("cell", "directions", "layers", "embedding", "hidden", "features", "layer_norm")
FIRST_CONFIDENCE = 10.0
"""The logit of an utterance right at the middle of its intent, before training."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The defaults suit 20 to 20,000 examples. `epochs` and `batch_size` follow their number
    unless given."""

    cell: Cell = "gru"
    directions: int = 2
    layers: int = 1
    embedding: int = 128
    hidden: int = 128
    features: int = 256
    layer_norm: bool = False
    min_word_count: int = 2
    epochs: int | None = None
    least_epochs: int = 25
    least_steps: int = 400
    most_epochs: int = 80
    batch_size: int | None = None
    learning_rate: float = 3e-3
    encoder_learning_rate: float | None = None
    """Of a pre-trained encoder, which has less to learn than the head; None: the same."""
    warm_up_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    label_smoothing: float = 0.1
    typo_share: float = 0.0
    """Of the utterances that are shown with one misspelt word."""
    anchor: float = 0.0
    """Weight of the squared distance from a pre-trained encoder's weights, words excepted
    (L2-SP, Li et al. 2018): a few examples are no reason to forget what sentences mean."""
    tutor_weight: float = 0.7
    """Of a tutor's judgement, where there is one; the labels have the rest."""
    tutor_temperature: float = 3.0
    out_of_scope_weight: float = 1.0
    """Of the part of the loss that teaches out-of-scope examples to favour no intent."""
    word_dropout: float = 0.1
    embedding_dropout: float = 0.3
    feature_dropout: float = 0.5
    patience_epochs: int = 8
    """Training stops when neither validation loss nor accuracy got better for so long."""
    held_out: float = 0.15
    """Share of every intent kept from training, where no validation data is given."""
    seed: int = 0

    def for_examples(self, count: int) -> "TrainingConfig":
        """With `epochs` and `batch_size` filled in."""
        batch_size = self.batch_size or (64 if count > 3_000 else 32 if count > 200 else 16)
        steps = math.ceil(count / batch_size)
        least = min(self.least_epochs, 12 if count > 3_000 else 25)
        wanted = max(least, math.ceil(self.least_steps / steps))
        epochs = self.epochs or min(self.most_epochs, wanted)
        return replace(self, epochs=epochs, batch_size=batch_size)


FINE_TUNING = TrainingConfig(
    encoder_learning_rate=2e-3,
    anchor=0.03,
    typo_share=0.3,
    embedding_dropout=0.2,
    feature_dropout=0.3,
    least_epochs=12,
    least_steps=900,
    most_epochs=40,
)
"""From a pre-trained encoder, which brings its own sizes."""


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
class Lesson:
    """Utterances as tokens, and what each is an utterance of."""

    texts: list[str]
    tokens: list[list[str]]
    labels: Tensor  # (N,) int64, -1 for an utterance that nobody labelled
    guesses: Tensor | None = None  # (N, I) logits of a tutor

    @classmethod
    def of(cls, examples: Sequence[Example], intents: Sequence[str]) -> "Lesson":
        """Leaves out examples of other intents, and those without words."""
        number_of = {intent: number for number, intent in enumerate(intents)}
        rows = [
            (example.text, tokens, number_of[example.intent])
            for example in examples
            if example.intent in number_of and (tokens := tokenize(example.text))
        ]
        return cls(
            [text for text, _, _ in rows],
            [tokens for _, tokens, _ in rows],
            torch.tensor([label for _, _, label in rows], dtype=torch.int64),
        )

    def with_tutor(self, tutor: Tutor, unlabelled: Sequence[str], intents: int) -> "Lesson":
        """And with utterances that the tutor alone judges."""
        rows = [(text, tokens) for text in unlabelled if (tokens := tokenize(text))]
        texts = self.texts + [text for text, _ in rows]
        tokens_of = self.tokens + [tokens for _, tokens in rows]
        labels = torch.cat([self.labels, torch.full((len(rows),), -1)])
        return Lesson(texts, tokens_of, labels, tutor.judge(texts, labels, intents))


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
    ) -> None:
        self.intents = tuple(intents)
        self.lesson = Lesson.of(data.examples, intents)
        self._studied = self.lesson
        if help is not None:
            self._studied = self.lesson.with_tutor(help.tutor, help.unlabelled, len(intents))
        self.strangers = Lesson.of(data.out_of_scope, (OUT_OF_SCOPE,))
        vocabulary = build_vocabulary(self._studied.tokens, min_count=config.min_word_count)
        if encoder is not None:
            words = {*encoder.vocabulary.words, *vocabulary.words}
            vocabulary = Vocabulary(tuple(sorted(words)))
            sizes = {name: getattr(encoder.shape, name) for name in ENCODER_SIZES}
            config = replace(config, **sizes)
        self.vocabulary = vocabulary
        self.config = config.for_examples(len(self._studied.tokens))
        self._network = _new_network(self.config, vocabulary, intents)
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
        shape = self._network.shape
        matrices, vectors = split_weights(self._network)
        return Network(shape, self.vocabulary, matrices, vectors, graph.build(shape))


def _new_network(
    config: TrainingConfig, vocabulary: Vocabulary, intents: Sequence[str]
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
    noise = Noise(
        generator=torch.Generator().manual_seed(config.seed),
        word_dropout=config.word_dropout,
        embedding_dropout=config.embedding_dropout,
        feature_dropout=config.feature_dropout,
    )
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(
        [
            {
                "params": list(network.encoder.parameters()),
                "lr": config.encoder_learning_rate or config.learning_rate,
            },
            {"params": list(network.head.parameters()), "lr": config.learning_rate},
        ],
        weight_decay=config.weight_decay,
        fused=True,
    )
    steps = config.epochs * math.ceil(len(lesson.tokens) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_share(step / steps, config.warm_up_share)
    )
    anchored = [
        (weight, weight.detach().clone())
        for name, weight in network.encoder.named_parameters()
        if not name.startswith("word_vectors")
    ]
    lowest, highest, epochs_without = math.inf, 0.0, 0
    best_weights: dict[str, Tensor] | None = None
    for number in range(1, config.epochs + 1):
        started = time.perf_counter()
        losses: list[float] = []
        norms: list[float] = []
        for chosen in batches_by_length(
            lesson.tokens, range(len(lesson.tokens)), config.batch_size, shuffler
        ):
            met = shuffler.sample(strangers, min(len(strangers), config.batch_size // 4))
            shown = [
                misspell(lesson.tokens[n], shuffler)
                if config.typo_share and shuffler.random() < config.typo_share
                else lesson.tokens[n]
                for n in chosen
            ]
            batch = build(shown + met)
            guesses = None if lesson.guesses is None else lesson.guesses[chosen]
            loss = _loss(network(batch, noise)[0], lesson.labels[chosen], guesses, config)
            if config.anchor:
                strayed = ((weight - start).square().sum() for weight, start in anchored)
                loss = loss + config.anchor * torch.stack(list(strayed)).sum()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            norms.append(norm.item())
        valid_loss, valid_accuracy = _validate(network, build, check)
        yield Epoch(
            number=number,
            of=config.epochs,
            train_loss=sum(losses) / len(losses),
            valid_loss=valid_loss,
            valid_accuracy=valid_accuracy,
            gradient_norm=sum(norms) / len(norms),
            seconds=time.perf_counter() - started,
        )
        if valid_loss is None or valid_accuracy is None:
            continue
        epochs_without += 1
        if valid_loss < lowest or valid_accuracy > highest:
            epochs_without = 0
        lowest = min(lowest, valid_loss)
        if valid_accuracy >= highest:  # of equals the latest, as its learning rate was lowest
            highest = valid_accuracy
            best_weights = {name: w.clone() for name, w in network.state_dict().items()}
        if epochs_without >= config.patience_epochs:
            break
    if best_weights is not None:
        network.load_state_dict(best_weights)


def _loss(logits: Tensor, labels: Tensor, guesses: Tensor | None, config: TrainingConfig) -> Tensor:
    """logits: (B, I), whose rows beyond the labels are of out-of-scope utterances: those are
    to favour no intent (outlier exposure, Hendrycks et al. 2019)."""
    known, strange = logits[: len(labels)], logits[len(labels) :]
    loss = known.new_zeros(())
    labelled = labels >= 0
    if bool(labelled.any()):
        smoothing = config.label_smoothing
        loss = functional.cross_entropy(
            known[labelled], labels[labelled], label_smoothing=smoothing
        )
    if guesses is not None:
        heat = config.tutor_temperature
        judged = functional.kl_div(
            (known / heat).log_softmax(1), (guesses / heat).softmax(1), reduction="batchmean"
        )
        loss = (1 - config.tutor_weight) * loss + config.tutor_weight * heat * heat * judged
    if len(strange):
        divergence = -strange.log_softmax(1).mean() - math.log(logits.shape[1])
        loss = loss + config.out_of_scope_weight * divergence
    return loss


def _validate(
    network: IntentNetwork, build: BatchBuilder, check: Lesson
) -> tuple[float | None, float | None]:
    if not check.tokens:
        return None, None
    logits, _ = _infer(network, build, check.tokens)
    loss = functional.cross_entropy(logits, check.labels).item()
    return loss, (logits.argmax(1) == check.labels).double().mean().item()


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

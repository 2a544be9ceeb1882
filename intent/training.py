"""From examples to a trained, calibrated, evaluated network."""

import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from intent.artifact import FORMAT_VERSION, Artifact
from intent.calibration import fit_temperature
from intent.classifier import GRUClassifier
from intent.data import Example, TrainingSet, data_hash, lint, split
from intent.evaluation import Evaluation, evaluate
from intent.interface import TrainingDataError
from intent.network import BatchBuilder, Cell, IntentNetwork, NetworkShape, Noise
from intent.optimization import batches_by_length, learning_rate_share
from intent.pretraining import PretrainedEncoder
from intent.scope import (
    LEAST_DEVIATION,
    ScopeDetector,
    ScopeScorer,
    choose_stored,
    choose_threshold,
    combine,
    quantize,
)
from intent.text import NGRAM_BUCKETS, Vocabulary, build_vocabulary, ngram_hashes, tokenize

FEWEST_FOR_CALIBRATION = 20
FLATTERY = 1.0
"""How much lower an utterance not trained on may score than the worst one trained on, where
too few are held out to know."""
OUTSIDE_HELD_OUT = 0.5
ENCODER_SIZES = ("cell", "directions", "layers", "embedding", "hidden", "features")
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


@dataclass(frozen=True, slots=True)
class Trained:
    artifact: Artifact
    evaluation: Evaluation | None
    """None where too few examples were given to hold any out."""


def train(
    data: TrainingSet,
    config: TrainingConfig | None = None,
    *,
    valid: TrainingSet | None = None,
    encoder: PretrainedEncoder | None = None,
    created_at: str | None = None,
) -> Iterator[Epoch | Trained]:
    """Yields every `Epoch`, then `Trained`. Stop asking, and it stops.

    `encoder`: where the network begins; without one, from scratch. Sizes in `config` count only
    from scratch.

    Without `valid`, a part of `data` is held out for early stopping, calibration and
    evaluation; the finished network still knows the words of that part and counts it as in
    scope. The same data, configuration and thread count give the same bytes on one machine;
    torch's global random state is left as it was. Raises TrainingDataError.
    """
    errors = [str(problem) for problem in lint(data) if problem.severity == "error"]
    if errors:
        raise TrainingDataError(errors)
    config = config or (FINE_TUNING if encoder else TrainingConfig())
    kept, apart = _set_apart(data, valid, config)
    rounds = 2 if valid is None and apart.examples else 1
    intents = kept.intents
    check = _tokenize(apart.examples, intents)
    if valid is not None and not check.tokens:
        raise TrainingDataError(["the validation data has no example of any trained intent; add"])
    student = _Student(kept, intents, config, encoder)
    yield from student.fit(check, rounds=rounds, number=1)
    artifact = _calibrate(student, check, kept, apart)
    evaluation = None
    if apart.examples:
        basis = "validation data" if valid is not None else "held out from the training data"
        evaluation = evaluate(GRUClassifier(artifact), apart, basis=basis)
    if rounds == 2:
        # What was held out has done its work: it may teach too. Calibration stays as it is.
        same = replace(config, epochs=student.config.epochs)
        student = _Student(data, intents, same, encoder)
        yield from student.fit(_tokenize((), intents), rounds=2, number=2)
        artifact = student.into(artifact)
    config = student.config
    card: dict[str, Any] = {
        "config": asdict(config),
        "data_hash": data_hash(data),
        "intents": dict(sorted(Counter(e.intent for e in data.examples).items())),
        "out_of_scope_examples": len(data.out_of_scope),
        "evaluation": evaluation.to_json() if evaluation else None,
        "versions": {"torch": str(torch.__version__), "format": FORMAT_VERSION},
    }
    if created_at is not None:
        card["created_at"] = created_at
    everything = _tokenize(data.examples, intents)
    scope = _remember(artifact, student.network, everything, _tokens(data.out_of_scope))
    yield Trained(replace(artifact, scope=scope, card=card), evaluation)


def _set_apart(
    data: TrainingSet, valid: TrainingSet | None, config: TrainingConfig
) -> tuple[TrainingSet, TrainingSet]:
    kept, apart = (
        (data, valid) if valid else split(data, held_out=config.held_out, seed=config.seed)
    )
    if valid and valid.out_of_scope:
        return kept, apart
    inside, outside = split(
        TrainingSet((), data.out_of_scope), held_out=OUTSIDE_HELD_OUT, seed=config.seed
    )
    return (
        TrainingSet(kept.examples, inside.out_of_scope),
        TrainingSet(apart.examples, outside.out_of_scope),
    )


@dataclass(frozen=True)
class _Tokenized:
    tokens: list[list[str]]
    labels: Tensor  # (N,)


def _tokenize(examples: Sequence[Example], intents: Sequence[str]) -> _Tokenized:
    """Leaves out examples of other intents, and those without words."""
    number_of = {intent: number for number, intent in enumerate(intents)}
    known = [example for example in examples if example.intent in number_of]
    pairs = [(tokenize(example.text), number_of[example.intent]) for example in known]
    labels = torch.tensor([number for tokens, number in pairs if tokens], dtype=torch.int64)
    return _Tokenized([tokens for tokens, _ in pairs if tokens], labels)


def _tokens(examples: Sequence[Example]) -> list[list[str]]:
    return [tokens for example in examples if (tokens := tokenize(example.text))]


class _Student:
    """A network on its way: where it begins, and what it learns from."""

    def __init__(
        self,
        data: TrainingSet,
        intents: Sequence[str],
        config: TrainingConfig,
        encoder: PretrainedEncoder | None,
    ) -> None:
        self.intents = tuple(intents)
        self.lesson = _tokenize(data.examples, intents)
        self._strangers = _tokens(data.out_of_scope)
        vocabulary = build_vocabulary(self.lesson.tokens, min_count=config.min_word_count)
        if encoder is not None:
            words = {*encoder.vocabulary.words, *vocabulary.words}
            vocabulary = Vocabulary(tuple(sorted(words)))
            sizes = {name: getattr(encoder.shape, name) for name in ENCODER_SIZES}
            config = replace(config, **sizes)
        self.vocabulary = vocabulary
        self.config = config.for_examples(len(data.examples))
        self.network = _new_network(self.config, vocabulary, intents)
        if encoder is not None:
            _begin_at(encoder, self.network, vocabulary)
            _point_head_at_intents(self.network, vocabulary, self.lesson)

    def fit(self, check: _Tokenized, *, rounds: int, number: int) -> Iterator[Epoch]:
        """Round `number` of so many; leaves the best epoch's weights, rounded as in the file."""
        assert self.config.epochs is not None
        for epoch in _fit(
            self.network, self.vocabulary, self.lesson, check, self._strangers, self.config
        ):
            before = (number - 1) * self.config.epochs
            yield replace(epoch, number=before + epoch.number, of=rounds * self.config.epochs)
        self.network.load_state_dict({name: w.float() for name, w in self._weights().items()})

    def into(self, artifact: Artifact) -> Artifact:
        """The artifact with this network."""
        return replace(
            artifact,
            shape=self.network.shape,
            weights=self._weights(),
            vocabulary=self.vocabulary,
        )

    def _weights(self) -> dict[str, Tensor]:
        return {name: weight.half() for name, weight in self.network.state_dict().items()}


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
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return IntentNetwork(shape)


@torch.no_grad()
def _begin_at(encoder: PretrainedEncoder, network: IntentNetwork, vocabulary: Vocabulary) -> None:
    """A word that the encoder does not know begins where its n-grams place it."""
    weights = {name: weight.float() for name, weight in encoder.weights.items()}
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
def _point_head_at_intents(
    network: IntentNetwork, vocabulary: Vocabulary, lesson: _Tokenized
) -> None:
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
    lesson: _Tokenized,
    check: _Tokenized,
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
            batch = build([lesson.tokens[n] for n in chosen] + met)
            loss = _loss(network(batch, noise)[0], lesson.labels[chosen], config)
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


def _loss(logits: Tensor, labels: Tensor, config: TrainingConfig) -> Tensor:
    """logits: (B, I), whose rows beyond the labels are of out-of-scope utterances: those are
    to favour no intent (outlier exposure, Hendrycks et al. 2019)."""
    known, strange = logits[: len(labels)], logits[len(labels) :]
    loss = functional.cross_entropy(known, labels, label_smoothing=config.label_smoothing)
    if len(strange):
        divergence = -strange.log_softmax(1).mean() - math.log(logits.shape[1])
        loss = loss + config.out_of_scope_weight * divergence
    return loss


def _validate(
    network: IntentNetwork, build: BatchBuilder, check: _Tokenized
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


def _calibrate(
    student: _Student, check: _Tokenized, kept: TrainingSet, apart: TrainingSet
) -> Artifact:
    """What the network's logits and features are worth, by utterances it was not trained on."""
    network, vocabulary, lesson = student.network, student.vocabulary, student.lesson
    artifact = Artifact(
        shape=network.shape,
        weights={},
        vocabulary=vocabulary,
        intents=student.intents,
        temperature=1.0,
        scope=ScopeDetector(
            inside=torch.empty(0, network.shape.features, dtype=torch.int8),
            outside=torch.empty(0, network.shape.features, dtype=torch.int8),
            seen_ngrams=torch.empty(0, dtype=torch.int64),
            means=(0.0, 0.0, 0.0),
            deviations=(1.0, 1.0, 1.0),
            threshold=0.0,
        ),
        card={},
    )
    scope = _remember(artifact, network, lesson, _tokens(kept.out_of_scope))
    build = BatchBuilder(vocabulary)
    scorer = ScopeScorer(scope)
    enough = len(check.tokens) >= FEWEST_FOR_CALIBRATION
    logits, features = _infer(network, build, check.tokens)
    temperature = fit_temperature(logits, check.labels) if enough else 1.0
    signals = scorer.signals(logits, features, check.tokens)
    if not enough:  # training utterances are a flattering stand-in, so they come second
        logits, features = _infer(network, build, lesson.tokens)
        seen = scorer.signals(logits, features, lesson.tokens, skip_self=True)
        signals = torch.cat([signals, seen])
    deviations, means = torch.std_mean(signals, dim=0, correction=0)
    deviations = deviations.clamp_min(LEAST_DEVIATION)
    strangers = _tokens(apart.out_of_scope)
    logits, features = _infer(network, build, strangers)
    outside = scorer.signals(logits, features, strangers)
    scores = combine(signals, means, deviations)
    if enough:
        threshold = choose_threshold(scores, combine(outside, means, deviations))
    else:
        threshold = scores.min().item() - FLATTERY
    scope = replace(
        scope,
        means=tuple(means.tolist()),
        deviations=tuple(deviations.tolist()),
        threshold=threshold,
    )
    return student.into(replace(artifact, temperature=temperature, scope=scope))


def _remember(
    artifact: Artifact,
    network: IntentNetwork,
    inside: _Tokenized,
    outside: Sequence[Sequence[str]],
) -> ScopeDetector:
    """The artifact's detector, comparing with these examples."""
    build = BatchBuilder(artifact.vocabulary)
    stored = choose_stored(inside.labels).tolist()
    _, features = _infer(network, build, [inside.tokens[n] for n in stored])
    _, outside_features = _infer(network, build, outside)
    words = {token for tokens in inside.tokens for token in tokens}
    hashes = sorted({value for word in words for value in ngram_hashes(word)})
    return replace(
        artifact.scope,
        inside=quantize(features),
        outside=quantize(outside_features),
        seen_ngrams=torch.tensor(hashes, dtype=torch.int64),
    )

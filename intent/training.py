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
from intent.scope import (
    LEAST_DEVIATION,
    ScopeDetector,
    ScopeScorer,
    choose_stored,
    choose_threshold,
    combine,
    quantize,
)
from intent.text import Vocabulary, build_vocabulary, ngram_hashes, tokenize

FEWEST_FOR_CALIBRATION = 20
FLATTERY = 1.0
"""How much lower an utterance not trained on may score than the worst one trained on, where
too few are held out to know."""
OUTSIDE_HELD_OUT = 0.5


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
    batch_size: int | None = None
    learning_rate: float = 3e-3
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
        least = 12 if count > 3_000 else 25
        epochs = self.epochs or min(80, max(least, math.ceil(400 / steps)))
        return replace(self, epochs=epochs, batch_size=batch_size)


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
    created_at: str | None = None,
) -> Iterator[Epoch | Trained]:
    """Yields every `Epoch`, then `Trained`. Stop asking, and it stops.

    Without `valid`, a part of `data` is held out for early stopping, calibration and
    evaluation; the finished network still knows the words of that part and counts it as in
    scope. The same data, configuration and thread count give the same bytes on one machine;
    torch's global random state is left as it was. Raises TrainingDataError.
    """
    errors = [str(problem) for problem in lint(data) if problem.severity == "error"]
    if errors:
        raise TrainingDataError(errors)
    config = config or TrainingConfig()
    kept, apart = _set_apart(data, valid, config)
    config = config.for_examples(len(kept.examples))
    intents = kept.intents
    lesson = _tokenize(kept.examples, intents)
    check = _tokenize(apart.examples, intents)
    if valid is not None and not check.tokens:
        raise TrainingDataError(["the validation data has no example of any trained intent; add"])
    vocabulary = build_vocabulary(lesson.tokens, min_count=config.min_word_count)
    network = _new_network(config, vocabulary, intents)
    strangers = _tokens(kept.out_of_scope)
    yield from _fit(network, vocabulary, lesson, check, strangers, config)

    artifact = _calibrate(network, vocabulary, intents, lesson, check, kept, apart)
    evaluation = None
    if apart.examples:
        basis = "validation data" if valid is not None else "held out from the training data"
        evaluation = evaluate(GRUClassifier(artifact), apart, basis=basis)
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
    scope = _remember(artifact, network, everything, _tokens(data.out_of_scope))
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
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    steps = config.epochs * math.ceil(len(lesson.tokens) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _learning_rate_share(step / steps, config.warm_up_share)
    )
    lowest, highest, epochs_without = math.inf, 0.0, 0
    best_weights: dict[str, Tensor] | None = None
    for number in range(1, config.epochs + 1):
        started = time.perf_counter()
        losses: list[float] = []
        norms: list[float] = []
        for chosen in _batches(lesson.tokens, config.batch_size, shuffler):
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


def _learning_rate_share(progress: float, warm_up: float) -> float:
    """Up in a line, then down along half a cosine (Loshchilov and Hutter 2017)."""
    if progress < warm_up:
        return max(progress / warm_up, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def _batches(
    tokenized: Sequence[Sequence[str]], size: int, shuffler: random.Random
) -> list[list[int]]:
    """Random batches of utterances of similar length, so that little is padding."""
    order = list(range(len(tokenized)))
    shuffler.shuffle(order)
    batches: list[list[int]] = []
    pool = 16 * size
    for start in range(0, len(order), pool):
        by_length = sorted(order[start : start + pool], key=lambda n: len(tokenized[n]))
        batches += [by_length[i : i + size] for i in range(0, len(by_length), size)]
    shuffler.shuffle(batches)
    return batches


def _validate(
    network: IntentNetwork, build: BatchBuilder, check: _Tokenized
) -> tuple[float | None, float | None]:
    if not check.tokens:
        return None, None
    logits, _ = _infer(network, build, check.tokens)
    loss = functional.cross_entropy(logits, check.labels).item()
    return loss, (logits.argmax(1) == check.labels).double().mean().item()


@torch.inference_mode()
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
    network: IntentNetwork,
    vocabulary: Vocabulary,
    intents: Sequence[str],
    lesson: _Tokenized,
    check: _Tokenized,
    kept: TrainingSet,
    apart: TrainingSet,
) -> Artifact:
    """Rounds the weights to the precision of the file first, so that all that follows holds
    for the file."""
    weights = {name: weight.half() for name, weight in network.state_dict().items()}
    network.load_state_dict({name: weight.float() for name, weight in weights.items()})
    artifact = Artifact(
        shape=network.shape,
        weights=weights,
        vocabulary=vocabulary,
        intents=tuple(intents),
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
    return replace(artifact, temperature=temperature, scope=scope)


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

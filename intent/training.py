"""From examples to a trained, calibrated, evaluated network."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from intent.artifact import FORMAT_VERSION, Artifact
from intent.calibration import fit_temperature, shares_and_certainties
from intent.certificate import Calibration, fewest_answers
from intent.config import FINE_TUNING, TrainingConfig
from intent.data import TrainingSet, data_hash, folds, lint, split
from intent.encoder import PretrainedEncoder
from intent.engine import Array, Engine, Network
from intent.evaluation import Evaluation, evaluate_predictions
from intent.fitting import Epoch, Help, Student
from intent.interface import OUT_OF_SCOPE, Promise, TrainingDataError
from intent.lesson import Lesson
from intent.neighbours import (
    LIKELIEST,
    Comparison,
    Neighbours,
    StoredExamples,
    choose_stored,
    lean,
    likeliest,
    store,
)
from intent.scope import (
    FLATTERY,
    LEAST_DEVIATION,
    SIGNALS,
    ScopeDetector,
    ScopeScorer,
    choose_threshold,
    combine,
)
from intent.slot_rules import learned_synonyms
from intent.slots import SlotModel, slot_kinds
from intent.text import ngram_hashes
from intent.thresholds import Judged, ThresholdPlan, distinct, judge, unseen

FEWEST_FOR_CALIBRATION = 20
OUTSIDE_HELD_OUT = 0.5

FEWEST_TO_CERTIFY_APART = 4_000
"""From so many examples on, some are kept for the certificate alone, and taught to nobody."""
CERTIFIED_APART = 0.15
OUTSIDE_CERTIFIED_APART = 0.34
FOLDS = 5
ENOUGH_CROSS_FITTED = 300
"""Utterances for a certificate by cross-fitting: of five folds only so many are trained."""


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
    calibration: TrainingSet | None = None,
    encoder: PretrainedEncoder | None = None,
    help: Help | None = None,
    created_at: str | None = None,
) -> Iterator[Epoch | Trained]:
    """Yields every `Epoch`, then `Trained`. Stop asking, and it stops.

    `encoder`: where the network begins; without one, from scratch. Sizes in `config` count only
    from scratch. `help`: a tutor, who must know the texts of `data`.

    Without `valid`, a part of `data` is held out for early stopping, calibration and
    evaluation; the finished network still knows the words of that part and counts it as in
    scope. The same data, configuration and thread count give the same bytes on one machine;
    torch's global random state is left as it was. Raises TrainingDataError.

    `calibration`: utterances for the certificate, of which nothing else learns. Without them, a
    part of a large set is kept for it; a small one is cross-fitted, unless `valid` is given.
    """
    errors = [str(problem) for problem in lint(data) if problem.severity == "error"]
    if errors:
        raise TrainingDataError(errors)
    config = config or (FINE_TUNING if encoder else TrainingConfig())
    everything, basis = data, "given"
    if calibration is None and valid is None and len(data.examples) >= FEWEST_TO_CERTIFY_APART:
        basis = "held_out"
        data, calibration = _split(
            data, CERTIFIED_APART, outside=OUTSIDE_CERTIFIED_APART, seed=config.seed + 1
        )
    kept, apart = _set_apart(data, valid, config)
    left_out = _folds(data, config) if calibration is None and valid is None else []
    rounds = (2 if valid is None and apart.examples else 1) + len(left_out)
    intents = kept.intents
    slots = _slots(data)
    check = Lesson.of(apart.examples, intents, slots)
    if valid is not None and not check.tokens:
        raise TrainingDataError(["the validation data has no example of any trained intent; add"])
    student = Student(kept, intents, config, encoder, help, slots, check=check.tokens)
    yield from student.fit(check, rounds=rounds, number=1)
    strangers = Lesson.of(apart.out_of_scope, (OUT_OF_SCOPE,))
    artifact = _calibrated(student, check, strangers, slots)
    evaluation = None
    judged = judge(artifact, apart)
    plan = ThresholdPlan.of(judged)
    if apart.examples:
        source = "validation data" if valid is not None else "held out from the training data"
        evaluation = evaluate_predictions(*judged, basis=source)
    same = replace(config, epochs=student.config.epochs)
    nothing = Lesson.of((), intents)
    if valid is None and apart.examples:
        # What was held out has done its work: it may teach too. Calibration stays as it is.
        student = Student(data, intents, same, encoder, help, slots)
        yield from student.fit(nothing, rounds=rounds, number=2)
        artifact = replace(artifact, network=student.network())
    counted: Calibration | None = None
    if left_out:
        # Each is judged by a network that learned without it, and otherwise as the served one.
        parts: list[Judged] = []
        for number, (rest, fold) in enumerate(left_out, start=3):
            other = Student(rest, intents, same, encoder, help, slots)
            yield from other.fit(nothing, rounds=rounds, number=number)
            other_artifact = _remembering(replace(artifact, network=other.network()), rest)
            parts.append(judge(other_artifact, fold))
        counted = plan.count(parts, basis="cross_fitted")
    card: dict[str, Any] = {
        "config": asdict(student.config),
        "data_hash": data_hash(everything),
        "intents": dict(sorted(Counter(e.intent for e in everything.examples).items())),
        "out_of_scope_examples": len(everything.out_of_scope),
        "evaluation": evaluation.to_json() if evaluation else None,
        "versions": {"torch": str(torch.__version__), "format": FORMAT_VERSION},
    }
    if created_at is not None:
        card["created_at"] = created_at
    head = encoder.follow_up if encoder is not None else None
    artifact = _remembering(replace(artifact, card=card, follow_up=head), data)
    if calibration is not None:
        fresh = unseen(calibration, data, apart)
        counted = plan.count(
            [judge(artifact, fresh)], basis=basis, seen=calibration.size - fresh.size
        )
    yield Trained(replace(artifact, calibration=counted), evaluation)


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
        replace(kept, out_of_scope=inside.out_of_scope),
        replace(apart, out_of_scope=outside.out_of_scope),
    )


def _split(
    data: TrainingSet, held_out: float, *, outside: float, seed: int
) -> tuple[TrainingSet, TrainingSet]:
    """With another share of what is out of scope."""
    kept, apart = split(replace(data, out_of_scope=()), held_out=held_out, seed=seed)
    rest, other = split(TrainingSet((), data.out_of_scope), held_out=outside, seed=seed)
    return (
        replace(kept, out_of_scope=rest.out_of_scope),
        replace(apart, out_of_scope=other.out_of_scope),
    )


def _folds(data: TrainingSet, config: TrainingConfig) -> list[tuple[TrainingSet, TrainingSet]]:
    """What to train on, and what to judge by it. None where they could certify nothing."""
    distinct_examples = len(distinct(data).examples)
    if distinct_examples < 2 * fewest_answers(Promise()):
        return []
    wanted = math.ceil(FOLDS * ENOUGH_CROSS_FITTED / distinct_examples)
    return folds(data, FOLDS, seed=config.seed)[:wanted]


def _slots(data: TrainingSet) -> SlotModel:
    """A value given with an annotation is a synonym, too."""
    annotated = [(example.text, example.slots) for example in data.examples]
    kinds = slot_kinds(slot for _, slots in annotated for slot in slots)
    return SlotModel(kinds, data.slot_rules + learned_synonyms(annotated))


def _calibrated(student: Student, check: Lesson, strangers: Lesson, slots: SlotModel) -> Artifact:
    """What the network's logits and features are worth, by utterances it was not trained on."""
    network = student.network()
    engine = Engine(network)
    scope = _remember(_no_detector(network), engine, student.lesson, student.strangers)
    scorer = ScopeScorer(scope)
    neighbours = Neighbours(scope.inside, len(student.intents))

    def judged(
        lesson: Lesson, *, trained_on: bool = False
    ) -> tuple[Array, Array, list[Comparison]]:
        """Logits, leaning ones, and what they lean on."""
        found = engine.run(lesson.tokens)
        best = likeliest(found.logits, LIKELIEST)
        compared = neighbours.compare(best, found.features, skip_self=trained_on)
        return found.logits, lean(found.logits, compared), compared

    enough = len(check.tokens) >= FEWEST_FOR_CALIBRATION
    temperature = fit_temperature(judged(check)[1], check.labels.numpy()) if enough else 1.0

    def signals(lesson: Lesson, *, trained_on: bool = False) -> Array:
        logits, leaning, compared = judged(lesson, trained_on=trained_on)
        certainties = shares_and_certainties(leaning, temperature)[1]
        familiarities = [scorer.familiarities(tokens) for tokens in lesson.tokens]
        return scorer.signals(logits, certainties, compared, familiarities)

    inside = signals(check)
    if not enough:  # training utterances are a flattering stand-in
        inside = np.concatenate([inside, signals(student.lesson, trained_on=True)])
    means = inside.mean(axis=0)
    deviations = np.maximum(inside.std(axis=0), LEAST_DEVIATION)
    scores = combine(inside, means, deviations)
    if enough:
        threshold = choose_threshold(scores, combine(signals(strangers), means, deviations))
    else:
        threshold = float(scores.min()) - FLATTERY
    scope = replace(
        scope,
        means=tuple(means.tolist()),
        deviations=tuple(deviations.tolist()),
        threshold=threshold,
    )
    return Artifact(
        network=network,
        intents=student.intents,
        temperature=temperature,
        scope=scope,
        slots=slots,
        card={},
    )


def _no_detector(network: Network) -> ScopeDetector:
    features = np.empty((0, network.shape.features), np.int8)
    nothing = StoredExamples(features, np.empty(0, np.int64), ())
    return ScopeDetector(
        inside=nothing,
        outside=nothing,
        seen_ngrams=np.empty(0, np.uint32),
        means=(0.0,) * SIGNALS,
        deviations=(1.0,) * SIGNALS,
        threshold=0.0,
    )


def _remembering(artifact: Artifact, data: TrainingSet) -> Artifact:
    scope = _remember(
        artifact.scope,
        Engine(artifact.network),
        Lesson.of(data.examples, artifact.intents),
        Lesson.of(data.out_of_scope, (OUT_OF_SCOPE,)),
    )
    return replace(artifact, scope=scope)


def _remember(
    detector: ScopeDetector, engine: Engine, inside: Lesson, outside: Lesson
) -> ScopeDetector:
    """The detector, comparing with these examples."""
    words = {token for tokens in inside.tokens for token in tokens}
    hashes = sorted({value for word in words for value in ngram_hashes(word)})
    return replace(
        detector,
        inside=_stored(engine, inside),
        outside=_stored(engine, outside),
        seen_ngrams=np.array(hashes, np.uint32),
    )


def _stored(engine: Engine, lesson: Lesson) -> StoredExamples:
    labels = lesson.labels.numpy()
    chosen = choose_stored(labels)
    features = engine.run([lesson.tokens[n] for n in chosen]).features
    return store(features, labels[chosen], [lesson.texts[n] for n in chosen])

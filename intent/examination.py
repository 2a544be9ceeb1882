"""A closer look than an evaluation takes: what goes wrong, when, and how far to trust the
figures. Imports no torch."""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from intent.data import Example, TrainingSet
from intent.evaluation import Evaluation, evaluate_predictions, wilson_interval
from intent.interface import NearestExample, Prediction
from intent.leakage import Leakage, find_leaks, worst_leaks
from intent.robustness import VARIATIONS, Robustness, measure_robustness
from intent.text import is_word, tokenize

SHOWN_ERRORS = 20
NEAREST_OF_ERRORS = 3
MIXED_INTENTS = 15
THRESHOLDS = 101
LENGTHS = (1, 4, 7, 10, 15, 20, 30)
"""Words from which on a message falls into the next group."""
BATCH = 512
OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class ExaminedClassifier(Protocol):
    """What of a `GRUClassifier` is needed."""

    @property
    def intents(self) -> tuple[str, ...]: ...

    @property
    def card(self) -> dict[str, Any]: ...

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]: ...

    def nearest(self, texts: Sequence[str], count: int = 3) -> list[list[NearestExample]]: ...

    def examples(self) -> list[tuple[str, str]]: ...


@dataclass(frozen=True, slots=True)
class WorstError:
    text: str
    expected: str
    predicted: str
    confidence: float
    in_scope: bool
    source: str
    nearest: tuple[NearestExample, ...]


@dataclass(frozen=True, slots=True)
class ConfusionMatrix:
    """The intents with the most errors, `counts[expected][predicted]`; `others[expected]` counts
    what was given to any intent that is not shown."""

    intents: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    others: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LengthScore:
    """Messages of `shortest` to `longest` words (None: any number), with Wilson's interval."""

    shortest: int
    longest: int | None
    examples: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float


@dataclass(frozen=True, slots=True)
class ScopePoint:
    """If utterances were in scope from this score on. The classifier's own threshold is 0."""

    threshold: float
    in_scope_rate: float
    in_scope_accuracy: float
    """Share of in-scope utterances that are called in scope and given the right intent."""
    out_of_scope_recall: float


@dataclass(frozen=True, slots=True)
class Examination:
    evaluation: Evaluation
    unknown_intents: tuple[str, ...]
    """Of the data, but not of the classifier: all their utterances count as errors."""
    errors: tuple[WorstError, ...]
    """The most confident ones."""
    matrix: ConfusionMatrix
    lengths: tuple[LengthScore, ...]
    robustness: tuple[Robustness, ...]
    scope_curve: tuple[ScopePoint, ...]
    """Empty where no out-of-scope utterances were given."""
    leakage: Leakage

    def to_json(self) -> dict[str, Any]:
        """The evaluation's figures and, beside them, the others."""
        others = {name: value for name, value in asdict(self).items() if name != "evaluation"}
        plain: dict[str, Any] = json.loads(json.dumps(others, allow_nan=False))
        return self.evaluation.to_json() | plain


def examine(
    classifier: ExaminedClassifier,
    data: TrainingSet,
    *,
    basis: str,
    training: TrainingSet | None = None,
    on_progress: OnProgress = lambda doing, done, of: None,
) -> Examination:
    """`data` must hold at least one example. Without `training`, what the classifier remembers
    of its training data is compared with the tests."""

    def classify(doing: str, texts: Sequence[str]) -> list[Prediction]:
        predictions: list[Prediction] = []
        for start in range(0, len(texts), BATCH):
            on_progress(doing, start, len(texts))
            predictions += classifier.classify_batch(texts[start : start + BATCH])
        on_progress(doing, len(texts), len(texts))
        return predictions

    inside = classify("classifying", [example.text for example in data.examples])
    outside = classify("out of scope", [example.text for example in data.out_of_scope])
    robustness = [
        measure_robustness(name, vary, data.examples, inside, partial(classify, name))
        for name, vary in VARIATIONS.items()
    ]
    return Examination(
        evaluation=evaluate_predictions(data, inside, outside, basis=basis),
        unknown_intents=tuple(sorted({*data.intents} - {*classifier.intents})),
        errors=_worst_errors(classifier, data.examples, inside),
        matrix=_confusion_matrix(data.examples, inside),
        lengths=_by_length(data.examples, inside),
        robustness=tuple(robustness),
        scope_curve=_scope_curve(data.examples, inside, outside),
        leakage=_measure_leakage(classifier, data.examples, inside, training, on_progress),
    )


def _worst_errors(
    classifier: ExaminedClassifier, examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[WorstError, ...]:
    wrong = [
        (example, prediction)
        for example, prediction in zip(examples, predictions, strict=True)
        if example.intent != prediction.intent
    ]
    wrong.sort(key=lambda pair: -pair[1].confidence)  # stable
    worst = wrong[:SHOWN_ERRORS]
    nearest = classifier.nearest([example.text for example, _ in worst], NEAREST_OF_ERRORS)
    return tuple(
        WorstError(
            text=example.text,
            expected=example.intent,
            predicted=prediction.intent,
            confidence=prediction.confidence,
            in_scope=prediction.in_scope,
            source=example.source,
            nearest=tuple(near),
        )
        for (example, prediction), near in zip(worst, nearest, strict=True)
    )


def _confusion_matrix(
    examples: Sequence[Example], predictions: Sequence[Prediction]
) -> ConfusionMatrix:
    pairs = Counter(
        (example.intent, prediction.intent)
        for example, prediction in zip(examples, predictions, strict=True)
    )
    errors: Counter[str] = Counter()
    for (expected, predicted), count in pairs.items():
        if expected != predicted:
            errors[expected] += count
            errors[predicted] += count
    worst = sorted(errors, key=lambda intent: (-errors[intent], intent))[:MIXED_INTENTS]
    shown = tuple(sorted(worst))
    counts = tuple(tuple(pairs[expected, predicted] for predicted in shown) for expected in shown)
    wanted = Counter(example.intent for example in examples)
    others = tuple(wanted[intent] - sum(row) for intent, row in zip(shown, counts, strict=True))
    return ConfusionMatrix(shown, counts, others)


def _by_length(
    examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[LengthScore, ...]:
    right_of: dict[int, list[bool]] = {}
    for example, prediction in zip(examples, predictions, strict=True):
        words = sum(is_word(token) for token in tokenize(example.text))
        group = sum(words >= least for least in LENGTHS)
        right_of.setdefault(group, []).append(example.intent == prediction.intent)
    bounds = (0, *LENGTHS)
    scores: list[LengthScore] = []
    for group, right in sorted(right_of.items()):
        low, high = wilson_interval(sum(right), len(right))
        longest = bounds[group + 1] - 1 if group + 1 < len(bounds) else None
        accuracy = sum(right) / len(right)
        scores.append(LengthScore(bounds[group], longest, len(right), accuracy, low, high))
    return tuple(scores)


def _scope_curve(
    examples: Sequence[Example], inside: Sequence[Prediction], outside: Sequence[Prediction]
) -> tuple[ScopePoint, ...]:
    """At the scores between which an equal share of all utterances lies, and at 0."""
    if not outside:
        return ()
    scores = sorted(prediction.scope_score for prediction in inside)
    outside_scores = sorted(prediction.scope_score for prediction in outside)
    right_scores = sorted(
        prediction.scope_score
        for example, prediction in zip(examples, inside, strict=True)
        if example.intent == prediction.intent
    )
    places = np.linspace(0, 1, THRESHOLDS)
    pooled = np.quantile([*scores, *outside_scores], places, method="higher")
    thresholds = sorted({*pooled.tolist(), 0.0})
    return tuple(
        ScopePoint(
            threshold=threshold,
            in_scope_rate=1 - bisect_left(scores, threshold) / len(scores),
            in_scope_accuracy=(len(right_scores) - bisect_left(right_scores, threshold))
            / len(scores),
            out_of_scope_recall=bisect_left(outside_scores, threshold) / len(outside_scores),
        )
        for threshold in thresholds
    )


def _measure_leakage(
    classifier: ExaminedClassifier,
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    training: TrainingSet | None,
    on_progress: OnProgress,
) -> Leakage:
    if training is not None:
        known = [(example.text, example.intent) for example in training.examples]
        basis = f"the {len(known):,} examples of the given training data"
    else:
        known = classifier.examples()
        trained_on = sum(classifier.card.get("intents", {}).values())
        rest = f" of {trained_on:,} trained on" if trained_on > len(known) else ""
        basis = f"the {len(known):,} training examples{rest} that the file stores"
    leaks = find_leaks(
        examples, known, on_progress=lambda done, of: on_progress("looking for leaks", done, of)
    )
    leaked = {leak.place for leak in leaks}
    clean = [
        examples[n].intent == predictions[n].intent for n in range(len(examples)) if n not in leaked
    ]
    low, high = wilson_interval(sum(clean), len(clean)) if clean else (None, None)
    return Leakage(
        basis=basis,
        training_examples=len(known),
        examples=len(examples),
        exact=sum(leak.is_exact for leak in leaks),
        near=sum(not leak.is_exact for leak in leaks),
        conflicting=sum(leak.intent != leak.training_intent for leak in leaks),
        clean_examples=len(clean),
        clean_accuracy=sum(clean) / len(clean) if clean else None,
        clean_accuracy_low=low,
        clean_accuracy_high=high,
        leaks=worst_leaks(leaks),
    )

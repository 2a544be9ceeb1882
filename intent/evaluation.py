"""How good a classifier is on utterances it was not trained on. Imports no torch."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from intent.annotation import AnnotatedSlot
from intent.calibration import ReliabilityBin, expected_calibration_error, reliability
from intent.data import Example, TrainingSet
from intent.interface import Prediction, Slot
from intent.slots import SlotCounts, score_slots

TOP_CONFUSIONS = 20
TOP_SLOT_ERRORS = 10
RESAMPLES = 1_000


class BatchClassifier(Protocol):
    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]: ...


@dataclass(frozen=True, slots=True)
class IntentScore:
    """With 95 % intervals: Wilson's (1927) for precision and recall, for F1 see `f1_interval`."""

    intent: str
    examples: int
    precision: float
    recall: float
    f1: float
    precision_low: float
    precision_high: float
    recall_low: float
    recall_high: float
    f1_low: float
    f1_high: float


@dataclass(frozen=True, slots=True)
class Confusion:
    expected: str
    predicted: str
    count: int
    example: str


@dataclass(frozen=True, slots=True)
class OutOfScopeEvaluation:
    """How well utterances of no intent are told from the others.

    `auroc` and `false_positive_rate_at_95` (the share of out-of-scope utterances let through
    by the threshold that lets 95 % of the others through) do not depend on the threshold;
    `let_through` is the share that this classifier calls in scope with its own.
    """

    examples: int
    auroc: float
    false_positive_rate_at_95: float
    let_through: float


@dataclass(frozen=True, slots=True)
class SlotScore:
    """Of one slot name, with the intervals of `IntentScore`."""

    name: str
    count: int
    """How many are expected; 0 where it was only found by mistake."""
    precision: float
    recall: float
    f1: float
    precision_low: float
    precision_high: float
    recall_low: float
    recall_high: float
    f1_low: float
    f1_high: float


@dataclass(frozen=True, slots=True)
class JudgedSlot:
    """An expected slot that was found or missed, or a found one that is right or wrong."""

    name: str
    text: str
    start: int
    end: int
    role: str | None
    is_right: bool


@dataclass(frozen=True, slots=True)
class SlotError:
    text: str
    intent: str
    source: str
    expected: tuple[JudgedSlot, ...]
    found: tuple[JudgedSlot, ...]


@dataclass(frozen=True, slots=True)
class SlotEvaluation:
    """Over all slots (micro-averaged); one is right when name, role and both ends are.

    The intervals, those of `IntentScore`, take slots for independent of one another.
    """

    count: int
    """How many are expected."""
    precision: float
    precision_low: float
    precision_high: float
    recall: float
    recall_low: float
    recall_high: float
    f1: float
    f1_low: float
    f1_high: float
    sentence_accuracy: float
    """Share of utterances whose intent and slots are all right, with Wilson's interval."""
    sentence_accuracy_low: float
    sentence_accuracy_high: float
    by_name: tuple[SlotScore, ...]
    errors: tuple[SlotError, ...]
    """Those utterances with the most slots missed or wrongly found."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    basis: str
    """Which utterances were used."""
    examples: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    """Wilson's 95 % interval for the accuracy."""
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float
    """See `macro_f1_interval`."""
    expected_calibration_error: float
    in_scope_rate: float
    """The share of these utterances, all of some intent, that is called in scope."""
    intents: tuple[IntentScore, ...]
    confusions: tuple[Confusion, ...]
    reliability: tuple[ReliabilityBin, ...]
    out_of_scope: OutOfScopeEvaluation | None = None
    slots: SlotEvaluation | None = None
    """None where no example has any; otherwise none are expected where an example has none."""

    def to_json(self) -> dict[str, Any]:
        """As it would come back from a file: lists, no tuples."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return plain


def evaluate(classifier: BatchClassifier, data: TrainingSet, *, basis: str) -> Evaluation:
    """An example of an intent that the classifier does not know counts as an error.

    `data` must hold at least one example.
    """
    return evaluate_predictions(
        data,
        classifier.classify_batch([example.text for example in data.examples]),
        classifier.classify_batch([example.text for example in data.out_of_scope]),
        basis=basis,
    )


def evaluate_predictions(
    data: TrainingSet,
    inside: Sequence[Prediction],
    outside: Sequence[Prediction],
    *,
    basis: str,
) -> Evaluation:
    """From the predictions for `data.examples` and for `data.out_of_scope`."""
    expected = [example.intent for example in data.examples]
    predicted = [prediction.intent for prediction in inside]
    correct = [e == p for e, p in zip(expected, predicted, strict=True)]
    bins = reliability([prediction.confidence for prediction in inside], correct)
    low, high = wilson_interval(sum(correct), len(correct))
    scores = _intent_scores(expected, predicted)
    macro_f1 = sum(score.f1 for score in scores) / len(scores)
    macro_low, macro_high = macro_f1_interval(expected, predicted)
    return Evaluation(
        basis=basis,
        examples=len(expected),
        accuracy=sum(correct) / len(correct),
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=macro_f1,
        macro_f1_low=min(macro_low, macro_f1),
        macro_f1_high=max(macro_high, macro_f1),
        expected_calibration_error=expected_calibration_error(bins),
        in_scope_rate=sum(prediction.in_scope for prediction in inside) / len(inside),
        intents=scores,
        confusions=_confusions(data.examples, inside),
        reliability=bins,
        out_of_scope=_evaluate_scope(inside, outside) if outside else None,
        slots=_evaluate_slots(data.examples, inside),
    )


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Everything is possible before the first trial."""
    if not trials:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # Rounding must not leave the share itself outside.
    return max(0.0, min(share, (centre - spread) / scale)), min(
        1.0, max(share, (centre + spread) / scale)
    )


def f1_interval(right: int, wanted: int, given: int) -> tuple[float, float]:
    """The "Wilson indirect" interval (Lam, Gopal and Qian 2023, arXiv:2309.14621).

    Of the utterances that belong to an intent or were given to it, the share for which both
    hold is binomial, and F1 = 2 share / (1 + share) grows with it. Likewise of the slots that
    are expected or found.
    """
    low, high = wilson_interval(right, wanted + given - right)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def macro_f1_interval(expected: Sequence[str], predicted: Sequence[str]) -> tuple[float, float]:
    """95 % percentile bootstrap (Efron 1979), from a fixed seed. Utterances are drawn intent by
    intent, so that each keeps its number; F1 is averaged over the expected intents."""
    known = sorted(set(expected))
    names = [*known, *sorted(set(predicted) - set(known))]
    number_of = {name: number for number, name in enumerate(names)}
    pairs = np.array(
        sorted((number_of[e], number_of[p]) for e, p in zip(expected, predicted, strict=True))
    )
    wanted = np.bincount(pairs[:, 0])
    sizes = np.repeat(wanted, wanted)
    starts = np.repeat(np.cumsum(wanted) - wanted, wanted)
    random = np.random.default_rng(0)
    drawn = np.empty(RESAMPLES)
    for resample in range(RESAMPLES):
        chosen = pairs[starts + (random.random(len(pairs)) * sizes).astype(np.int64), 1]
        given = np.bincount(chosen, minlength=len(names))[: len(wanted)]
        right = np.bincount(pairs[:, 0][chosen == pairs[:, 0]], minlength=len(wanted))
        drawn[resample] = (2 * right / (given + wanted)).mean()
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def _intent_scores(expected: Sequence[str], predicted: Sequence[str]) -> tuple[IntentScore, ...]:
    wanted, given = Counter(expected), Counter(predicted)
    right = Counter(e for e, p in zip(expected, predicted, strict=True) if e == p)
    return tuple(
        _intent_score(intent, right[intent], wanted[intent], given[intent])
        for intent in sorted(wanted)
    )


def _intent_score(intent: str, right: int, wanted: int, given: int) -> IntentScore:
    return IntentScore(intent=intent, examples=wanted, **_figures(right, wanted, given))


def _figures(right: int, wanted: int, given: int) -> dict[str, float]:
    """What the scores of an intent, of a slot and of all slots share."""
    precision_low, precision_high = wilson_interval(right, given)
    recall_low, recall_high = wilson_interval(right, wanted)
    f1 = 2 * right / (given + wanted) if given + wanted else 0.0
    f1_low, f1_high = f1_interval(right, wanted, given)
    return {
        "precision": right / given if given else 0.0,
        "precision_low": precision_low,
        "precision_high": precision_high,
        "recall": right / wanted if wanted else 0.0,
        "recall_low": recall_low,
        "recall_high": recall_high,
        "f1": f1,
        # 2 share / (1 + share) may round past F1 itself.
        "f1_low": min(f1_low, f1),
        "f1_high": max(f1_high, f1),
    }


def _confusions(
    examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[Confusion, ...]:
    counts: Counter[tuple[str, str]] = Counter()
    first_text: dict[tuple[str, str], str] = {}
    for example, prediction in zip(examples, predictions, strict=True):
        pair = example.intent, prediction.intent
        if example.intent != prediction.intent:
            counts[pair] += 1
            first_text.setdefault(pair, example.text)
    worst = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP_CONFUSIONS]
    return tuple(Confusion(*pair, count, first_text[pair]) for pair, count in worst)


def _evaluate_scope(
    inside: Sequence[Prediction], outside: Sequence[Prediction]
) -> OutOfScopeEvaluation:
    inside_scores = [prediction.scope_score for prediction in inside]
    outside_scores = [prediction.scope_score for prediction in outside]
    return OutOfScopeEvaluation(
        examples=len(outside),
        auroc=auroc(inside_scores, outside_scores),
        false_positive_rate_at_95=false_positive_rate(
            inside_scores, outside_scores, true_positive_rate=0.95
        ),
        let_through=sum(prediction.in_scope for prediction in outside) / len(outside),
    )


def _evaluate_slots(
    examples: Sequence[Example], predictions: Sequence[Prediction]
) -> SlotEvaluation | None:
    if not any(example.slots for example in examples):
        return None
    scores = score_slots(
        [example.slots for example in examples],
        [prediction.slots for prediction in predictions],
        [e.intent == p.intent for e, p in zip(examples, predictions, strict=True)],
    )
    whole = round(scores.sentence_accuracy * len(examples))
    sentences_low, sentences_high = wilson_interval(whole, len(examples))
    return SlotEvaluation(
        count=scores.all.right + scores.all.missed,
        **_slot_figures(scores.all),
        sentence_accuracy=scores.sentence_accuracy,
        sentence_accuracy_low=sentences_low,
        sentence_accuracy_high=sentences_high,
        by_name=tuple(
            SlotScore(name=name, count=counts.right + counts.missed, **_slot_figures(counts))
            for name, counts in scores.by_name.items()
        ),
        errors=_slot_errors(examples, predictions),
    )


def _slot_figures(counts: SlotCounts) -> dict[str, float]:
    return _figures(counts.right, counts.right + counts.missed, counts.right + counts.wrong)


def _slot_errors(
    examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[SlotError, ...]:
    errors: list[tuple[int, SlotError]] = []
    for example, prediction in zip(examples, predictions, strict=True):
        expected = _judged(example.text, example.slots, prediction.slots)
        found = _judged(example.text, prediction.slots, example.slots)
        wrong = sum(not slot.is_right for slot in expected + found)
        if wrong:
            error = SlotError(example.text, example.intent, example.source, expected, found)
            errors.append((wrong, error))
    errors.sort(key=lambda pair: -pair[0])  # stable
    return tuple(error for _, error in errors[:TOP_SLOT_ERRORS])


def _judged(
    text: str, slots: Sequence[AnnotatedSlot | Slot], against: Sequence[AnnotatedSlot | Slot]
) -> tuple[JudgedSlot, ...]:
    others = {(slot.name, slot.role, slot.start, slot.end) for slot in against}
    return tuple(
        JudgedSlot(
            name=slot.name,
            text=text[slot.start : slot.end],
            start=slot.start,
            end=slot.end,
            role=slot.role,
            is_right=(slot.name, slot.role, slot.start, slot.end) in others,
        )
        for slot in sorted(slots, key=lambda slot: slot.start)
    )


def auroc(inside: Sequence[float], outside: Sequence[float]) -> float:
    """The chance that a random utterance inside scores above a random one outside."""
    ordered = sorted([(score, True) for score in inside] + [(score, False) for score in outside])
    wins = 0.0
    outside_below = 0
    start = 0
    while start < len(ordered):
        end = start
        while end < len(ordered) and ordered[end][0] == ordered[start][0]:
            end += 1
        inside_tied = sum(is_inside for _, is_inside in ordered[start:end])
        outside_tied = end - start - inside_tied
        wins += inside_tied * (outside_below + outside_tied / 2)
        outside_below += outside_tied
        start = end
    return wins / (len(inside) * len(outside))


def false_positive_rate(
    inside: Sequence[float], outside: Sequence[float], *, true_positive_rate: float
) -> float:
    """The share of `outside` let through by the threshold that lets this share of `inside`."""
    allowed_misses = math.floor((1 - true_positive_rate) * len(inside) + 1e-9)
    threshold = sorted(inside)[allowed_misses]
    return sum(score >= threshold for score in outside) / len(outside)

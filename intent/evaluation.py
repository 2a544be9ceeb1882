"""How good a classifier is on utterances it was not trained on."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from intent.calibration import ReliabilityBin, expected_calibration_error, reliability
from intent.data import TrainingSet
from intent.interface import Prediction

TOP_CONFUSIONS = 20


class ScoringClassifier(Protocol):
    def judge(self, texts: Sequence[str]) -> list[tuple[Prediction, float]]:
        """Each prediction with its scope score: the higher, the more like the training data."""


@dataclass(frozen=True, slots=True)
class IntentScore:
    intent: str
    examples: int
    precision: float
    recall: float
    f1: float


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
class Evaluation:
    basis: str
    """Which utterances were used."""
    examples: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    """Wilson's 95 % interval for the accuracy."""
    macro_f1: float
    expected_calibration_error: float
    in_scope_rate: float
    """The share of these utterances, all of some intent, that is called in scope."""
    intents: tuple[IntentScore, ...]
    confusions: tuple[Confusion, ...]
    reliability: tuple[ReliabilityBin, ...]
    out_of_scope: OutOfScopeEvaluation | None = None

    def to_json(self) -> dict[str, Any]:
        """As it would come back from a file: lists, no tuples."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return plain


def evaluate(classifier: ScoringClassifier, data: TrainingSet, *, basis: str) -> Evaluation:
    """An example of an intent that the classifier does not know counts as an error.

    `data` must hold at least one example.
    """
    judged = classifier.judge([example.text for example in data.examples])
    predictions = [prediction for prediction, _ in judged]
    expected = [example.intent for example in data.examples]
    correct = [p.intent == intent for p, intent in zip(predictions, expected, strict=True)]
    bins = reliability([prediction.confidence for prediction in predictions], correct)
    low, high = wilson_interval(sum(correct), len(correct))
    scores = _intent_scores(expected, [prediction.intent for prediction in predictions])
    return Evaluation(
        basis=basis,
        examples=len(expected),
        accuracy=sum(correct) / len(correct),
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=sum(score.f1 for score in scores) / len(scores),
        expected_calibration_error=expected_calibration_error(bins),
        in_scope_rate=sum(prediction.in_scope for prediction in predictions) / len(predictions),
        intents=scores,
        confusions=_confusions(data, predictions),
        reliability=bins,
        out_of_scope=_evaluate_scope(classifier, data, [score for _, score in judged]),
    )


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _intent_scores(expected: Sequence[str], predicted: Sequence[str]) -> tuple[IntentScore, ...]:
    wanted, given = Counter(expected), Counter(predicted)
    right = Counter(e for e, p in zip(expected, predicted, strict=True) if e == p)
    return tuple(
        IntentScore(
            intent=intent,
            examples=wanted[intent],
            precision=right[intent] / given[intent] if given[intent] else 0.0,
            recall=right[intent] / wanted[intent],
            f1=2 * right[intent] / (given[intent] + wanted[intent]),
        )
        for intent in sorted(wanted)
    )


def _confusions(data: TrainingSet, predictions: Sequence[Prediction]) -> tuple[Confusion, ...]:
    counts: Counter[tuple[str, str]] = Counter()
    first_text: dict[tuple[str, str], str] = {}
    for example, prediction in zip(data.examples, predictions, strict=True):
        pair = example.intent, prediction.intent
        if example.intent != prediction.intent:
            counts[pair] += 1
            first_text.setdefault(pair, example.text)
    worst = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP_CONFUSIONS]
    return tuple(Confusion(*pair, count, first_text[pair]) for pair, count in worst)


def _evaluate_scope(
    classifier: ScoringClassifier, data: TrainingSet, inside: Sequence[float]
) -> OutOfScopeEvaluation | None:
    if not data.out_of_scope:
        return None
    judged = classifier.judge([example.text for example in data.out_of_scope])
    outside = [score for _, score in judged]
    return OutOfScopeEvaluation(
        examples=len(outside),
        auroc=auroc(inside, outside),
        false_positive_rate_at_95=false_positive_rate(inside, outside, true_positive_rate=0.95),
        let_through=sum(prediction.in_scope for prediction, _ in judged) / len(judged),
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

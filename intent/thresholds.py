"""Which thresholds of the assurance are tried, and what is counted at each. Imports no torch."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from intent.artifact import Artifact
from intent.certificate import CONFIDENCE_EDGES, REVIEWED, Calibration, Shares
from intent.classifier import GRUClassifier
from intent.data import Example, TrainingSet
from intent.interface import Prediction
from intent.text import is_word, tokenize

ANSWERED = (
    *(0.02, 0.03, 0.05, 0.075),
    *(n / 40 for n in range(4, 32)),
    *(n / 200 for n in range(160, 201)),
)
"""Shares of in-scope utterances that the tried thresholds are to answer, strict to loose."""
USUAL = tuple(round(1 - n / 100, 2) for n in range(1, 80))
"""Thresholds where too few utterances are at hand to choose them by."""
USUALLY_EXPECTED: tuple[Shares, ...] = tuple(
    (0.4 + 0.59 * step, 0.004 + 0.04 * step**3, 0.01 + 0.3 * step**3)
    for step in (n / (len(USUAL) - 1) for n in range(len(USUAL)))
)
"""As on the three public sets, roughly; that it is off costs answers, and never the promise."""
UNCLEAR = ""
"""No intent has this name, so whatever is predicted for it is wrong."""
FEWEST_TO_CHOOSE = 100
FEWEST_WRONG = 3
MOST_WRONG = 0.2
"""Where an intent got so many instant answers and so large a share of them was wrong, it needs
more assurance than others."""

Judged = tuple[TrainingSet, Sequence[Prediction], Sequence[Prediction]]
"""Utterances, and the predictions for those in and out of scope."""


@dataclass(frozen=True, slots=True)
class ThresholdPlan:
    """Fixed before anything is counted, and chosen by other utterances than will be."""

    thresholds: tuple[float, ...] = USUAL
    expected: tuple[Shares, ...] = USUALLY_EXPECTED
    floors: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, judged: Judged) -> Self:
        """From utterances that the network was not trained on."""
        _, inside, _ = judged
        if len(inside) < FEWEST_TO_CHOOSE:
            return cls()
        assurances = np.array([one.assurance for one in inside])
        found = np.quantile(assurances, 1 - np.array(ANSWERED), method="lower")
        plan = cls(tuple(sorted(set(found.tolist()), reverse=True)), (), _floors(judged))
        counted = plan.count([judged], basis="held_out")
        # Half an utterance more: what did not happen yet may happen.
        shares = zip(counted.answered, counted.wrong, counted.let_through, strict=True)
        return replace(
            plan,
            expected=tuple(
                (
                    answered / counted.inside,
                    (wrong + 0.5) / (counted.inside + 1),
                    (let_through + 0.5) / (counted.outside + 1),
                )
                for answered, wrong, let_through in shares
            ),
        )

    def count(self, judged: Sequence[Judged], *, basis: str, seen: int = 0) -> Calibration:
        """All together, each part with the predictions of the network that had not seen it."""
        right: list[float] = []
        wrong: list[float] = []
        outside: list[float] = []
        examples: list[Example] = []
        in_scope = [0, 0]
        confidences = [[0] * (len(CONFIDENCE_EDGES) + 1) for _ in range(4)]
        for data, predictions, strange in judged:
            for example, prediction in zip(data.examples, predictions, strict=True):
                is_right = example.intent == prediction.intent
                (right if is_right else wrong).append(self.assurance(prediction))
                in_scope[0] += prediction.in_scope
            outside += map(self.assurance, strange)
            in_scope[1] += sum(one.in_scope for one in strange)
            for first_row, judged_ones in ((0, predictions), (2, strange)):
                for one in judged_ones:
                    row = confidences[first_row + (not one.in_scope)]
                    row[bisect_right(CONFIDENCE_EDGES, one.confidence)] += 1
            examples += data.examples
        answered = self.passing([*right, *wrong])
        return Calibration(
            basis=basis,
            thresholds=self.thresholds,
            expected=self.expected,
            floors=tuple(self.floors.items()),
            inside=len(examples),
            outside=len(outside),
            answered=answered,
            wrong=self.passing(wrong),
            let_through=self.passing(outside),
            all_wrong=len(wrong),
            intents=len({example.intent for example in examples}),
            in_scope=(in_scope[0], in_scope[1]),
            seen=seen,
            contradictory=_contradictory(examples),
            confidences=tuple(map(tuple, confidences)),
        )

    def count_sample(
        self,
        sampled: Judged,
        unclear: Sequence[Prediction],
        *,
        period: tuple[str, str],
        tries: int,
    ) -> Calibration:
        """Messages as they were drawn: what was said twice counts twice, and what the network was
        trained on counts, too, since people go on saying both.

        An `unclear` one counts for what it would be at worst, on both sides: as wrong in scope,
        and as answered out of scope at whatever threshold."""
        data, inside, outside = sampled
        nothing = (Example("", UNCLEAR),) * len(unclear)
        both = (
            replace(data, examples=(*data.examples, *nothing)),
            (*inside, *unclear),
            (*outside, *(replace(one, assurance=1.0) for one in unclear)),
        )
        counted = self.count([both], basis=REVIEWED)
        return replace(
            counted,
            intents=len({example.intent for example in data.examples}),
            contradictory=_contradictory(data.examples),
            unclear=len(unclear),
            period=period,
            tries=tries,
        )

    def assurance(self, prediction: Prediction) -> float:
        """Below every threshold where the intent's own floor is missed."""
        reached = prediction.assurance >= self.floors.get(prediction.intent, 0.0)
        return prediction.assurance if reached else -1.0

    def passing(self, assurances: Sequence[float] | NDArray[np.float64]) -> tuple[int, ...]:
        """How many reach each threshold."""
        ordered = np.sort(np.array(assurances, np.float64))
        below = np.searchsorted(ordered, np.array(self.thresholds), side="left")
        return tuple((len(ordered) - below).tolist())


def judge(artifact: Artifact, data: TrainingSet) -> Judged:
    classifier = GRUClassifier(artifact)
    inside, outside = (
        classifier.classify_batch([example.text for example in examples])
        for examples in (data.examples, data.out_of_scope)
    )
    return data, inside, outside


def recount(artifact: Artifact, data: TrainingSet) -> Artifact:
    """The same network, with what is counted on `data` for its calibration. Utterances that the
    file remembers from its training are left out."""
    plan = ThresholdPlan()
    if artifact.calibration is not None:
        before = artifact.calibration
        plan = ThresholdPlan(before.thresholds, before.expected, dict(before.floors))
    stored = (*artifact.scope.inside.texts, *artifact.scope.outside.texts)
    fresh = unseen(data, TrainingSet(tuple(Example(text, "") for text in stored)))
    counted = plan.count([judge(artifact, fresh)], basis="given", seen=data.size - fresh.size)
    return replace(artifact, calibration=counted)


def unseen(data: TrainingSet, *known: TrainingSet) -> TrainingSet:
    """Without utterances that are in `known`, word for word, and each once under an intent."""
    texts = {
        _words(example.text) for part in known for example in (*part.examples, *part.out_of_scope)
    }
    return distinct(
        replace(
            data,
            examples=tuple(one for one in data.examples if _words(one.text) not in texts),
            out_of_scope=tuple(one for one in data.out_of_scope if _words(one.text) not in texts),
        )
    )


def distinct(data: TrainingSet) -> TrainingSet:
    """The same words pasted twice are one utterance: they say nothing new of the network."""
    return replace(
        data, examples=_distinct(data.examples), out_of_scope=_distinct(data.out_of_scope)
    )


def _distinct(examples: Iterable[Example]) -> tuple[Example, ...]:
    return tuple({(_words(one.text), one.intent): one for one in examples}.values())


def _words(text: str) -> tuple[str, ...]:
    """Whatever its case and punctuation; a text without words is its tokens."""
    tokens = tokenize(text)
    return tuple(token for token in tokens if is_word(token)) or tuple(tokens)


def _contradictory(examples: Iterable[Example]) -> int:
    intents: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for example in examples:
        intents[_words(example.text)].add(example.intent)
    return sum(len(one) for one in intents.values() if len(one) > 1)


def _floors(judged: Judged) -> dict[str, float]:
    """For intents that are often given to utterances of others, the least assurance above which
    that happened rarely."""
    data, inside, outside = judged
    found: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    expected = [*(example.intent for example in data.examples), *(None for _ in outside)]
    for intent, prediction in zip(expected, (*inside, *outside), strict=True):
        if prediction.in_scope:
            is_wrong = intent != prediction.intent
            found[prediction.intent].append((prediction.assurance, is_wrong))
    return {
        intent: _floor(answers)
        for intent, answers in sorted(found.items())
        if (wrong := sum(is_wrong for _, is_wrong in answers)) >= FEWEST_WRONG
        and wrong > MOST_WRONG * len(answers)
    }


def _floor(answers: Sequence[tuple[float, bool]]) -> float:
    counts: Counter[bool] = Counter()
    floor = 1.0
    for assurance, is_wrong in sorted(answers, reverse=True):
        counts[is_wrong] += 1
        if counts[True] <= MOST_WRONG / 2 * counts.total():
            floor = assurance
    return floor

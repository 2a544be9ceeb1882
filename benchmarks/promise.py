"""Is the promise of the instant answers kept, and what does it cost?

    TWOFOLD_DATA=/path/to/data python -m benchmarks.promise [--cache FILE] [--json FILE]

The data folder holds intents/clinc150/, as for benchmarks.intent. The network is trained once, on
the train part; the valid part chooses the thresholds that are tried. The test part is the
population: calibrations are drawn from it with replacement, so that the true share of wrong
answers of every threshold is known, and so whether a promise was broken. `--cache` keeps the
predictions, and takes them from there the next time. One thread.

The oracle answers what is in scope instantly, and nothing else. Its saving is the generator calls
that it avoids: the share of the messages that are in scope.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from app.dialogue.routing import Grounds, RoutingPolicy
from app.dialogue.state import DialogueState
from benchmarks.intent import validation, with_strangers
from benchmarks.intent_engines import GRU
from intent.assurance import assurance
from intent.certificate import Calibration, certify
from intent.data import Example, TrainingSet, read
from intent.interface import Prediction, Promise, RankedIntent
from intent.thresholds import Judged, ThresholdPlan

Assurances = NDArray[np.float64]
PARTS = ("valid_inside", "valid_outside", "test_inside", "test_outside")
PROMISES = (Promise(0.05, 0.9, 0.9), Promise(0.05, 0.9, 0.6), Promise(0.05, 0.9, 0.3))
STRICT = Promise(0.02, 0.9, 0.9)
DECISIONS = 50_000


@dataclass(frozen=True, slots=True)
class Figure:
    """Means over recalibrations; where nothing was certified, nothing is answered instantly."""

    rule: str
    promise: Promise
    messages: int
    """In each calibration."""
    recalibrations: int
    broken: float
    certified: float
    answered: float
    """Of the in-scope messages, those answered instantly."""
    saved: float
    """Generator calls avoided, as a share of those that the oracle avoids."""
    saved_rightly: float
    """The same without those avoided by a wrong answer."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    root = os.environ.get("TWOFOLD_DATA")
    if not root:
        print("skipped: set TWOFOLD_DATA to the folder that holds intents/")
        return 0
    folder = Path(root, "intents", "clinc150")
    if not folder.is_dir():
        print(f"skipped: {folder} does not exist")
        return 0
    torch.set_num_threads(1)
    console = Console(width=None if sys.stdout.isatty() else 160)
    predictions = _predictions(folder, options.cache, options.seed)
    population = Population.of(predictions)
    figures = []
    for promise in (*PROMISES, STRICT):
        for size in options.messages:
            figures += population.try_out(promise, size, options.recalibrations)
    console.print(table(figures))
    microseconds = decision_microseconds(predictions)
    console.print(f"\nThe routing decision, above the classifier: {microseconds:.1f} CPU-µs")
    if options.json:
        rows = {"figures": [asdict(one) for one in figures], "decision_us": microseconds}
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.promise",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recalibrations", type=int, default=1_000, metavar="N")
    parser.add_argument("--messages", type=int, nargs="+", default=(5_000,), metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--cache", type=Path, metavar="FILE", help="predictions, .npz")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


@dataclass(frozen=True)
class Predictions:
    """By part: label, predicted label (-1: none), confidence and scope score, (N, 4)."""

    parts: dict[str, NDArray[np.float64]]

    def of(self, part: str) -> list[Prediction]:
        return [
            Prediction(
                intent=str(int(intent)),
                confidence=confidence,
                ranking=(RankedIntent(str(int(intent)), confidence),),
                in_scope=score >= 0,
                scope_score=score,
                assurance=assurance(confidence, score),
            )
            for _, intent, confidence, score in self.parts[part].tolist()
        ]

    def judged(self) -> Judged:
        """The valid part, which thresholds are chosen by."""
        labels = self.parts["valid_inside"][:, 0].tolist()
        examples = tuple(Example("", str(int(label))) for label in labels)
        return TrainingSet(examples), self.of("valid_inside"), self.of("valid_outside")


def _predictions(folder: Path, cache: Path | None, seed: int) -> Predictions:
    if cache is not None and cache.exists():
        with np.load(cache) as stored:
            return Predictions({part: stored[part] for part in PARTS})
    valid = validation(folder)
    test = with_strangers(read(folder / "test.jsonl"), folder / "oos_test.jsonl")
    with tempfile.TemporaryDirectory() as scratch:
        data = read(folder / "train.jsonl")
        fitted = GRU().fit(data, valid, Path(scratch), seed, lambda news: None)
    number_of = {intent: number for number, intent in enumerate(data.intents)}
    parts = {}
    for name, examples in zip(
        PARTS,
        (valid.examples, valid.out_of_scope, test.examples, test.out_of_scope),
        strict=True,
    ):
        found = fitted.classifier.classify_batch([example.text for example in examples])
        rows = [
            (number_of.get(e.intent, -1), number_of[p.intent], p.confidence, p.scope_score)
            for e, p in zip(examples, found, strict=True)
        ]
        parts[name] = np.array(rows, np.float64)
    if cache is not None:
        np.savez(cache, **parts)  # type: ignore[arg-type]
    return Predictions(parts)


@dataclass(frozen=True)
class Population:
    """Assurances of the test utterances, -1 where an intent's floor is missed."""

    plan: ThresholdPlan
    right: Assurances
    wrong: Assurances
    outside: Assurances

    @classmethod
    def of(cls, predictions: Predictions) -> "Population":
        plan = ThresholdPlan.of(predictions.judged())
        inside = np.array([plan.assurance(one) for one in predictions.of("test_inside")])
        outside = np.array([plan.assurance(one) for one in predictions.of("test_outside")])
        rows = predictions.parts["test_inside"]
        is_right = rows[:, 0] == rows[:, 1]
        return cls(plan, inside[is_right], inside[~is_right], outside)

    @property
    def inside(self) -> int:
        return len(self.right) + len(self.wrong)

    def try_out(self, promise: Promise, size: int, recalibrations: int) -> list[Figure]:
        share = promise.least_in_scope
        chosen: dict[str, list[float]] = {"certificate": [], "naive": []}
        random = np.random.default_rng(0)
        for _ in range(recalibrations):
            drawn = self._draw(random, round(share * size), size)
            certificate = certify.__wrapped__(drawn.counted(), promise)
            point = certificate.point
            chosen["certificate"].append(point.threshold if point else math.inf)
            chosen["naive"].append(drawn.naive_threshold(promise.max_wrong_instant))
        figures = []
        for rule, thresholds in chosen.items():
            tried = np.array(thresholds)
            right = _share_from(tried, self.right) * len(self.right) / self.inside
            wrong = _share_from(tried, self.wrong) * len(self.wrong) / self.inside
            let_through = _share_from(tried, self.outside)
            instant = share * (right + wrong) + (1 - share) * let_through
            failed = share * wrong + (1 - share) * let_through
            figures.append(
                Figure(
                    rule=rule,
                    promise=promise,
                    messages=size,
                    recalibrations=recalibrations,
                    broken=float((failed > promise.max_wrong_instant * instant).mean()),
                    certified=float(np.isfinite(tried).mean()),
                    answered=float((right + wrong).mean()),
                    saved=float(instant.mean() / share),
                    saved_rightly=float(right.mean()),
                )
            )
        return figures

    def _draw(self, random: np.random.Generator, inside: int, size: int) -> "Population":
        chosen = random.integers(0, self.inside, inside)
        right = chosen[chosen < len(self.right)]
        wrong = chosen[chosen >= len(self.right)] - len(self.right)
        outside = random.integers(0, len(self.outside), size - inside)
        return replace(
            self,
            right=self.right[right],
            wrong=self.wrong[wrong],
            outside=self.outside[outside],
        )

    def counted(self) -> Calibration:
        counts = (
            tuple(self.plan.passing(each))
            for each in (np.concatenate([self.right, self.wrong]), self.wrong, self.outside)
        )
        answered, wrong, let_through = counts
        return Calibration(
            basis="given",
            thresholds=self.plan.thresholds,
            expected=self.plan.expected,
            floors=(),
            inside=self.inside,
            outside=len(self.outside),
            answered=answered,
            wrong=wrong,
            let_through=let_through,
            all_wrong=len(self.wrong),
            intents=2,
            in_scope=(0, 0),
        )

    def naive_threshold(self, most_wrong: float) -> float:
        """The loosest at which few enough of the drawn messages are answered wrongly."""
        assurances = np.concatenate([self.right, self.wrong, self.outside])
        failed = np.arange(len(assurances)) >= len(self.right)
        order = np.argsort(-assurances, kind="stable")
        shares = np.cumsum(failed[order]) / np.arange(1, len(order) + 1)
        kept = np.nonzero(shares <= most_wrong)[0]
        return float(assurances[order][kept[-1]]) if len(kept) else math.inf


def _share_from(thresholds: Assurances, assurances: Assurances) -> Assurances:
    below = np.searchsorted(np.sort(assurances), thresholds, side="left")
    share: Assurances = 1 - below / len(assurances)
    return share


def decision_microseconds(predictions: Predictions) -> float:
    """CPU of what comes on top of confidence and scope score: assurance and decision."""
    found = predictions.of("test_inside") + predictions.of("test_outside")
    judged = predictions.judged()
    plan = ThresholdPlan.of(judged)
    certificate = certify(plan.count([judged], basis="given"), Promise())
    policy, state = RoutingPolicy(), DialogueState()
    started = time.process_time()
    for number in range(DECISIONS):
        prediction = found[number % len(found)]
        assurance(prediction.confidence, prediction.scope_score)
        grounds = Grounds(certificate)
        policy.choose(prediction, state, grounds)
    return (time.process_time() - started) / DECISIONS * 1e6


def table(figures: Sequence[Figure]) -> Table:
    shown = Table("in scope", "promised", "messages", "rule", box=box.MARKDOWN)
    for heading in ("broken", "certified", "answered", "saving kept", "by right answers"):
        shown.add_column(heading, justify="right")
    for one in figures:
        shares = (one.broken, one.certified, one.answered, one.saved, one.saved_rightly)
        shown.add_row(
            f"{one.promise.least_in_scope:.0%}",
            f"{one.promise.max_wrong_instant:.0%} wrong",
            f"{one.messages:,}",
            one.rule,
            *(f"{share:.1%}" for share in shares),
        )
    return shown


if __name__ == "__main__":
    sys.exit(main())

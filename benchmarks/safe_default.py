"""What an instant answer should take where nothing is certified: rules, and what they let through.

    TWOFOLD_DATA=/path/to/data python -m benchmarks.safe_default

The data folder holds intents/clinc150/ and intents/banking77/, as for benchmarks.intent. Networks
of operators who begin are trained as the server does, and asked about validation data; strangers
are CLINC150's, and for a few intents of it one in ten utterances of all others as well. The whole
CLINC150 is trained with its validation part; its test part is shown apart. One thread; about ten
CPU-minutes.
"""

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.intent import validation, with_strangers
from benchmarks.intent_engines import GRU
from intent.classifier import GRUClassifier
from intent.data import Example, TrainingSet, read, training_set
from intent.encoder import PretrainedEncoder
from intent.interface import OUT_OF_SCOPE, Prediction
from intent.training import Trained, train

MIXES = (0.9, 0.6, 0.3)
DRAWS = 8
FEW_INTENTS, EXAMPLES_OF_EACH = 5, 8
RULES = (
    (0.8, 0.0),
    (0.95, 0.0),
    (0.0, 0.95),
    *((confidence, least) for confidence in (0.8, 0.9) for least in (0.95, 0.97, 0.98)),
)
"""Least confidence and assurance, in scope."""


@dataclass(frozen=True)
class Asked:
    """What a network makes of each: right, confidence, assurance, called in scope; (N, 4)."""

    inside: NDArray[np.float64]
    outside: NDArray[np.float64]
    trained: NDArray[np.float64]

    @classmethod
    def of(cls, classifier: GRUClassifier, data: TrainingSet, asked: TrainingSet) -> "Asked":
        def rows(examples: Sequence[Example]) -> NDArray[np.float64]:
            found = classifier.classify_batch([one.text for one in examples])
            return np.array([_row(*pair) for pair in zip(examples, found, strict=True)])

        return cls(rows(asked.examples), rows(asked.out_of_scope), rows(data.examples))

    def under(self, confidence: float, assurance: float) -> tuple[float, ...]:
        """Wrong of the instant answers at each of MIXES, then the shares that are answered of what
        is in scope, and rightly of the trained wordings."""

        def hits(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
            sure: NDArray[np.bool_] = (rows[:, 1] >= confidence) & (rows[:, 2] >= assurance)
            return sure & (rows[:, 3] > 0)

        inside = hits(self.inside)
        answered, let_through = float(inside.mean()), float(hits(self.outside).mean())
        wrong = float((inside & (self.inside[:, 0] == 0)).mean())
        shares = []
        for mix in MIXES:
            instant = mix * answered + (1 - mix) * let_through
            shares.append((mix * wrong + (1 - mix) * let_through) / instant if instant else 0.0)
        known = hits(self.trained) & (self.trained[:, 0] > 0)
        return *shares, answered, float(known.mean())


def _row(example: Example, prediction: Prediction) -> tuple[float, ...]:
    right = example.intent == prediction.intent
    return right, prediction.confidence, prediction.assurance, prediction.in_scope


def main(arguments: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser(
        prog="python -m benchmarks.safe_default",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(arguments)
    root = os.environ.get("TWOFOLD_DATA")
    if not root or not Path(root, "intents", "clinc150").is_dir():
        print("skipped: set TWOFOLD_DATA to the folder that holds intents/clinc150/")
        return 0
    torch.set_num_threads(1)
    console = Console(width=None if sys.stdout.isatty() else 160)
    for title, networks in _networks(Path(root, "intents")):
        console.print(title)
        console.print(table(list(networks())))
    return 0


def _networks(root: Path) -> Iterator[tuple[str, Callable[[], Iterator[Asked]]]]:
    clinc = root / "clinc150"
    valid = validation(clinc)
    strangers = with_strangers(TrainingSet(()), clinc / "oos_train.jsonl").out_of_scope

    def few() -> Iterator[Asked]:
        examples = read(clinc / "train_10.jsonl")
        for seed in range(DRAWS):
            chosen = random.Random(seed).sample(list(examples.intents), FEW_INTENTS)
            parts = [[e for e in examples.examples if e.intent == one] for one in chosen]
            data = training_set([e for part in parts for e in part[:EXAMPLES_OF_EACH]])
            others = [
                replace(e, intent=OUT_OF_SCOPE) for e in valid.examples if e.intent not in chosen
            ]
            yield _fit(
                data,
                TrainingSet(
                    tuple(e for e in valid.examples if e.intent in chosen),
                    (*valid.out_of_scope, *others[::10]),
                ),
            )

    def shots(folder: str, file: str, outside: int) -> Callable[[], Iterator[Asked]]:
        def made() -> Iterator[Asked]:
            data = replace(read(root / folder / file), out_of_scope=strangers[:outside])
            asked = valid if folder == "clinc150" else read(root / folder / "valid.jsonl")
            yield _fit(data, replace(asked, out_of_scope=valid.out_of_scope))

        return made

    yield f"{FEW_INTENTS} intents of {EXAMPLES_OF_EACH} examples, {DRAWS} draws", few
    yield "CLINC150, five examples", shots("clinc150", "train_5.jsonl", 0)
    yield "CLINC150, ten examples, 100 strangers", shots("clinc150", "train_10.jsonl", 100)
    if (root / "banking77").is_dir():
        yield "BANKING77, five examples", shots("banking77", "train_5.jsonl", 0)
    data = read(clinc / "train.jsonl")
    with tempfile.TemporaryDirectory() as scratch:
        fitted = GRU().fit(data, valid, Path(scratch), 0, lambda news: None)
    assert isinstance(fitted.classifier, GRUClassifier)
    whole = fitted.classifier
    test = with_strangers(read(clinc / "test.jsonl"), clinc / "oos_test.jsonl")
    for part, asked in (("validation", valid), ("test", test)):
        yield (
            f"CLINC150, whole, {part} part",
            lambda asked=asked: iter(  # type: ignore[misc]
                [Asked.of(whole, data, asked)]
            ),
        )


def _fit(data: TrainingSet, asked: TrainingSet) -> Asked:
    for step in train(data, encoder=PretrainedEncoder.load()):
        if isinstance(step, Trained):
            return Asked.of(GRUClassifier(step.artifact), data, asked)
    raise AssertionError("a training that ends with no network")


def table(networks: Sequence[Asked]) -> Table:
    shown = Table("confidence", "assurance", box=box.MARKDOWN)
    for mix in MIXES:
        shown.add_column(f"wrong, {mix:.0%} in scope", justify="right")
    shown.add_column("in scope answered", justify="right")
    shown.add_column("trained wordings answered", justify="right")
    for confidence, assurance in RULES:
        found = np.array([one.under(confidence, assurance) for one in networks])
        cells = [f"{mean:.1%}" for mean in found.mean(axis=0).tolist()]
        if len(networks) > 1:
            worst = found.max(axis=0)[: len(MIXES)].tolist()
            cells[: len(MIXES)] = [
                f"{cell} (at worst {one:.1%})" for cell, one in zip(cells, worst, strict=False)
            ]
        shown.add_row(f"{confidence:g}", f"{assurance:g}", *cells)
    return shown


if __name__ == "__main__":
    sys.exit(main())

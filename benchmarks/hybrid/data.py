"""CLINC150 as the benchmark of the hybrid uses it."""

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from benchmarks.hybrid.figures import (
    Message,
)
from benchmarks.intent import validation, with_strangers
from intent.data import TrainingSet, read

EVERY = 5


@dataclass(frozen=True)
class Data:
    train: TrainingSet
    valid: TrainingSet
    calibration: TrainingSet
    inside: tuple[Message, ...]
    outside: tuple[Message, ...]

    @classmethod
    def of(cls, folder: Path) -> Self:
        test = with_strangers(read(folder / "test.jsonl"), folder / "oos_test.jsonl")
        learned, strangers = read(folder / "train.jsonl"), folder / "oos_train.jsonl"
        unseen = validation(folder)
        more = with_strangers(learned, strangers).out_of_scope
        unseen = replace(unseen, out_of_scope=unseen.out_of_scope + more)
        return cls(
            learned,
            _part(unseen, every=True),
            _part(unseen, every=False),
            tuple(Message(one.text, one.intent) for one in test.examples),
            tuple(Message(one.text, None) for one in test.out_of_scope),
        )

    def stream(self, in_scope: float, *, most: int, seed: int) -> list[Message]:
        """In random order, none twice, as long as the data allow."""
        size = min(most, *(
            int(len(part) / share)
            for part, share in ((self.inside, in_scope), (self.outside, 1 - in_scope))
            if share > 0
        ))  # fmt: skip
        known = round(in_scope * size)
        drawn = random.Random(seed)
        stream = drawn.sample(self.inside, known) + drawn.sample(self.outside, size - known)
        return drawn.sample(stream, size)


def _part(data: TrainingSet, *, every: bool) -> TrainingSet:
    """Every fifth utterance, or the others."""
    return replace(
        data,
        examples=tuple(e for n, e in enumerate(data.examples) if (n % EVERY == 0) is every),
        out_of_scope=tuple(e for n, e in enumerate(data.out_of_scope) if (n % EVERY == 0) is every),
    )

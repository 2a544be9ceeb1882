"""What the similarity of two answers separates, on the questions of benchmarks/answers/train.

    python -m benchmarks.agreement [--fields 20]

An answer beside the sentences and the whole passage that it comes from should be found alike,
beside answers to other questions not. No passage of `heldout/` is read.
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from generator.agreement import ALIKE, agreement
from generator.reader import Reader

FOLDER = Path(__file__).parent / "answers" / "train"
QUESTIONS_A_FIELD = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=20)
    files = sorted(FOLDER.glob("*.yml"))
    step = max(1, len(files) // parser.parse_args().fields)
    pairs: dict[str, list[tuple[str, str]]] = {}
    for file in files[::step]:
        for kind, first, second in _pairs(yaml.safe_load(file.read_text("utf-8"))):
            pairs.setdefault(kind, []).append((first, second))
    reader = Reader()
    print(
        f"{'second answer':<44} {'pairs':>6} {'below ' + str(ALIKE):>10} {'called differing':>17}"
    )
    for kind, each in pairs.items():
        found = [agreement(reader, *pair) for pair in each]
        below = sum(one.similarity < ALIKE for one in found) / len(found)
        differing = sum(bool(one.differs_in) for one in found) / len(found)
        print(f"{kind:<44} {len(found):>6} {below:>10.3f} {differing:>17.3f}")


def _pairs(field: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    draw = random.Random(7)
    asked = [
        (place, question, passage["text"])
        for place, passage in enumerate(field["passages"])
        for question in passage.get("questions", ())
    ]
    draw.shuffle(asked)
    for place, question, text in islice(asked, QUESTIONS_A_FIELD):
        said = question["say"]
        yield "the same: the sentences it comes from", said, " ".join(question["from"])
        yield "the same: the whole passage", said, text
        here = [one["say"] for where, one, _ in asked if where == place and one is not question]
        there = [one["say"] for where, one, _ in asked if where != place]
        yield from _one_of("another question's, of the same passage", said, here, draw)
        yield from _one_of("another question's, of another passage", said, there, draw)


def _one_of(
    kind: str, said: str, others: Sequence[str], draw: random.Random
) -> Iterator[tuple[str, str, str]]:
    if others:
        yield kind, said, draw.choice(others)


if __name__ == "__main__":
    main()

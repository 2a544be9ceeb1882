"""Does the form of a question give away whether it has an answer?

    python -m benchmarks.answer_forms

A logistic regression sees only how a question of benchmarks/answers/ is put (how it begins, commas,
digits, length), nothing of its subject and no passage. How well it tells questions with an answer
from those without, as AUROC, is what a generator could learn without reading (as Gururangan et al.
2018 found in other data sets); 0.5 is nothing. Fitted on train/ but for six fields.
"""

import re
import sys
from collections.abc import Callable, Sequence
from math import log

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.answering import questions_of, read_fields
from generator.teaching.command import VALIDATION_FIELDS
from generator.teaching.reader_validation import auroc, logistic_regression

SIGNS = [
    re.compile(pattern, flags)
    for flags, patterns in (
        (0, (r"^[A-Z]", r"\?$", ",", "'", r"\d")),
        (
            re.IGNORECASE,
            (
                *(rf"^{word}\b" for word in ("can", "do", "does", "is", "are", "may", "will")),
                *(rf"^{word}\b" for word in ("how", "who", "what", "when", "where", "why")),
                *(rf"\bhow {word}\b" for word in ("long", "many", "much")),
                *(rf"\b{word}\b" for word in ("i", "my", "we", "you", "if", "is there|are there")),
            ),
        ),
    )
    for pattern in patterns
]

Asked = tuple[list[str], NDArray[np.bool_]]
"""Questions that need no turn before, and which of them have an answer."""


def main() -> int:
    learnt = asked("train", lambda field: field not in VALIDATION_FIELDS)
    weights, _ = logistic_regression(features(learnt[0]), learnt[1].astype(np.float64))
    parts = {
        "train": learnt,
        "its six validation fields": asked("train", VALIDATION_FIELDS.__contains__),
        "heldout": asked("heldout"),
        "its near misses": asked("heldout", near=True),
        "town": asked("town"),
    }
    table = Table("", "with an answer", "without", "AUROC of the form alone", box=box.SIMPLE)
    for name, (texts, answered) in parts.items():
        counts = (f"{answered.sum():,}", f"{(~answered).sum():,}")
        table.add_row(name, *counts, f"{given_away(weights, (texts, answered)):.3f}")
    Console().print(table)
    return 0


def asked(
    part: str, wanted: Callable[[str], bool] = lambda field: True, *, near: bool = False
) -> Asked:
    """`near`: of those without an answer, the near misses."""
    questions = [
        question
        for field in read_fields(part)
        if wanted(field["field"])
        for question in questions_of(field)
        if len(question.messages) == 1
        and (question.expected is not None or question.is_near == near)
    ]
    texts = [question.messages[0].text for question in questions]
    return texts, np.array([question.expected is not None for question in questions])


def features(texts: Sequence[str]) -> NDArray[np.float64]:
    """(texts, signs + 1), the logarithm of the number of words last."""
    rows = [
        [*(bool(sign.search(text)) for sign in SIGNS), log(1 + len(text.split()))] for text in texts
    ]
    return np.array(rows, np.float64)


def given_away(weights: Sequence[float], found: Asked) -> float:
    texts, answered = found
    scores = features(texts) @ np.array(weights)
    return auroc(scores[answered].tolist(), scores[~answered].tolist())


if __name__ == "__main__":
    sys.exit(main())

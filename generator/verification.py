"""Whether what was written stands in the sentence that it was written from. Pure functions.

A draft may turn a line of a list into a sentence, and drop the beginning or the end of one where
no value stands. It may not join what the sentence keeps apart: "500 GB cost £39, 2 TB £59"
supports neither a number that is not there nor "500 GB cost £59". Where there is doubt the
sentence is quoted as it is.
"""

import re
from collections.abc import Sequence

WORD = re.compile(r"[€$£]?\w+(?:[.,:'’@/&+_-]+\w+)*[%€]?|[€$£%]")
VALUE = re.compile(r"[€$£%]|\d|@|://|\w\.\w")
NAME = re.compile(r"(?<![.!?:]\s)(?<!^)\b[A-ZÀ-Þ][\w'’-]*")
TURNING = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|neither|nor|cannot|without|except|unless|only|if|but"
    r"|until|however|otherwise|provided|closed|excluded|forbidden|prohibited|free)\b|n['’]t\b",
    re.IGNORECASE,
)
"""Words without which a sentence says something else."""
FUNCTION_WORDS = frozenset(
    """a about after all also am an and any are as at be been being before by can could did do does
    during each for from had has have he her here his i in into is it its just may me might must my
    of off on or other our out over per please shall she should so some such than that the their
    them then there these they this those through to under up us was we were what when where which
    while who will with within would yes you your""".split()
)
LIGHT_WORDS = frozenset(
    """cost costs price prices pay pays takes take lasts last open opens close closes get gets need
    needs available possible allowed""".split()
)
"""Which a line of a list leaves out and a sentence needs."""


def is_supported(draft: str, sentence: str, *, asked: str = "", title: str = "") -> bool:
    """The numbers, amounts, dates and links of the draft are the sentence's, its names stand
    there, its words come in the sentence's order with nothing left out between them, and no word
    that turns the meaning came or went. `asked` and `title` may lend words that are no values."""
    source, said = words_in(sentence), words_in(draft)
    lent = frozenset(words_in(f"{asked} {title}")) | LIGHT_WORDS
    kept = [word for word in said if word in source]
    strange = [word for word in said if word not in source]
    return (
        bool(kept)
        and set(values_of(draft)) == set(values_of(sentence))
        and all(word in lent and not VALUE.search(word) for word in strange)
        and names_in(draft) <= frozenset(source) | frozenset(words_in(title))
        and _is_run(kept, source)
        and _turning(draft) == _turning(sentence)
    )


def without_yes_or_no(draft: str) -> str:
    """The rest of it, which can be checked; a yes for a no cannot."""
    rest = re.sub(r"^(?:yes|no)\b\s*[,;:.!]?\s*", "", draft, flags=re.IGNORECASE)
    return rest[:1].upper() + rest[1:]


def values_of(text: str) -> list[str]:
    """Numbers with their signs, links and addresses."""
    return [word for word in words_in(text) if VALUE.search(word) and re.search(r"\w", word)]


def words_in(text: str) -> list[str]:
    """Lower case, in order; a currency's sign belongs to its number."""
    text = re.sub(r"([€$£])\s+(?=\d)|(?<=\d)\s+(?=[%€])", r"\1", text.lower())
    found = (match[0] for match in WORD.finditer(text))
    return [word for word in found if word not in FUNCTION_WORDS]


def _is_run(words: Sequence[str], source: Sequence[str]) -> bool:
    return any(
        list(words) == list(source[start : start + len(words)])
        for start in range(len(source) - len(words) + 1)
    )


def names_in(text: str) -> frozenset[str]:
    return frozenset(found[0].lower() for found in NAME.finditer(text)) - FUNCTION_WORDS


def _turning(text: str) -> list[str]:
    return sorted(found[0].lower() for found in TURNING.finditer(text))

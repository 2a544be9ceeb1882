"""How much accuracy is lost when people write carelessly. Imports no torch."""

import math
import random
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from intent.data import Example
from intent.evaluation import wilson_interval
from intent.interface import Prediction

SHORTEST_MISSPELT_WORD = 4
"""Typos go into words of at least so many letters, where a message has one."""
SHOWN_LOSSES = 3
NEIGHBOURS = {
    key: neighbours
    for row, below in (("qwertyuiop", "asdfghjkl"), ("asdfghjkl", "zxcvbnm"), ("zxcvbnm", ""))
    for place, key in enumerate(row)
    for neighbours in [
        row[max(0, place - 1) : place] + row[place + 1 : place + 2] + below[place:][:1]
    ]
}
"""Keys beside and below one another on a keyboard."""


@dataclass(frozen=True, slots=True)
class LostUtterance:
    """Right as it was written, wrong as it was changed."""

    text: str
    changed_text: str
    expected: str
    predicted: str


@dataclass(frozen=True, slots=True)
class Robustness:
    """Accuracy on the same utterances, changed; `difference` is against the unchanged ones, with
    a 95 % interval for paired shares (Newcombe 1998, method 10)."""

    variation: str
    examples: int
    changed: int
    """Utterances that this variation changes at all."""
    accuracy: float
    difference: float
    difference_low: float
    difference_high: float
    in_scope_rate: float
    losses: tuple[LostUtterance, ...]
    """Some of those that went wrong."""


Variation = Callable[[str], str]


def measure_robustness(
    name: str,
    vary: Variation,
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    classify: Callable[[Sequence[str]], list[Prediction]],
) -> Robustness:
    """`predictions` are those for the unchanged texts of `examples`."""
    texts = [vary(example.text) for example in examples]
    changed = [n for n, example in enumerate(examples) if texts[n] != example.text]
    after = list(predictions)
    for place, prediction in zip(changed, classify([texts[n] for n in changed]), strict=True):
        after[place] = prediction
    before_right = [p.intent == e.intent for p, e in zip(predictions, examples, strict=True)]
    after_right = [p.intent == e.intent for p, e in zip(after, examples, strict=True)]
    pairs = list(zip(before_right, after_right, strict=True))
    low, high = paired_interval(
        both=pairs.count((True, True)),
        only_before=pairs.count((True, False)),
        only_after=pairs.count((False, True)),
        neither=pairs.count((False, False)),
    )
    lost = [n for n, pair in enumerate(pairs) if pair == (True, False)][:SHOWN_LOSSES]
    return Robustness(
        variation=name,
        examples=len(examples),
        changed=len(changed),
        accuracy=sum(after_right) / len(examples),
        difference=(sum(after_right) - sum(before_right)) / len(examples),
        difference_low=low,
        difference_high=high,
        in_scope_rate=sum(prediction.in_scope for prediction in after) / len(examples),
        losses=tuple(
            LostUtterance(examples[n].text, texts[n], examples[n].intent, after[n].intent)
            for n in lost
        ),
    )


def paired_interval(
    *, both: int, only_before: int, only_after: int, neither: int
) -> tuple[float, float]:
    """For the share after less the share before, of the same trials: method 10 of Newcombe,
    Statistics in Medicine 17 (1998), 2635–2650."""
    trials = both + only_before + only_after + neither
    after, before = both + only_after, both + only_before
    after_low, after_high = wilson_interval(after, trials)
    before_low, before_high = wilson_interval(before, trials)
    spread = after * (trials - after) * before * (trials - before)
    surplus = float(both * neither - only_before * only_after)
    if surplus > 0:  # a correction for continuity
        surplus = max(0.0, surplus - trials / 2)
    correlation = surplus / math.sqrt(spread) if spread else 0.0
    share_after, share_before = after / trials, before / trials

    def reach(down: float, up: float) -> float:
        return math.sqrt(max(0.0, down * down - 2 * correlation * down * up + up * up))

    difference = share_after - share_before
    return (
        difference - reach(share_after - after_low, before_high - share_before),
        difference + reach(share_before - before_low, after_high - share_after),
    )


def with_typo(text: str) -> str:
    """One random slip in one word: two letters swapped, one left out, doubled or struck beside
    its key. The same text always gets the same one. Texts without letters stay as they are."""
    words = _words(text)
    draw = random.Random(zlib.crc32(text.encode("utf-8", "surrogatepass")))
    long = [word for word in words if word[1] - word[0] >= SHORTEST_MISSPELT_WORD]
    if not words:
        return text
    start, end = draw.choice(long or [max(words, key=lambda word: word[1] - word[0])])
    slips = [slip for slip in _slips(text[start:end], draw) if slip != text[start:end]]
    return text[:start] + draw.choice(slips) + text[end:]


def _words(text: str) -> list[tuple[int, int]]:
    """Where runs of letters begin and end."""
    runs: list[tuple[int, int]] = []
    start = None
    for place, character in enumerate(text + " "):
        if unicodedata.category(character)[0] in "LM":
            start = place if start is None else start
        elif start is not None:
            runs.append((start, place))
            start = None
    return runs


def _slips(word: str, draw: random.Random) -> list[str]:
    """One of each kind that the word allows."""
    place = draw.randrange(len(word))
    letter = word[place]
    slips = [word[:place] + letter + word[place:]]
    if len(word) > 1:
        swapped = min(place, len(word) - 2)
        slips += [
            word[:place] + word[place + 1 :],
            word[:swapped] + word[swapped + 1] + word[swapped] + word[swapped + 2 :],
        ]
    if letter.lower() in NEIGHBOURS:
        struck = draw.choice(NEIGHBOURS[letter.lower()])
        slips.append(
            word[:place] + (struck.upper() if letter.isupper() else struck) + word[place + 1 :]
        )
    return slips


def without_punctuation(text: str) -> str:
    """Apostrophes close up ("whats"), other marks become a blank."""
    kept = "".join(
        character
        if not unicodedata.category(character).startswith("P")
        else ("" if character in "'’" else " ")
        for character in text
    )
    return " ".join(kept.split()) or text


VARIATIONS: dict[str, Variation] = {
    "one typo": with_typo,
    "lower case": str.lower,
    "upper case": str.upper,
    "no punctuation": without_punctuation,
}

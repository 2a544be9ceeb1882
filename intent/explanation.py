"""Why an utterance was classified as it was. Imports no torch."""

import json
import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from intent.classifier import OVERRULED
from intent.interface import OUT_OF_SCOPE, NearestExample, Prediction
from intent.text import MAX_TOKENS, is_word, tokenize

NEAREST = 5
LEAST_CONFIDENCE = 1e-6
"""Taken for an intent that is ranked nowhere; keeps log-odds finite."""
CLEAR_MARGIN = 0.3
SHOWN_TURNS = 3
JOINERS = "\u200c\u200d"
STYLES = ("\ufe00", "\ufe0f", "\U0001f3fb", "\U0001f3ff")
"""Variation selectors and skin tones belong to the emoji before them."""


class ExplainedClassifier(Protocol):
    @property
    def intents(self) -> tuple[str, ...]: ...

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]: ...

    def nearest(self, texts: Sequence[str], count: int = 3) -> list[list[NearestExample]]: ...


@dataclass(frozen=True, slots=True)
class WordEffect:
    """What one word did: how the prediction changes where it is left out."""

    text: str
    start: int
    end: int
    for_intent: float
    """How much it raises the log-odds of the intent against the runner-up; below 0 it speaks for
    the runner-up."""
    for_scope: float | None
    """How much it raises the scope score; None where nothing is left without it, or where a rule
    decides instead of the score."""
    intent_without: str
    in_scope_without: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    text: str
    intent: str
    confidence: float
    runner_up: str | None
    runner_up_confidence: float
    margin: float
    in_scope: bool
    scope_score: float
    words: tuple[WordEffect, ...]
    nearest: tuple[NearestExample, ...]
    reasons: tuple[str, ...]
    """Sentences for people, the most important first."""

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return plain


def explain(classifier: ExplainedClassifier, text: str) -> Explanation:
    """Leaves out one word after the other and looks what changes: erasure, as in Li, Monroe and
    Jurafsky 2016 (arXiv:1612.08220). Words that only matter together are not found so."""
    spans = list(word_spans(text))[:MAX_TOKENS]
    without = [text[:start] + " " + text[end:] for start, end in spans]
    prediction, *others = classifier.classify_batch([text, *without])
    runner_up = prediction.ranking[1] if len(prediction.ranking) > 1 else None
    against = runner_up.intent if runner_up else None
    spans_and_others = zip(spans, without, others, strict=True)
    before = _log_odds(classifier, prediction, prediction.intent, against)
    words = tuple(
        WordEffect(
            text=text[start:end],
            start=start,
            end=end,
            for_intent=before - _log_odds(classifier, other, prediction.intent, against)
            if tokenize(rest)
            else before,  # nothing speaks for neither
            for_scope=None
            if not tokenize(rest) or _by_rule(prediction) != _by_rule(other)
            else prediction.scope_score - other.scope_score,
            intent_without=other.intent,
            in_scope_without=other.in_scope,
        )
        for (start, end), rest, other in spans_and_others
    )
    nearest = tuple(classifier.nearest([text], NEAREST)[0]) if words else ()
    return Explanation(
        text=text,
        intent=prediction.intent,
        confidence=prediction.confidence,
        runner_up=against,
        runner_up_confidence=runner_up.confidence if runner_up else 0.0,
        margin=prediction.confidence - (runner_up.confidence if runner_up else 0.0),
        in_scope=prediction.in_scope,
        scope_score=prediction.scope_score,
        words=words,
        nearest=nearest,
        reasons=tuple(_reasons(prediction, words, nearest)),
    )


def _by_rule(prediction: Prediction) -> bool:
    return prediction.scope_score < -OVERRULED / 2


def word_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the words and other marks that the network reads begin and end.

    Letters, digits and apostrophes between letters make words; in scripts without blanks every
    character is one, as for the network.
    """
    start = 0
    while start < len(text):
        end = start + 1
        if _is_letter(text[start]):
            while end < len(text) and _continues_word(text, end):
                end += 1
            inside = tokenize(text[start:end])
            if len(inside) > 1 and not text[start:end].isascii() and max(map(len, inside)) == 1:
                yield from _characters(text, start, end)
                start = end
                continue
        else:
            while end < len(text) and _continues_emoji(text, end):
                end += 1
        if tokenize(text[start:end]):
            yield start, end
        start = end


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def _continues_word(text: str, place: int) -> bool:
    if _is_letter(text[place]) or text[place] in JOINERS:
        return True
    between = text[place] in "'’" and place + 1 < len(text)
    return between and _is_letter(text[place - 1]) and _is_letter(text[place + 1])


def _continues_emoji(text: str, place: int) -> bool:
    character = text[place]
    styled = STYLES[0] <= character <= STYLES[1] or STYLES[2] <= character <= STYLES[3]
    joined = text[place - 1] == "\u200d" and not character.isspace()
    return character == "\u200d" or styled or joined


def _characters(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """One by one, each with the marks that stand on it. A mark at the very start stands alone."""
    after = start
    while after < end:
        place, after = after, after + 1
        while after < end and unicodedata.category(text[after])[0] == "M":
            after += 1
        if tokenize(text[place:after]):
            yield place, after


def _log_odds(
    classifier: ExplainedClassifier, prediction: Prediction, intent: str, against: str | None
) -> float:
    """Of one intent against another; against all others where there is no other."""
    first = _confidence(classifier, prediction, intent)
    second = _confidence(classifier, prediction, against) if against else 1 - first
    return math.log(max(first, LEAST_CONFIDENCE)) - math.log(max(second, LEAST_CONFIDENCE))


def _confidence(classifier: ExplainedClassifier, prediction: Prediction, intent: str) -> float:
    """An intent below the ranking gets an equal share of what the ranking leaves."""
    for ranked in prediction.ranking:
        if ranked.intent == intent:
            return ranked.confidence
    left = 1 - sum(ranked.confidence for ranked in prediction.ranking)
    unranked = max(1, len(classifier.intents) - len(prediction.ranking))
    return min(prediction.ranking[-1].confidence, max(0.0, left) / unranked)


def _reasons(
    prediction: Prediction, words: Sequence[WordEffect], nearest: Sequence[NearestExample]
) -> Iterator[str]:
    if not words:
        yield "Out of scope: the message holds nothing that can be read, so no intent fits it."
        return
    closest = nearest[0] if nearest else None
    yield _scope_reason(prediction, words, closest)
    if closest and prediction.in_scope and closest.intent != prediction.intent:
        yield (
            f"The nearest training example belongs to {closest.intent}, "
            f"not to {prediction.intent}: look whether the two overlap."
        )
    yield from _runner_up_reason(prediction)
    yield from _word_reasons(prediction, words)


def _runner_up_reason(prediction: Prediction) -> Iterator[str]:
    first, *others = prediction.ranking
    if not prediction.in_scope:
        guesses = " and ".join(f"{r.intent} ({r.confidence:.1%})" for r in prediction.ranking[:2])
        yield f"If it were in scope, the likeliest would be {guesses}."
    elif others:
        clear = first.confidence - others[0].confidence >= CLEAR_MARGIN
        how = "clearly ahead of" if clear else "hardly ahead of"
        yield (
            f"{first.intent} ({first.confidence:.1%}) is {how} "
            f"{others[0].intent} ({others[0].confidence:.1%})."
        )


def _scope_reason(
    prediction: Prediction, words: Sequence[WordEffect], closest: NearestExample | None
) -> str:
    near = (
        f"the nearest training example, “{closest.text}” ({closest.intent}), is "
        f"{closest.similarity:.2f} alike"
        if closest
        else "the file holds no training example to compare with"
    )
    if prediction.in_scope:
        above = f"{prediction.scope_score:.1f} above the threshold"
        return f"In scope: it resembles the training data ({above}); {near}."
    if closest and closest.intent == OUT_OF_SCOPE:
        return f"Out of scope: {near}."
    if not any(is_word(token) for word in words for token in tokenize(word.text)):
        return "Out of scope: it holds punctuation alone."
    if _by_rule(prediction):
        return (
            "Out of scope by rule: none of its words looks like a training word, or an "
            f"out-of-scope example is nearer than any other; {near}."
        )
    return (
        f"Out of scope: it resembles the training data too little "
        f"({-prediction.scope_score:.1f} below the threshold); {near}."
    )


def _word_reasons(prediction: Prediction, words: Sequence[WordEffect]) -> Iterator[str]:
    if len(words) == 1:
        yield f"“{words[0].text}” is all there is: everything follows from it."
        return
    if prediction.in_scope:
        strongest = max(words, key=lambda word: word.for_intent)
        if strongest.for_intent > 0:
            yield f"“{strongest.text}” speaks most for {prediction.intent}."
        turning = [word for word in words if word.intent_without != prediction.intent]
        for word in turning[:SHOWN_TURNS]:
            yield f"Without “{word.text}” it would be {word.intent_without}."
        leaving = [word for word in words if not word.in_scope_without]
        for word in leaving[:SHOWN_TURNS]:
            yield f"Without “{word.text}” it would be out of scope."
    else:
        entering = [word for word in words if word.in_scope_without]
        for word in entering[:SHOWN_TURNS]:
            yield f"Without “{word.text}” it would be in scope."
        strangest = min(words, key=lambda word: word.for_scope or 0.0)
        if not entering and (strangest.for_scope or 0.0) < 0:
            yield f"“{strangest.text}” makes it most unlike the training data."

"""Which turns are worth a label, and why: the review queue. Pure functions of values."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.dialogue.routing import Cause, Route

NEAR = 2.0
"""The odds of the assurance within this factor of the threshold's are close to it. In odds,
because a certified threshold may be 0.97: a distance would call everything near that is sure.
The index that the queue is read by counts on it (`app/database/tables.py`)."""
NARROW_MARGIN = 0.15
LEAST_OF_BOTH = 0.5
"""The best two intents together: with less, a narrow margin says only that it is none of them."""
FREQUENT = 3
"""Conversations in which it was asked."""


class Reason(StrEnum):
    DISLIKED = "disliked"
    CLARIFIED = "clarified"  # the bot had to ask back
    UNCERTAIN = "uncertain"
    FREQUENT = "frequent"  # and not answered instantly


_WORTH = {Reason.DISLIKED: 2.0, Reason.CLARIFIED: 1.0, Reason.UNCERTAIN: 1.0, Reason.FREQUENT: 1.0}
_WORTH_OF_SUGGESTION = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What the queue looks at of a turn."""

    turn_id: str
    conversation_id: str
    text: str
    seconds: float
    """When, since 1970."""
    route: Route
    cause: Cause
    intent: str | None
    confidence: float
    margin: float
    assurance: float
    threshold: float
    is_disliked: bool = False
    suggested: str | None = None
    """The intent that the user chose when the bot asked back."""
    is_decided: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One message, however often it was asked, that an operator has not decided on."""

    turn_id: str
    """Of the turn that stands for all of them."""
    turn_ids: tuple[str, ...]
    conversations: int
    reasons: tuple[Reason, ...]
    intent: str | None
    suggestion: str | None
    """What users chose when they were asked; None where they chose differently."""
    suggested_by: int
    """How many of the turns have it."""
    worth: float
    seconds: float
    """When it was asked last."""

    @property
    def place(self) -> tuple[float, float, str]:
        """The queue is sorted by it, highest first."""
        return self.worth, self.seconds, self.turn_id


def queue(asked: Iterable[Asked]) -> list[Entry]:
    """Best first. A message that was decided once is gone, also where it was asked since."""
    same: defaultdict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        same[same_words(one.text)].append(one)
    entries = [
        entry
        for group in same.values()
        if not any(one.is_decided for one in group) and (entry := _entry(group)) is not None
    ]
    return sorted(entries, key=lambda one: one.place, reverse=True)


_AROUND_WORDS = ".,;:!?…'\"`´“”„‘’‚«»‹›()[]{}¿¡。、，．；：？！「」『』（）،؛؟।-–—*~"


def same_words(text: str) -> str:
    """Messages that differ in case, blanks and the signs around words only are the same. Signs
    within words, and others, tell them apart: C++ is not C#."""
    words = (word.strip(_AROUND_WORDS) for word in text.casefold().split())
    return " ".join(word for word in words if word) or text.strip()


def is_uncertain(one: Asked) -> bool:
    return _nearness(one) > 0 or (
        one.cause is Cause.UNSURE  # where it asked back, a narrow margin is why
        and one.intent is not None
        and one.margin < NARROW_MARGIN
        and 2 * one.confidence - one.margin >= LEAST_OF_BOTH
    )


def _nearness(one: Asked) -> float:
    """1 at the threshold, 0 from a factor of NEAR of its odds on."""
    if one.intent is None or one.cause is Cause.CHOSEN:
        return 0.0
    assured = one.assurance * (1 - one.threshold)
    needed = one.threshold * (1 - one.assurance)
    if assured <= 0 or needed <= 0:
        return 0.0
    return max(0.0, 1 - abs(math.log(assured / needed)) / math.log(NEAR))


def _entry(group: Sequence[Asked]) -> Entry | None:
    """None where nothing speaks for a look."""
    conversations = {one.conversation_id for one in group if one.route is not Route.INSTANT}
    chosen = {one.suggested for one in group if one.suggested is not None}
    suggestion = next(iter(chosen)) if len(chosen) == 1 else None
    found = {
        Reason.DISLIKED: any(one.is_disliked for one in group),
        Reason.CLARIFIED: any(one.route is Route.CLARIFY for one in group),
        Reason.UNCERTAIN: any(map(is_uncertain, group)),
        Reason.FREQUENT: len(conversations) >= FREQUENT,
    }
    reasons = tuple(reason for reason, holds in found.items() if holds)
    if not reasons:
        return None
    worth = sum(_WORTH[reason] for reason in reasons) + max(map(_nearness, group))
    worth += math.log2(max(1, len(conversations)))
    if suggestion is not None:
        worth += _WORTH_OF_SUGGESTION
    first = max(group, key=lambda one: (one.is_disliked, one.suggested is not None, one.seconds))
    return Entry(
        turn_id=first.turn_id,
        turn_ids=tuple(one.turn_id for one in group),
        conversations=len({one.conversation_id for one in group}),
        reasons=reasons,
        intent=first.intent,
        suggestion=suggestion,
        suggested_by=sum(one.suggested is not None for one in group),
        worth=round(worth, 3),
        seconds=max(one.seconds for one in group),
    )

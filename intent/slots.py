"""From annotated examples to a label per token, and from labels back to slots; scores.

BIO labels (Ramshaw and Marcus 1995) over the tokens of `intent.text`: 0 is outside; kind number
k begins with 1 + 2k and goes on with 2 + 2k. Role and group are part of the kind. Imports no
torch.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intent.annotation import AnnotatedSlot
from intent.interface import Slot
from intent.slot_rules import NO_RULES, RuleMatch, RuleMatcher, SlotRules
from intent.text import Tokens

OUTSIDE = 0


@dataclass(frozen=True, slots=True)
class SlotKind:
    name: str
    role: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class SlotModel:
    """What slots there are, and what the operator said of them."""

    kinds: tuple[SlotKind, ...] = ()
    rules: SlotRules = NO_RULES

    def __bool__(self) -> bool:
        return bool(self.kinds or self.rules)

    @property
    def labels(self) -> int:
        """0 where there is nothing to learn."""
        return label_count(self.kinds) if self.kinds else 0


NO_SLOTS = SlotModel()


@dataclass(frozen=True, slots=True)
class TaggedSpan:
    kind: SlotKind
    start: int
    end: int
    confidence: float


def slot_kinds(slots: Iterable[AnnotatedSlot]) -> tuple[SlotKind, ...]:
    """In an order that depends on the set alone."""
    found = {SlotKind(slot.name, slot.role, slot.group) for slot in slots}
    return tuple(sorted(found, key=lambda kind: (kind.name, kind.role or "", kind.group or "")))


def label_count(kinds: Sequence[SlotKind]) -> int:
    return 1 + 2 * len(kinds)


def encode(tokens: Tokens, slots: Sequence[AnnotatedSlot], kinds: Sequence[SlotKind]) -> list[int]:
    """A label per token. A token that a slot covers in part is inside; of slots that share a
    token the first has it; kinds that are not among `kinds` are outside."""
    labels = [OUTSIDE] * len(tokens)
    number_of = {kind: number for number, kind in enumerate(kinds)}
    for slot in sorted(slots, key=lambda slot: slot.start):
        number = number_of.get(SlotKind(slot.name, slot.role, slot.group))
        if number is None:
            continue
        covered = [
            place
            for place, (_, start, end) in enumerate(tokens)
            if start < slot.end and slot.start < end and labels[place] == OUTSIDE
        ]
        for place in covered:
            labels[place] = 2 + 2 * number
        for place in covered[:1]:
            labels[place] = 1 + 2 * number
    return labels


def legal_transitions(labels: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(L, L), from row to column, and (L,) at the beginning: only its own kind goes on."""
    number = np.arange(labels)
    kind = (number - 1) // 2
    goes_on = (number > 0) & (number % 2 == 0)
    return ~goes_on[None, :] | (kind[:, None] == kind[None, :]) & (number > 0)[:, None], ~goes_on


def token_features(
    tokens: Tokens, matches: Sequence[RuleMatch], matcher: RuleMatcher
) -> NDArray[np.float32]:
    """(T, 1 + 2 * names): whether a token follows the one before without white space, and what
    `RuleMatcher.features` says."""
    found = np.zeros((len(tokens), feature_count(matcher)), np.float32)
    end = -1
    for place, (_, start, next_end) in enumerate(tokens):
        found[place, 0] = start <= end
        end = next_end
    if matches:
        found[:, 1:] = matcher.features(matches, tokens)
    return found


def feature_count(matcher: RuleMatcher) -> int:
    return 1 + 2 * len(matcher.names)


def decode(
    tokens: Tokens,
    labels: Sequence[int],
    kinds: Sequence[SlotKind],
    confidences: Sequence[float] | None = None,
) -> list[TaggedSpan]:
    """A label that goes on with what has not begun begins it (as conlleval reads it). A slot
    is as sure as its least sure token."""
    found: list[TaggedSpan] = []
    last = OUTSIDE
    for place, label in enumerate(labels):
        if label != OUTSIDE:
            _, start, end = tokens[place]
            kind = kinds[(label - 1) // 2]
            sure = 1.0 if confidences is None else confidences[place]
            # Tokens of one character ("½") share its place, and cannot be two slots.
            overlaps = bool(found) and start < found[-1].end
            if overlaps or (label % 2 == 0 and (last - 1) // 2 == (label - 1) // 2 and last):
                before = found.pop()
                found.append(
                    TaggedSpan(before.kind, before.start, end, min(before.confidence, sure))
                )
            else:
                found.append(TaggedSpan(kind, start, end, sure))
        last = label
    return found


def to_slots(
    text: str, spans: Sequence[TaggedSpan], matches: Sequence[RuleMatch], matcher: RuleMatcher
) -> tuple[Slot, ...]:
    """The network's slots and, where it has none or only parts of what a rule matches, those of
    the rules: the longest first, and a regex before a lookup table. Values are canonical."""

    def slot(kind: SlotKind, start: int, end: int, confidence: float, source: str) -> Slot:
        written = text[start:end]
        return Slot(
            name=kind.name,
            value=matcher.value_of(written),
            text=written,
            start=start,
            end=end,
            role=kind.role,
            group=kind.group,
            confidence=confidence,
            source=source,
        )

    found = [
        slot(s.kind, s.start, s.end, s.confidence, "network")
        for s in spans
        if not any(
            m.start <= s.start and s.end <= m.end and m.end - m.start > s.end - s.start
            for m in matches
        )
    ]
    ordered = sorted(matches, key=lambda match: match.start - match.end)  # stable
    for match in ordered:
        if all(match.end <= other.start or other.end <= match.start for other in found):
            found.append(slot(SlotKind(match.name), match.start, match.end, 1.0, match.source))
    return tuple(sorted(found, key=lambda slot: slot.start))


@dataclass(frozen=True, slots=True)
class SlotCounts:
    right: int = 0
    wrong: int = 0
    """Found, but not there, or with another boundary, name or role."""
    missed: int = 0

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 0.0

    @property
    def recall(self) -> float:
        return self.right / (self.right + self.missed) if self.right + self.missed else 0.0

    @property
    def f1(self) -> float:
        all_of_them = 2 * self.right + self.wrong + self.missed
        return 2 * self.right / all_of_them if all_of_them else 0.0


@dataclass(frozen=True, slots=True)
class SlotScores:
    """`all` counts over all slots (micro-averaged, as CoNLL-2000's conlleval)."""

    all: SlotCounts
    by_name: dict[str, SlotCounts]
    sentence_accuracy: float
    """Share of utterances whose intent and slots are all right."""


def score_slots(
    expected: Sequence[Sequence[AnnotatedSlot]],
    predicted: Sequence[Sequence[Slot]],
    intent_right: Sequence[bool],
) -> SlotScores:
    """A slot is right when name, role and both boundaries are."""
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    sentences = 0
    for there, found, is_right in zip(expected, predicted, intent_right, strict=True):
        gold = {(slot.name, slot.role, slot.start, slot.end) for slot in there}
        said = {(slot.name, slot.role, slot.start, slot.end) for slot in found}
        right.update(slot[0] for slot in gold & said)
        wrong.update(slot[0] for slot in said - gold)
        missed.update(slot[0] for slot in gold - said)
        sentences += is_right and gold == said
    return SlotScores(
        all=SlotCounts(right.total(), wrong.total(), missed.total()),
        by_name={
            name: SlotCounts(right[name], wrong[name], missed[name])
            for name in sorted({*right, *wrong, *missed})
        },
        sentence_accuracy=sentences / len(expected) if expected else 0.0,
    )

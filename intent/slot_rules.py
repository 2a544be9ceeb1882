"""What an operator says of slots beside examples: synonyms, regular expressions, lookup tables.

They mean what they mean in Rasa: a regex or a lookup table tells the network, for every word,
whether it matches, and is a slot of its own where the network sees none; a synonym maps what was
found, however it was found, to its canonical value. Unlike in Rasa, a regex or a lookup table
needs no annotated example of its slot.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intent.annotation import AnnotatedSlot, name_problems
from intent.text import MAX_CHARACTERS, Tokens, normalize, tokenize

MAX_PATTERN_CHARACTERS = 10_000
MAX_PATTERN_REPEATS = 20_000
REGEX_SECONDS = 0.05
"""CPU time of one utterance, over all patterns: a sane one takes microseconds."""
SHORTENED = 60
RULE_KINDS = ("synonym", "regex", "lookup")
Rule = tuple[str, str, str]
"""Kind; name, or a synonym's canonical value; one example, pattern or entry."""
COUNTED_REPEAT = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SlotRules:
    synonyms: tuple[tuple[str, str], ...] = ()
    """(as people write it, canonical value)."""
    regexes: tuple[tuple[str, str], ...] = ()
    """(slot, pattern), in Python's notation; upper and lower case are the same."""
    lookups: tuple[tuple[str, str], ...] = ()
    """(slot, entry of its table), compared word by word as `tokenize` sees them."""

    def __bool__(self) -> bool:
        return bool(self.synonyms or self.regexes or self.lookups)

    def to_json(self) -> dict[str, Any]:
        return {"synonyms": self.synonyms, "regexes": self.regexes, "lookups": self.lookups}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "SlotRules":
        """Raises KeyError, TypeError or ValueError for anything but what `to_json` gave."""
        return cls(
            *(
                tuple((str(name), str(text)) for name, text in found[kind])
                for kind in ("synonyms", "regexes", "lookups")
            )
        )

    def __add__(self, other: "SlotRules") -> "SlotRules":
        return SlotRules.of([*self.rows(), *other.rows()])

    @classmethod
    def of(cls, rows: Iterable[Rule]) -> "SlotRules":
        found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in RULE_KINDS}
        for kind, name, text in rows:
            found[kind].append((text, name) if kind == "synonym" else (name, text))
        return cls(*(tuple(found[kind]) for kind in RULE_KINDS))

    def rows(self) -> list[Rule]:
        return [
            *(("synonym", value, text) for text, value in self.synonyms),
            *(("regex", name, pattern) for name, pattern in self.regexes),
            *(("lookup", name, entry) for name, entry in self.lookups),
        ]


NO_RULES = SlotRules()


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """`source` is "regex" or "lookup"."""

    name: str
    start: int
    end: int
    source: str


def rule_problems(kind: str, name: str, text: str) -> list[str]:
    """What is wrong with one synonym's variant, regex or lookup entry."""
    if not normalize(text):
        return [f"{kind} {name!r} has an empty example; remove it"]
    if kind == "synonym":
        return [] if name.strip() else ["a synonym's value is blank; name it"]
    if problems := name_problems(name):
        return problems
    if kind == "lookup" and not tokenize(text):
        return [f"lookup {name!r} has an entry without words, {text[:SHORTENED]!r}; remove it"]
    return pattern_problems(name, text) if kind == "regex" else []


def pattern_problems(name: str, pattern: str) -> list[str]:
    shown = f"regex {name!r}, {pattern[:SHORTENED]!r}"
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        return [f"{shown}: over {MAX_PATTERN_CHARACTERS:,} characters; use a lookup table"]
    if _repeats(pattern) > MAX_PATTERN_REPEATS:
        return [f"{shown}: counted repeats multiply to over {MAX_PATTERN_REPEATS:,}; use `+`"]
    try:
        found = _compiled(pattern).search("", timeout=REGEX_SECONDS)
    except (ValueError, RecursionError, TimeoutError, MemoryError, OverflowError) as error:
        reason = str(error) or type(error).__name__
        return [f"{shown}: not a regular expression ({reason[:100]}); correct it"]
    if found:
        return [f"{shown}: matches the empty text, so it would match everywhere; correct it"]
    return []


def learned_synonyms(
    texts_and_slots: Iterable[tuple[str, Sequence[AnnotatedSlot]]],
) -> SlotRules:
    """A value given with an annotation is a synonym from then on, as in Rasa."""
    found = {
        text[slot.start : slot.end]: slot.value
        for text, slots in texts_and_slots
        for slot in slots
        if slot.value is not None and slot.value != text[slot.start : slot.end]
    }
    return SlotRules(synonyms=tuple(sorted(found.items())))


class RuleMatcher:
    """Applies rules. Holds no state of the utterances it saw."""

    def __init__(self, rules: SlotRules) -> None:
        self.names = tuple(sorted({name for name, _ in rules.regexes + rules.lookups}))
        """The slots that have a regex or a lookup table: the network is told of each."""
        self._patterns = [(name, _compiled(pattern)) for name, pattern in rules.regexes]
        self._slow: set[str] = set()
        self._entries: dict[tuple[str, ...], list[str]] = defaultdict(list)
        lengths: dict[str, set[int]] = defaultdict(set)
        for name, entry in rules.lookups:
            if words := tuple(tokenize(entry)):
                self._entries[words].append(name)
                lengths[words[0]].add(len(words))
        self._lengths = {word: sorted(found, reverse=True) for word, found in lengths.items()}
        self._values = {normalize(text): value for text, value in rules.synonyms}

    def value_of(self, text: str) -> str:
        """The canonical value of what was found; `text` itself where no synonym names one."""
        return self._values.get(normalize(text), text) if self._values else text

    def find(self, text: str, tokens: Tokens) -> list[RuleMatch]:
        """`tokens`: `tokenize_with_spans(text)`."""
        return [*self._find_by_regex(text), *self._find_in_lookups(tokens)]

    def features(self, matches: Sequence[RuleMatch], tokens: Tokens) -> NDArray[np.float32]:
        """(T, 2 * names): for each name, whether a match begins at the token, or goes on."""
        found = np.zeros((len(tokens), 2 * len(self.names)), np.float32)
        for match in matches:
            column = 2 * self.names.index(match.name)
            inside = [n for n, (_, s, e) in enumerate(tokens) if s < match.end and match.start < e]
            found[inside[:1], column] = 1
            found[inside[1:], column + 1] = 1
        return found

    def _find_by_regex(self, text: str) -> Iterable[RuleMatch]:
        if not self._patterns:
            return
        text = text[:MAX_CHARACTERS]
        left = REGEX_SECONDS
        for name, pattern in self._patterns:
            started = process_time()
            try:
                for found in pattern.finditer(text, timeout=left):
                    value = found[0].strip()
                    if value:
                        start = found.start() + found[0].index(value)
                        yield RuleMatch(name, start, start + len(value), "regex")
            except TimeoutError:  # finds no more; the utterance is answered all the same
                self._warn_once(name, pattern.pattern)
            left -= process_time() - started
            if left <= 0:
                return

    def _warn_once(self, name: str, pattern: str) -> None:
        """Of each pattern: any message can provoke it again, and none of its text is told."""
        if pattern not in self._slow:
            self._slow.add(pattern)
            log.warning(
                "regex %r, %r was stopped: all patterns have %d ms of CPU time for a message; "
                "write it without nested repeats, or use a lookup table",
                name,
                pattern[:SHORTENED],
                1000 * REGEX_SECONDS,
            )

    def _find_in_lookups(self, tokens: Tokens) -> Iterable[RuleMatch]:
        words = [token for token, _, _ in tokens]
        done: dict[str, int] = {}  # up to which token a slot's table has matched
        for first, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                for name in self._entries.get(tuple(words[first : first + length]), ()):
                    if first >= done.get(name, 0):
                        done[name] = first + length
                        end = tokens[first + length - 1][2]
                        yield RuleMatch(name, tokens[first][1], end, "lookup")


def _compiled(pattern: str) -> Any:
    """By `regex`, as Python's own `re` cannot be stopped: a pattern like `(a+)+$` would hang the
    server on the first utterance that provokes it, and no screening finds all such patterns.
    `regex` takes a limit in CPU time, so that a busy machine changes no answer."""
    import regex  # type: ignore[import-untyped]

    try:
        return regex.compile(pattern, regex.IGNORECASE | regex.VERSION0)
    except regex.error as error:
        raise ValueError(str(error)) from error


def _repeats(pattern: str) -> int:
    """At most so many copies of a part does compiling make: `regex` unrolls counted repeats, so
    that a{1000000000} would fill the memory before any limit in time counts."""
    counts = (
        int(count.lstrip("0")[:6] or 1)  # more digits than six change nothing
        for found in COUNTED_REPEAT.finditer(pattern)
        for count in [max(found.groups("1"), key=lambda digits: (len(digits.lstrip("0")), digits))]
    )
    return prod(max(1, count) for count in counts)

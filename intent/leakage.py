"""Which test utterances were, or nearly were, trained on. Imports no torch."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from intent.data import Example
from intent.text import is_word, tokenize

NEAR = 0.8
"""From this similarity on two texts are near-duplicates."""
SHINGLE = 3
SHOWN_LEAKS = 20
REPORT_EVERY = 200


@dataclass(frozen=True, slots=True)
class Leak:
    """A test utterance and the training example most like it. `similarity` 1 means the same
    words, whatever their case and punctuation."""

    place: int
    """Of the utterance among the tests, from 0."""
    text: str
    intent: str
    training_text: str
    training_intent: str
    similarity: float

    @property
    def is_exact(self) -> bool:
        return self.similarity == 1


@dataclass(frozen=True, slots=True)
class Leakage:
    basis: str
    """What the test utterances were compared with."""
    training_examples: int
    examples: int
    exact: int
    near: int
    conflicting: int
    """Of both, those that the training data gives to another intent."""
    clean_examples: int
    clean_accuracy: float | None
    clean_accuracy_low: float | None
    clean_accuracy_high: float | None
    """On the utterances without either."""
    leaks: tuple[Leak, ...]
    """The worst: first those of another intent, then the most similar."""


def find_leaks(
    tests: Sequence[Example],
    training: Sequence[tuple[str, str]],
    *,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[Leak]:
    """At most one for each test: its most similar training example, given as (text, intent).

    Similarity is Jaccard's of the sets of 3-character shingles (Broder 1997). Two sets that are
    at least `NEAR` alike share one of the rarest shingles of each, so that only few pairs are
    ever compared: prefix filtering (Chaudhuri et al. 2006), which misses none.
    """
    words_of = [_words(text) for text, _ in training]
    same_words: dict[str, list[int]] = defaultdict(list)
    for number, words in enumerate(words_of):
        same_words[words].append(number)
    shingles_of = [_shingles(words) for words in words_of]
    counts = Counter(shingle for shingles in shingles_of for shingle in shingles)
    holders: dict[str, list[int]] = defaultdict(list)
    for number, shingles in enumerate(shingles_of):
        for shingle in _prefix(shingles, counts):
            holders[shingle].append(number)

    def alike(words: str) -> Iterator[tuple[float, int]]:
        if words in same_words:
            yield from ((1.0, number) for number in same_words[words])
            return
        mine = _shingles(words)
        candidates = {n for shingle in _prefix(mine, counts) for n in holders.get(shingle, ())}
        for number in candidates:
            theirs = shingles_of[number]
            smaller, larger = sorted((len(mine), len(theirs)))
            if smaller >= NEAR * larger:
                shared = len(mine & theirs)
                similarity = shared / (len(mine) + len(theirs) - shared)
                if similarity >= NEAR:  # 1 is for equal words alone
                    yield min(similarity, 0.999), number

    leaks: list[Leak] = []
    for place, test in enumerate(tests):
        if place % REPORT_EVERY == 0:
            on_progress(place, len(tests))
        # Of equally similar ones, one of the same intent counts, as it leaks the answer.
        best = max(
            alike(_words(test.text)),
            key=lambda found: (found[0], training[found[1]][1] == test.intent, -found[1]),
            default=None,
        )
        if best is not None:
            leaks.append(Leak(place, test.text, test.intent, *training[best[1]], best[0]))
    on_progress(len(tests), len(tests))
    return leaks


def worst_leaks(leaks: Sequence[Leak]) -> tuple[Leak, ...]:
    ordered = sorted(
        leaks, key=lambda leak: (leak.intent == leak.training_intent, -leak.similarity, leak.place)
    )
    return tuple(ordered[:SHOWN_LEAKS])


def _words(text: str) -> str:
    tokens = tokenize(text)
    return " ".join([token for token in tokens if is_word(token)] or tokens)


def _shingles(words: str) -> frozenset[str]:
    marked = f" {words} "
    return frozenset(marked[n : n + SHINGLE] for n in range(max(1, len(marked) - SHINGLE + 1)))


def _prefix(shingles: frozenset[str], counts: Counter[str]) -> list[str]:
    """The rarest, one of which every set at least `NEAR` alike must hold."""
    size = len(shingles) - math.ceil(NEAR * len(shingles)) + 1
    return sorted(shingles, key=lambda shingle: (counts[shingle], shingle))[:size]

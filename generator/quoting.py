"""Which sentences of a reading are said, and in what order. Pure functions."""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from generator.reader import Reading, Scored
from generator.sentences import Sentence, sentences_of

SEARCH_WEIGHT, WORDS_WEIGHT = 10.0, 0.4
"""In log-odds: of the passage's score in the search, and of each nat of a rare word that stands in
question and sentence. Chosen on six fields of benchmarks/answers/train."""
STEM_LETTERS = 5
MOST_SENTENCES = 3
MOST_LIST_ITEMS = 8
CLOSE_SHARE = 0.03
"""A sentence with so much of the best one's share is said with it."""

WORD = re.compile(r"[^\W_]+")
LEANS_BACK = re.compile(
    r"^(?:it|they|them|this|that|these|those|then|otherwise|however|but|also|instead|both|"
    r"after that|in this case|in that case|he|she|his|her|its|their)\b",
    re.IGNORECASE,
)


def ranked(reading: Reading, question: str) -> list[tuple[Sentence, float]]:
    """All sentences with their weights in log-odds, best first.

    The reader judges by meaning; names and numbers, of which it knows little, and what the search
    found, weigh with it."""
    weights = np.log([max(one.share, 1e-9) for one in reading.sentences])
    weights += SEARCH_WEIGHT * np.array([one.sentence.passage.score for one in reading.sentences])
    weights += WORDS_WEIGHT * _shared_rarity(question, reading.sentences)
    order = np.argsort(-weights, kind="stable")
    return [(reading.sentences[place].sentence, float(weights[place])) for place in order]


def best_sentences(reading: Reading, question: str) -> list[Sentence]:
    """The best one first, with those that come close; none of a reading without sentences."""
    best = ranked(reading, question)[:MOST_SENTENCES]
    return [one for one, weight in best if weight >= best[0][1] + math.log(CLOSE_SHARE)]


def _shared_rarity(question: str, scored: Sequence[Scored]) -> NDArray[np.float64]:
    """For each sentence the nats of the question's words that stand in it (Spärck Jones 1972)."""
    asked = _stems(question)
    shared = [asked & _stems(f"{one.sentence.heading} {one.sentence.shown}") for one in scored]
    holding = Counter(stem for each in shared for stem in each)
    return np.array(
        [sum(math.log(len(scored) / holding[stem]) for stem in each) for each in shared]
    )


def _stems(text: str) -> set[str]:
    return {word.removesuffix("s")[:STEM_LETTERS] for word in WORD.findall(text.casefold())}


def in_company(chosen: Sequence[Sentence]) -> list[Sentence]:
    """The same sentences with what they cannot be understood without, in reading order."""
    kept = list(chosen)
    for sentence in chosen:
        siblings = sentences_of(sentence.passage)
        if sentence.opens_list:
            kept += _items_after(siblings, sentence.position)
        elif LEANS_BACK.search(sentence.shown) and sentence.position > 0:
            kept.append(siblings[sentence.position - 1])
    ranks = {one.passage.id: rank for rank, one in reversed(list(enumerate(chosen)))}
    unique = {(one.passage.id, one.position): one for one in kept}
    return sorted(unique.values(), key=lambda one: (ranks[one.passage.id], one.position))


def _items_after(siblings: Sequence[Sentence], position: int) -> list[Sentence]:
    """The list that a sentence opens; nothing of a long one."""
    items: list[Sentence] = []
    for one in siblings[position + 1 :]:
        if not one.is_item:
            break
        items.append(one)
    return items if len(items) <= MOST_LIST_ITEMS else []

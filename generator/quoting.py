"""Which sentences of a reading are said, and in what order. Pure functions."""

import math
import re
from collections.abc import Sequence

import numpy as np

from generator.reader import Reading
from generator.sentences import Sentence, sentences_of

SEARCH_WEIGHT, MATCHED_WEIGHT = 10.0, 10.0
"""In log-odds: of the passage's score in the search, and of how much of the question stands in the
sentence. Chosen on six fields of benchmarks/answers/train."""
MOST_SENTENCES = 3
MOST_LIST_ITEMS = 8
CLOSE_SHARE = 0.01
"""A sentence with so much of the best one's share is said with it."""

LEANS_BACK = re.compile(
    r"^(?:it|they|them|this|that|these|those|then|otherwise|however|but|also|instead|both|"
    r"after that|in this case|in that case|he|she|his|her|its|their)\b",
    re.IGNORECASE,
)


def ranked(reading: Reading) -> list[tuple[Sentence, float]]:
    """All sentences with their weights in log-odds, best first.

    The reader judges by meaning; names and numbers, of which it knows little, weigh with it: the
    search has looked at them, and the comparison of single words."""
    weights = np.log([max(one.share, 1e-9) for one in reading.sentences])
    weights += SEARCH_WEIGHT * np.array([one.sentence.passage.score for one in reading.sentences])
    weights += MATCHED_WEIGHT * np.array([one.matched for one in reading.sentences])
    order = np.argsort(-weights, kind="stable")
    return [(reading.sentences[place].sentence, float(weights[place])) for place in order]


def best_sentences(reading: Reading) -> list[Sentence]:
    """The best one first, with those that come close; none of a reading without sentences."""
    best = ranked(reading)[:MOST_SENTENCES]
    return [one for one, weight in best if weight >= best[0][1] + math.log(CLOSE_SHARE)]


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

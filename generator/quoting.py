"""Which sentences of a reading are said, and in what order. Pure functions."""

import re
from collections.abc import Sequence

from generator.reader import Reading, Scored
from generator.sentences import Sentence, sentences_of

MOST_SENTENCES = 3
MOST_LIST_ITEMS = 8
CLOSE_SHARE = 0.1
"""A sentence with so much of the best one's share is said with it."""

LEANS_BACK = re.compile(
    r"^(?:it|they|them|this|that|these|those|then|otherwise|however|but|also|instead|both|"
    r"after that|in this case|in that case|he|she|his|her|its|their)\b",
    re.IGNORECASE,
)


def best_sentences(reading: Reading) -> list[Sentence]:
    """The best one first, with those that come close; none of a reading without sentences."""
    if not reading.sentences:
        return []
    best = reading.sentences[0]
    return [one.sentence for one in reading.sentences[:MOST_SENTENCES] if _is_close(one, best)]


def _is_close(one: Scored, best: Scored) -> bool:
    return one.share >= CLOSE_SHARE * best.share


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

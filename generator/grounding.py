"""Which sentences of which passages support an answer, and whether they support one at all."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from generator.interface import ChatMessage, Passage
from generator.question import Question, base_weight, read_question
from generator.sentences import Sentence, sentences_of
from generator.words import GENERIC, NARROWER_TERMS, STOP_WORDS, SYNONYMS, terms

SUPPORT_NEEDED = 0.54
"""The share of the question's weight that an answer must cover. Chosen on the questions of
tests/unit/generator/shop_help.py."""

MOST_SENTENCES = 3
MOST_LIST_ITEMS = 8


@dataclass(frozen=True, slots=True)
class Answer:
    sentences: tuple[Sentence, ...]
    support: float


def find_answer(messages: Sequence[ChatMessage], passages: Sequence[Passage]) -> Answer | None:
    """One to three sentences (and a list that they open) which answer the last message."""
    evidence = Evidence(passages, read_question(messages))
    if not evidence.sentences or not evidence.question.weights:
        return None
    best = max(evidence.sentences, key=evidence.relevance)
    chosen = _with_company(best, evidence)
    support = evidence.support(chosen)
    return Answer(tuple(chosen), support) if support >= SUPPORT_NEEDED else None


class Evidence:
    """The sentences at hand, weighed against one question."""

    def __init__(self, passages: Sequence[Passage], question: Question) -> None:
        ranked = sorted(passages, key=lambda passage: -passage.score)
        self._by_passage: dict[int, list[Sentence]] = {}
        self._rank: dict[int, int] = {}
        self._relevance: dict[int, float] = {}
        for rank, passage in enumerate(ranked):
            kept = [s for s in sentences_of(passage) if not gives_orders(s.shown)]
            self._by_passage[id(passage)] = kept
            self._rank[id(passage)] = rank
        self.sentences = [s for kept in self._by_passage.values() for s in kept]
        self._terms = {id(s): frozenset(terms(s.shown)) for s in self.sentences}
        self._title_terms = {
            id(s): frozenset(terms(f"{s.passage.title} {s.heading}")) for s in self.sentences
        }
        self._seen_in = Counter(each for found in self._terms.values() for each in found)
        for found in set(self._title_terms.values()):
            self._seen_in.update(found - self._seen_in.keys())
        lengths = [len(found) for found in self._terms.values()]
        self._mean_length = max(1.0, sum(lengths) / max(1, len(lengths)))
        self.question = self._mended(question)
        self._rarity = {each: self._rarity_of(each) for each in self.question.weights}
        self._whole = sum(
            weight * self._rarity[each] for each, weight in self.question.weights.items()
        )

    def relevance(self, sentence: Sentence) -> float:
        """How well it answers by itself; about 1 when it holds every word of the question."""
        if id(sentence) not in self._relevance:
            self._relevance[id(sentence)] = self._weigh(sentence)
        return self._relevance[id(sentence)]

    def _weigh(self, sentence: Sentence) -> float:
        question, found = self.question, self._terms[id(sentence)]
        title = self._title_terms[id(sentence)]
        document = frozenset(terms(re.sub(r"[-_.]", " ", sentence.passage.document)))
        neighbours = self.neighbours(sentence)
        around = frozenset().union(*(self._terms[id(other)] for other in neighbours))
        # "Delivery to these countries costs ...": the sentence before says which.
        before = {0: frozenset[str]()} | {o.position: self._terms[id(o)] for o in neighbours}
        meant = (
            before.get(sentence.position - 1, frozenset())
            if POINTS_BACK.search(sentence.shown)
            else frozenset()
        )
        asked_in_title = sum(_strength(each, title) for each in question.weights)
        asked_in_title += len(title & question.hints)
        precision = min(1.0, asked_in_title / len(title)) if title else 0.0
        total = titled = 0.0
        for each, weight in question.weights.items():
            in_title = _strength(each, title)
            credit = max(
                _strength(each, found),
                0.75 * _strength(each, meant),
                0.6 * in_title,
                0.3 * _strength(each, around),
                0.3 * _strength(each, document),
            )
            more = 0.2 * precision * in_title + 0.08 * _strength(each, document)
            total += weight * self._rarity[each] * (credit + more)
            titled += weight * self._rarity[each] * in_title * precision
        # BM25's length normalisation, gently: a long sentence holds many words by chance.
        total /= self._whole * (0.9 + 0.1 * len(found) / self._mean_length)
        fit = sum(bool(cue.search(sentence.shown)) for cue in question.cues)
        if question.demands and not fit:
            total *= 0.75
        total += 0.18 * fit / max(1, len(question.cues))
        total += 0.12 if found & question.hints else 0.05 if title & question.hints else 0.0
        total += 0.08 / (1 + self._rank[id(sentence.passage)])
        if sentence.position == 0:
            # What a passage is about stands in its first sentence.
            total += 0.04 + 0.2 * titled / self._whole
        # "Free from 50 pounds" is true, and not what somebody asks who asks for the price.
        only_free = question.demands and "free" in found - question.weights.keys()
        narrows = only_free or self._narrows(sentence, found & title)
        total += 0.1 * any(each[0].isdigit() and each in found for each in question.weights)
        return total - 0.15 * narrows

    def _narrows(self, sentence: Sentence, of_title: frozenset[str]) -> bool:
        """It speaks of a special case that the question does not name."""
        condition = CONDITION.match(sentence.shown)
        special = of_title | frozenset(terms(condition[0]) if condition else ())
        asked = self.question.weights.keys() | self.question.hints
        unasked = [each for each in special if base_weight(each) == 1.0 and each not in asked]
        return len(unasked) > len(special) / 3

    def neighbours(self, sentence: Sentence) -> list[Sentence]:
        kept = self._by_passage[id(sentence.passage)]
        return [other for other in kept if abs(other.position - sentence.position) == 1]

    def passage_of(self, sentence: Sentence) -> list[Sentence]:
        return self._by_passage[id(sentence.passage)]

    def support(self, chosen: Sequence[Sentence]) -> float:
        """The weighted share of the question that the chosen sentences and what stands around
        them speak of; 0 for a question whose own words they leave out."""
        said = frozenset().union(*(self._terms[id(s)] for s in chosen))
        titles = frozenset().union(*(self._title_terms[id(s)] for s in chosen))
        near = frozenset().union(
            *(self._terms[id(other)] for s in chosen for other in self.neighbours(s))
        )
        passage = frozenset().union(
            *(self._terms[id(other)] for s in chosen for other in self.passage_of(s))
        )
        credit = {
            each: max(
                _strength(each, said),
                0.9 * _strength(each, titles),
                0.7 * _strength(each, near),
                0.5 * _strength(each, passage),
            )
            for each in self.question.weights
        }
        share = self._share(credit, self.question.weights)
        if self.question.own:
            share = min(share, self._share(credit, self.question.own))
        shown = " ".join(s.shown for s in chosen)
        if self.question.demands and not any(cue.search(shown) for cue in self.question.cues):
            share *= 0.75
        return share

    def new_weight(self, sentence: Sentence, chosen: Sequence[Sentence]) -> float:
        """The share of the question that only this sentence adds to the chosen ones."""
        said = frozenset().union(*(self._terms[id(s)] for s in chosen))
        found = self._terms[id(sentence)]
        gain = (
            weight * self._rarity[each] * max(0.0, _strength(each, found) - _strength(each, said))
            for each, weight in self.question.weights.items()
        )
        return sum(gain) / self._whole

    def _share(self, credit: dict[str, float], of: Iterable[str]) -> float:
        parts = [(self.question.weights[each] * self._rarity[each], credit[each]) for each in of]
        whole = sum(weight for weight, _ in parts)
        return sum(weight * got for weight, got in parts) / whole if whole else 0.0

    def _rarity_of(self, each: str) -> float:
        """0.5 for a term that every sentence holds, 1 for one that none holds."""
        count = max(len(self.sentences), 30)
        inverse = math.log(1 + (count - self._seen_in[each] + 0.5) / (self._seen_in[each] + 0.5))
        return 0.5 + 0.5 * inverse / math.log(1 + (count + 0.5) / 0.5)

    def _mended(self, question: Question) -> Question:
        """Terms that stand nowhere, but are one slip of the finger from one that does, or from
        a stop word, which then goes."""
        mended: dict[str, str] = {}
        for each in question.weights:
            narrower = NARROWER_TERMS.get(each, frozenset())
            if len(each) < 4 or {each, *narrower} & self._seen_in.keys() or each in GENERIC:
                continue
            near = sorted(known for known in self._seen_in if _one_slip_apart(each, known))
            if near and len(each) >= 5:
                mended[each] = near[0]
            elif each not in SYNONYMS and any(_one_slip_apart(each, s) for s in LONG_STOP_WORDS):
                mended[each] = ""
        if not mended:
            return question
        weights: dict[str, float] = {}
        for each, weight in question.weights.items():
            known = mended.get(each, each)
            weights[known] = max(weight, weights.get(known, 0.0))
        weights.pop("", None)
        own = frozenset(mended.get(each, each) for each in question.own) - {""}
        return replace(question, weights=weights, own=own)


def _strength(each: str, found: frozenset[str]) -> float:
    if each in found:
        return 1.0
    return 0.85 if not NARROWER_TERMS.get(each, frozenset()).isdisjoint(found) else 0.0


def _one_slip_apart(left: str, right: str) -> bool:
    """One letter inserted, left out or replaced, or two neighbours swapped."""
    if abs(len(left) - len(right)) > 1 or left[0] != right[0] or right.isdigit():
        return False
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    a, b = left[start:], right[start:]
    swapped = len(a) >= 2 and a[1::-1] + a[2:] == b
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or swapped


LONG_STOP_WORDS = frozenset(word for word in STOP_WORDS if len(word) >= 4 and "'" not in word)
POINTS_BACK = re.compile(r"\b(?:it|these|this|those|they|them|such)\b", re.IGNORECASE)
CONDITION = re.compile(
    r"(?:if|when|for|unless|under|between|from|after|once|during|in|at|on)\b[^,]*,", re.IGNORECASE
)
LEANS_BACK = re.compile(
    r"^(?:it|they|them|this|that|these|those|then|otherwise|however|but|also|instead|both|"
    r"after that|in this case|in that case|he|she|his|her|its|their)\b",
    re.IGNORECASE,
)


def _with_company(best: Sentence, evidence: Evidence) -> list[Sentence]:
    """The best sentence with those that belong to it, in the order of the passage."""
    kept = evidence.passage_of(best)
    at = kept.index(best)
    if best.is_item or best.opens_list:
        listed = _whole_list(kept, at)
        if listed:
            return listed
    chosen = [best]
    leans = LEANS_BACK.search(best.shown) or re.search(r"\b(?:these|such)\b", best.shown)
    if leans and at > 0:
        chosen.append(kept[at - 1])
    bar = evidence.relevance(best)
    near = [s for s in kept if s not in chosen]
    for other in sorted(near, key=evidence.relevance, reverse=True):
        adds = evidence.new_weight(other, chosen)
        close = evidence.relevance(other) >= 0.85 * bar
        if len(chosen) < MOST_SENTENCES and (close or adds >= 0.15):
            chosen.append(other)
    chosen.sort(key=lambda s: s.position)
    if not evidence.question.double:
        return chosen
    for other in sorted(evidence.sentences, key=evidence.relevance, reverse=True)[:5]:
        elsewhere = other.passage is not best.passage and not LEANS_BACK.search(other.shown)
        adds = evidence.new_weight(other, chosen)
        if len(chosen) < MOST_SENTENCES and elsewhere and adds >= 0.2:
            chosen.append(other)
    return chosen


def _whole_list(kept: Sequence[Sentence], at: int) -> list[Sentence]:
    """The items around, with the sentence that opens them: half a list misleads. Empty when
    nothing opens the list, or it is long; its items then count as sentences of their own."""
    first = at
    while first > 0 and kept[first].is_item:
        first -= 1
    if not kept[first].opens_list:
        return []
    last = first
    while last + 1 < len(kept) and kept[last + 1].is_item:
        last += 1
    return list(kept[first : last + 1]) if 0 < last - first <= MOST_LIST_ITEMS else []


ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:instruction|prompt|rule|message|above"
    r"|previous|prior)|\bsystem prompt\b|\b(?:language model|chatbot|assistant|ai)\b.{0,20}\b(?:"
    r"must|should|shall|will now|respond|reply|say|answer)\b|\byou are (?:now )?an? (?:ai|assistant"
    r"|chatbot|language model)\b|^(?:system|assistant|user)\s*:",
    re.IGNORECASE | re.DOTALL,
)


def gives_orders(sentence: str) -> bool:
    """It speaks to a machine that reads, not to a customer. Nobody obeys it here, but nobody
    needs it quoted either."""
    return bool(ORDERS.search(sentence))

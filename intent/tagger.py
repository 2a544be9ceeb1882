"""Slots of an utterance, from what the network and the operator's rules say. Imports no torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from intent.interface import Slot
from intent.slot_rules import RuleMatch, RuleMatcher
from intent.slots import SlotModel, decode, legal_transitions, to_slots, token_features
from intent.text import Tokens, tokenize_with_spans
from intent.viterbi import Decoder

Array = NDArray[np.float32]
IMPOSSIBLE = -1e4


class Sighting:
    """An utterance on its way to its slots."""

    def __init__(self, text: str, matcher: RuleMatcher) -> None:
        self.text = text
        self.tokens: Tokens = tokenize_with_spans(text)
        self.matches: list[RuleMatch] = matcher.find(text, self.tokens)
        self.token_features = token_features(self.tokens, self.matches, matcher)


class SlotTagger:
    def __init__(self, model: SlotModel, chain: tuple[Array, Array, Array] | None) -> None:
        """`chain`: scores of steps (L, L), of the first label and of the last (L,); None where
        the network has no tagger."""
        self._kinds = model.kinds
        self._matcher = RuleMatcher(model.rules)
        self._decoder = None
        if chain is not None:
            steps, first, last = chain
            legal_steps, legal_first = legal_transitions(len(first))
            self._decoder = Decoder(
                np.where(legal_steps, steps, np.float32(IMPOSSIBLE)),
                np.where(legal_first, first, np.float32(IMPOSSIBLE)),
                last,
            )

    def look_at(self, text: str) -> Sighting:
        return Sighting(text, self._matcher)

    def slots(self, seen: Sighting, scores: Array | None) -> tuple[Slot, ...]:
        """`scores`: (T, L), the network's."""
        spans = []
        if self._decoder is not None and scores is not None:
            [tagged] = self._decoder.decode(scores[:, None], [len(scores)])
            spans = decode(seen.tokens, tagged.labels, self._kinds, tagged.probabilities)
        return to_slots(seen.text, spans, seen.matches, self._matcher)

    def slots_of_all(
        self, seen: Sequence[Sighting], scores: Sequence[Array]
    ) -> list[tuple[Slot, ...]]:
        given: Sequence[Array | None] = scores or [None] * len(seen)
        return [self.slots(one, each) for one, each in zip(seen, given, strict=True)]

"""Utterances to learn from, as tokens and numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from intent.data import Example
from intent.slot_rules import RuleMatcher
from intent.slots import NO_SLOTS, SlotModel, encode
from intent.tagger import Sighting
from intent.text import tokenize
from intent.tutor import Tutor


@dataclass(frozen=True)
class Tagged:
    """For each labelled utterance the label of each token, and what a tagger is told of it."""

    labels: list[list[int]]
    token_features: list[NDArray[np.float32]]  # (T, K) each

    @classmethod
    def of(cls, examples: Sequence[Example], slots: SlotModel) -> "Tagged":
        matcher = RuleMatcher(slots.rules)
        seen = [Sighting(example.text, matcher) for example in examples]
        return cls(
            [
                encode(one.tokens, example.slots, slots.kinds)
                for one, example in zip(seen, examples, strict=True)
            ],
            [one.token_features for one in seen],
        )

    def batch(self, chosen: Sequence[int], size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Token features (B, T, K) and labels (B, T) for a batch of this size that begins with
        the `chosen` utterances, and which rows (R,) have labels at all."""
        features = torch.zeros(*size, self.token_features[0].shape[1])
        labels = torch.zeros(size, dtype=torch.int64)
        rows = [row for row, n in enumerate(chosen) if n < len(self.labels)]
        for row in rows:
            told = self.token_features[chosen[row]]
            features[row, : len(told)] = torch.from_numpy(told)
            labels[row, : len(told)] = torch.tensor(self.labels[chosen[row]])
        return features, labels, torch.tensor(rows, dtype=torch.int64)


@dataclass(frozen=True)
class Lesson:
    """Utterances as tokens, and what each is an utterance of."""

    texts: list[str]
    tokens: list[list[str]]
    labels: Tensor  # (N,) int64, -1 for an utterance that nobody labelled
    guesses: Tensor | None = None  # (N, I) logits of a tutor
    tagged: Tagged | None = None

    @classmethod
    def of(
        cls, examples: Sequence[Example], intents: Sequence[str], slots: SlotModel = NO_SLOTS
    ) -> "Lesson":
        """Leaves out examples of other intents, and those without words."""
        number_of = {intent: number for number, intent in enumerate(intents)}
        rows = [
            (example, tokens, number_of[example.intent])
            for example in examples
            if example.intent in number_of and (tokens := tokenize(example.text))
        ]
        return cls(
            [example.text for example, _, _ in rows],
            [tokens for _, tokens, _ in rows],
            torch.tensor([label for _, _, label in rows], dtype=torch.int64),
            tagged=Tagged.of([example for example, _, _ in rows], slots) if slots.kinds else None,
        )

    def with_tutor(self, tutor: Tutor, unlabelled: Sequence[str], intents: int) -> "Lesson":
        """And with utterances that the tutor alone judges."""
        rows = [(text, tokens) for text in unlabelled if (tokens := tokenize(text))]
        texts = self.texts + [text for text, _ in rows]
        tokens_of = self.tokens + [tokens for _, tokens in rows]
        labels = torch.cat([self.labels, torch.full((len(rows),), -1)])
        return Lesson(texts, tokens_of, labels, tutor.judge(texts, labels, intents), self.tagged)

"""The trained network at work."""

import os
from collections.abc import Sequence
from typing import Any, Self

import torch

from intent.artifact import Artifact, load
from intent.interface import Prediction, RankedIntent
from intent.network import BatchBuilder
from intent.scope import ScopeScorer
from intent.text import tokenize

RANKED = 5
BATCH = 256
OVERRULED = 1_000.0
"""Taken from the scope score where a rule says out of scope: below every score there is."""


class GRUClassifier:
    """Call it from one thread at a time, with `torch.set_num_threads(1)` for short waits."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._network = artifact.network()
        self._build = BatchBuilder(artifact.vocabulary)
        self._scope = ScopeScorer(artifact.scope)

    @classmethod
    def load(cls, source: str | os.PathLike[str] | bytes) -> Self:
        """From a file or its content. Raises ArtifactError."""
        return cls(load(source))

    @property
    def intents(self) -> tuple[str, ...]:
        return self._artifact.intents

    @property
    def card(self) -> dict[str, Any]:
        return self._artifact.card

    def classify(self, text: str) -> Prediction:
        """A text without words is out of scope, with confidence 0 for an arbitrary intent."""
        return self.classify_batch([text])[0]

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]:
        return [prediction for prediction, _ in self.judge(texts)]

    @torch.inference_mode()
    def judge(self, texts: Sequence[str]) -> list[tuple[Prediction, float]]:
        """Each prediction with its scope score: the higher, the more like the training data."""
        tokenized = [tokenize(text) for text in texts]
        judged = [(self._wordless(), -OVERRULED)] * len(texts)
        # Utterances of similar length share a batch, so that little is computed on padding.
        order = [place for place, tokens in enumerate(tokenized) if tokens]
        order.sort(key=lambda place: len(tokenized[place]))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            found = self._judge_batch([tokenized[place] for place in chosen])
            for place, judgement in zip(chosen, found, strict=True):
                judged[place] = judgement
        return judged

    def _judge_batch(self, tokenized: Sequence[Sequence[str]]) -> list[tuple[Prediction, float]]:
        logits, features = self._network(self._build(tokenized))
        confidences = (logits / self._artifact.temperature).softmax(1)
        ranked = confidences.topk(min(RANKED, len(self.intents)), dim=1)
        unfamiliar = torch.tensor([self._scope.is_unfamiliar(tokens) for tokens in tokenized])
        overruled = self._scope.resembles_outside(features) | unfamiliar
        scores = self._scope.scores(logits, features, tokenized) - OVERRULED * overruled
        threshold = self._artifact.scope.threshold
        return [
            (self._prediction(values, places, in_scope=score >= threshold), score)
            for values, places, score in zip(
                ranked.values.tolist(), ranked.indices.tolist(), scores.tolist(), strict=True
            )
        ]

    def _prediction(
        self, confidences: Sequence[float], places: Sequence[int], in_scope: bool
    ) -> Prediction:
        ranking = tuple(
            RankedIntent(self.intents[place], confidence)
            for place, confidence in zip(places, confidences, strict=True)
        )
        return Prediction(ranking[0].intent, ranking[0].confidence, ranking, in_scope)

    def _wordless(self) -> Prediction:
        nobody = RankedIntent(self.intents[0], 0.0)
        return Prediction(nobody.intent, nobody.confidence, (nobody,), in_scope=False)

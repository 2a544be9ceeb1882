"""The trained network at work. Imports no torch."""

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from intent.artifact import Artifact, load
from intent.assurance import assurance
from intent.calibration import shares_and_certainties
from intent.certificate import certify
from intent.engine import Array, Engine
from intent.follow_up import FollowUpTracker
from intent.interface import (
    ArtifactError,
    Certificate,
    NearestExample,
    Prediction,
    Promise,
    RankedIntent,
    Slot,
)
from intent.neighbours import LIKELIEST, Neighbours, lean, likeliest
from intent.scope import ScopeScorer, is_unfamiliar
from intent.tagger import SlotTagger
from intent.text import tokenize

RANKED = 5
OVERRULED = 1_000.0
"""Taken from the scope score where a rule says out of scope: below every score there is."""


class GRUClassifier:
    """Call it from one thread at a time."""

    def __init__(self, artifact: Artifact) -> None:
        """Raises ArtifactError where the network cannot run."""
        self._artifact = artifact
        try:
            self._engine = Engine(artifact.network)
        except ValueError as error:
            raise ArtifactError(f"the file's network cannot run: {error}; train again") from error
        self._neighbours = Neighbours(artifact.scope.inside, len(artifact.intents))
        self._scope = ScopeScorer(artifact.scope)
        self._tracker = FollowUpTracker.of(artifact.follow_up, artifact.intents)
        self._tagger = None
        if artifact.slots:
            chain = artifact.network.chain() if artifact.slots.kinds else None
            self._tagger = SlotTagger(artifact.slots, chain)

    @classmethod
    def load(cls, source: str | os.PathLike[str] | bytes) -> Self:
        """From a file or its content. Raises ArtifactError."""
        return cls(load(source))

    @property
    def intents(self) -> tuple[str, ...]:
        return self._artifact.intents

    @property
    def topic_tracker(self) -> FollowUpTracker | None:
        return self._tracker

    @property
    def card(self) -> dict[str, Any]:
        return self._artifact.card

    def certify(self, promise: Promise) -> Certificate:
        return certify(self._artifact.calibration, promise)

    def classify(self, text: str) -> Prediction:
        """A text without words is out of scope, with confidence 0 for an arbitrary intent."""
        return self.classify_batch([text])[0]

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]:
        tokenized = [tokenize(text) for text in texts]
        predictions = [self._wordless()] * len(texts)
        worded = [place for place, tokens in enumerate(tokenized) if tokens]
        if worded:
            found = self._classify_worded(
                [texts[place] for place in worded], [tokenized[place] for place in worded]
            )
            for place, prediction in zip(worded, found, strict=True):
                predictions[place] = prediction
        return predictions

    def nearest(self, texts: Sequence[str], count: int = 3) -> list[list[NearestExample]]:
        """For each text the stored training examples nearest to it, best first; none for a text
        without words. Examples of the likeliest intents alone are compared."""
        tokenized = [tokenize(text) for text in texts]
        worded = [place for place, tokens in enumerate(tokenized) if tokens]
        nearest: list[list[NearestExample]] = [[] for _ in texts]
        if not worded:
            return nearest
        stored = self._artifact.scope.inside
        active = self._engine.run([tokenized[place] for place in worded])
        compared = self._neighbours.compare(likeliest(active.logits, LIKELIEST), active.features)
        for place, comparison in zip(worded, compared, strict=True):
            nearest[place] = [
                NearestExample(stored.texts[n], self.intents[stored.labels[n]], cosine)
                for n, cosine in comparison.nearest(count)
            ]
        return nearest

    def features(self, texts: Sequence[str]) -> Array:
        """(B, F), where the network places them. No text may be without words."""
        return self._engine.run([tokenize(text) for text in texts]).features

    def examples(self) -> list[tuple[str, str]]:
        """Text and intent of the training examples that the file stores."""
        stored = self._artifact.scope.inside
        return [
            (text, self.intents[label])
            for text, label in zip(stored.texts, stored.labels.tolist(), strict=True)
        ]

    def _classify_worded(
        self, texts: Sequence[str], tokenized: Sequence[Sequence[str]]
    ) -> list[Prediction]:
        seen = [self._tagger.look_at(text) for text in texts] if self._tagger else []
        active = self._engine.run(tokenized, [one.token_features for one in seen])
        slots: list[tuple[Slot, ...]] = [()] * len(texts)
        if self._tagger:
            slots = self._tagger.slots_of_all(seen, active.tags)
        # Leaning lifts some of the likeliest above others, and nothing above the likeliest.
        best = likeliest(active.logits, RANKED)
        compared = self._neighbours.compare(best[:, :LIKELIEST], active.features)
        confidences, certainties = shares_and_certainties(
            lean(active.logits, compared), self._artifact.temperature
        )
        shares = confidences[np.arange(len(best))[:, None], best].tolist()
        familiarities = [self._scope.familiarities(tokens) for tokens in tokenized]
        signals = self._scope.signals(active.logits, certainties, compared, familiarities)
        scores = self._scope.scores(signals)
        resembling = self._scope.resembles_outside(active.features, compared)
        overruled = [
            outside or is_unfamiliar(familiar)
            for outside, familiar in zip(resembling.tolist(), familiarities, strict=True)
        ]
        above = [
            score - self._artifact.scope.threshold - OVERRULED * refused
            for score, refused in zip(scores.tolist(), overruled, strict=True)
        ]
        return [
            self._prediction(
                sorted(zip(share, places, strict=True), key=_by_confidence),
                score,
                slots=found,
                direction=one.direction,
                tokens=len(tokens),
            )
            for share, places, score, found, one, tokens in zip(
                shares, best.tolist(), above, slots, compared, tokenized, strict=True
            )
        ]

    def _prediction(
        self,
        ranked: Sequence[tuple[float, int]],
        score: float,
        *,
        slots: tuple[Slot, ...],
        direction: Array,
        tokens: int,
    ) -> Prediction:
        ranking = tuple(
            [RankedIntent(self.intents[place], confidence) for confidence, place in ranked]
        )
        first = ranking[0]
        return Prediction(
            intent=first.intent,
            confidence=first.confidence,
            ranking=ranking,
            in_scope=score >= 0,
            scope_score=score,
            slots=slots,
            assurance=assurance(first.confidence, score),
            direction=direction,
            tokens=tokens,
        )

    def _wordless(self) -> Prediction:
        nobody = RankedIntent(self.intents[0], 0.0)
        return Prediction(nobody.intent, nobody.confidence, (nobody,), False, -OVERRULED)


def _by_confidence(ranked: tuple[float, int]) -> float:
    return -ranked[0]

"""What the rest of Twofold knows of intent classification. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

OUT_OF_SCOPE = "out_of_scope"
"""Reserved intent name: its examples teach what the assistant is *not* for."""


@dataclass(frozen=True, slots=True)
class RankedIntent:
    intent: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Slot:
    """A value found in an utterance. `value` is its canonical form, where a synonym names one,
    else `text`, as written at characters `start` to `end` of the utterance as given."""

    name: str
    value: str
    text: str
    start: int
    end: int
    role: str | None = None
    group: str | None = None
    confidence: float = 1.0
    source: str = "network"
    """Who found it: the network, a regex or a lookup table."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the network thinks of one utterance.

    `confidence` is calibrated: of all utterances predicted at 0.8, about 80 % are right.
    `ranking` holds the likeliest intents, best first, and starts with `intent`;
    it never names `OUT_OF_SCOPE`. `in_scope` is false when the utterance resembles
    nothing the network was trained on; `intent` is then only its nearest guess.
    `scope_score` is at least 0 where in scope: the higher, the more like the training data.
    """

    intent: str
    confidence: float
    ranking: tuple[RankedIntent, ...]
    in_scope: bool
    scope_score: float = 0.0
    slots: tuple[Slot, ...] = ()


@dataclass(frozen=True, slots=True)
class NearestExample:
    """A training example near to an utterance; `similarity` is the cosine of their features."""

    text: str
    intent: str
    similarity: float


class IntentClassifier(Protocol):
    """One trained network. Safe to call from one thread at a time."""

    @property
    def intents(self) -> tuple[str, ...]: ...

    def classify(self, text: str) -> Prediction: ...

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]: ...


class IntentError(Exception):
    """Base of everything this package raises on purpose."""


class TrainingDataError(IntentError):
    """Training data that cannot train; `problems` name file, line and remedy."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class ArtifactError(IntentError):
    """A file that is not a model version of ours, or is damaged."""

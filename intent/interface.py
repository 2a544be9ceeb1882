"""What the rest of Twofold knows of intent classification. Imports no torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

OUT_OF_SCOPE = "out_of_scope"
"""Reserved intent name: its examples teach what the assistant is *not* for."""


class RankedIntent(NamedTuple):
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
    `assurance`, from 0 to 1, says how well an instant answer is backed, by confidence and scope
    score together: it ranks, and what it is worth a `Certificate` says.
    """

    intent: str
    confidence: float
    ranking: tuple[RankedIntent, ...]
    in_scope: bool
    scope_score: float = 0.0
    slots: tuple[Slot, ...] = ()
    assurance: float = 0.0
    direction: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    """(F,), where the network places the words, of length 1; None where there are none."""
    tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "intent": self.intent,
            "confidence": self.confidence,
            "ranking": [one._asdict() for one in self.ranking],
            "in_scope": self.in_scope,
            "scope_score": self.scope_score,
            "slots": [asdict(one) for one in self.slots],
            "assurance": self.assurance,
        }


class Continuation(NamedTuple):
    """An utterance in its conversation. `probability`: that it goes on with what was talked about.
    `topics` is what it is about then: the likeliest intents, best first; their shares add up to
    at most 1."""

    probability: float
    topics: tuple[RankedIntent, ...]


@dataclass(frozen=True, slots=True)
class NearestExample:
    """A training example near to an utterance; `similarity` is the cosine of their features."""

    text: str
    intent: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Promise:
    """Of the instant answers at most `max_wrong_instant` are wrong, in any traffic of which at
    least `least_in_scope` is in scope. `confidence` is that of the calibration: of so many
    calibrations this share keeps the promise. An instant answer to an out-of-scope message is
    wrong. All three are shares."""

    max_wrong_instant: float = 0.05
    confidence: float = 0.9
    least_in_scope: float = 0.9


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold of the assurance that keeps the promise, and what was counted there."""

    threshold: float
    answered: float
    """Share of the in-scope calibration utterances that it answers instantly."""
    let_through: float
    """The same of the out-of-scope ones."""
    wrong: float
    """Of its instant answers, in traffic with no more in scope than promised."""


@dataclass(frozen=True, slots=True)
class RiskPoint:
    """If messages were answered instantly from this assurance on: which share of all would be,
    and which share of those answers would be wrong."""

    threshold: float
    coverage: float
    wrong: float


class Doubt(StrEnum):
    """Why nothing is certified."""

    NOTHING_UNSEEN = "nothing_unseen"  # no utterances were kept that the network has not seen
    ONE_INTENT = "one_intent"
    NO_OUT_OF_SCOPE = "no_out_of_scope"  # in-scope traffic alone would be certified
    TOO_FEW = "too_few"
    TOO_MANY_WRONG = "too_many_wrong"  # more utterances like these would not help
    FEWER_IN_SCOPE = "fewer_in_scope"  # of a sample of the traffic than the promise is for


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whether a promise is kept, and where. `points`, from strict to loose, hold together: with
    the promised confidence all of them keep it, so that one may move between them."""

    promise: Promise
    points: tuple[OperatingPoint, ...] = ()
    floors: Mapping[str, float] = field(default_factory=dict)
    """Intents that need more assurance than the threshold, whichever point it is of."""
    basis: str | None = None
    """Where the calibration utterances come from, which says what the certificate is worth."""
    inside: int = 0
    outside: int = 0
    """Calibration utterances in and out of scope."""
    seen: int = 0
    """Left out: trained on, word for word, or repetitions."""
    contradictory: int = 0
    """That stand under several intents: one at least is wrong."""
    doubt: Doubt | None = None
    unclear: int = 0
    """Sampled messages of which nobody could tell what they are about: each counts against the
    promise on both sides, as wrong in scope and as answered out of it."""
    period: tuple[str, ...] = ()
    """Days from and to which sampled messages were asked; empty for a training's utterances."""
    missing_inside: int | None = None
    missing_outside: int | None = None
    """How many more would do, if they turn out as those at hand; None where no number would."""
    certifiable_from: float | None = None
    """Where nothing is certified: the least share in scope that could have been promised."""
    curve: tuple[RiskPoint, ...] = ()
    augrc: float | None = None

    @property
    def certified(self) -> bool:
        return bool(self.points)

    @property
    def point(self) -> OperatingPoint | None:
        """The loosest certified point: it answers the most."""
        return self.points[-1] if self.points else None

    def point_answering(self, share: float) -> OperatingPoint | None:
        """The strictest certified point that answers this share of in-scope messages instantly,
        else the loosest: a budget may move between certified points, and nowhere else."""
        enough = (point for point in self.points if point.answered >= share)
        return next(enough, self.point)

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return {"certified": self.certified, **plain}


class TopicTracker(Protocol):
    """Reads utterances in their conversation. Safe to call from any thread."""

    def follow(self, prediction: Prediction, topics: Sequence[RankedIntent]) -> Continuation:
        """`topics`: those after the utterance before; none where a conversation begins."""
        ...


class IntentClassifier(Protocol):
    """One trained network. Safe to call from one thread at a time."""

    @property
    def intents(self) -> tuple[str, ...]: ...

    @property
    def topic_tracker(self) -> TopicTracker | None:
        """None where nothing is known of how conversations go on."""
        ...

    def certify(self, promise: Promise) -> Certificate: ...

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

"""Which way a turn goes: instant, clarify or generate. Pure functions of values."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Self

from app.dialogue.pressure import Pressure
from app.dialogue.state import DialogueState
from intent.interface import Certificate, Continuation, Prediction, Promise, RankedIntent


class Route(StrEnum):
    INSTANT = "instant"
    CLARIFY = "clarify"
    GENERATE = "generate"


class Cause(StrEnum):
    """Why a decision came out as it did."""

    CONFIDENT = "confident"
    CHOSEN = "chosen"  # the user picked one of the clarification's options
    CLOSE_INTENTS = "close_intents"
    FOLLOW_UP = "follow_up"  # by itself unsure, but it goes on with what was talked about
    UNSURE = "unsure"
    NOT_AFFORDED = "not_afforded"  # unsure, and the budget is spent: it asks back instead
    OUT_OF_SCOPE = "out_of_scope"
    NO_REPLY = "no_reply"  # the intent is known, but has no reply that can be said
    NO_MODEL_VERSION = "no_model_version"  # nothing is trained or promoted yet


class Basis(StrEnum):
    """What the threshold of a decision rests on."""

    CERTIFIED = "certified"
    UNDER_PRESSURE = "under_pressure"  # certified for the looser promise of such times
    UNCERTIFIED = "uncertified"  # the safe default
    OTHER_TRAFFIC = "other_traffic"  # less is in scope of late than was promised for: both of them
    FIXED = "fixed"  # by the operator


@dataclass(frozen=True, slots=True)
class Decision:
    route: Route
    cause: Cause
    intent: str | None
    confidence: float
    threshold: float
    """What `assurance` had to reach for an instant answer."""
    margin: float
    """Confidence of the best intent above the second."""
    alternatives: tuple[RankedIntent, ...] = ()
    assurance: float = 0.0
    """The prediction's; its confidence where that is what is compared: with a fixed threshold, and
    where the safe default wants more of it."""
    basis: Basis = Basis.FIXED
    in_scope: bool | None = None
    """As the network calls it; None where it was not asked, and in rows of older releases."""
    goes_on: float | None = None
    """How likely the utterance continues the topic before it; None where there was none."""
    pressure: Pressure = Pressure.NONE
    """What spoke against generating."""

    @property
    def is_users_choice(self) -> bool:
        """The user picked it from a clarification; maybe it has no reply that can be said."""
        is_silent = self.cause is Cause.NO_REPLY and not self.alternatives
        return self.cause is Cause.CHOSEN or is_silent

    def to_json(self) -> dict[str, Any]:
        return {
            "route": self.route.value,
            "cause": self.cause.value,
            "intent": self.intent,
            "confidence": self.confidence,
            "threshold": self.threshold,
            "margin": self.margin,
            "alternatives": [list(one) for one in self.alternatives],
            "assurance": self.assurance,
            "basis": self.basis.value,
            "in_scope": self.in_scope,
            "goes_on": self.goes_on,
            "pressure": self.pressure.value,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(
            route=Route(value["route"]),
            cause=Cause(value["cause"]),
            intent=value["intent"],
            confidence=value["confidence"],
            threshold=value["threshold"],
            margin=value["margin"],
            alternatives=tuple(RankedIntent(*pair) for pair in value["alternatives"]),
            # Rows of older releases: a fixed threshold of the confidence.
            assurance=value.get("assurance", value["confidence"]),
            basis=Basis(value.get("basis", Basis.FIXED)),
            in_scope=value.get("in_scope"),
            goes_on=value.get("goes_on"),
            pressure=Pressure(value.get("pressure", Pressure.NONE)),
        )


@dataclass(frozen=True, slots=True)
class Grounds:
    """What instant answers may rest on now."""

    certificate: Certificate | None = None
    under_pressure: Certificate | None = None
    """Of the looser promise that the operator made for times when generating is dear; None where
    there is none."""
    is_usual_traffic: bool = True
    """Whether as much of it is in scope as the certificates take for granted."""

    def threshold(self, intent: str) -> float | None:
        """None where nothing is certified."""
        return _certified(self.certificate, intent)

    def threshold_under_pressure(self, intent: str) -> float | None:
        """None where nothing is certified that would answer more."""
        usual, looser = self.threshold(intent), _certified(self.under_pressure, intent)
        if not self.is_usual_traffic or looser is None or (usual is not None and looser >= usual):
            return None
        return looser


def _certified(certificate: Certificate | None, intent: str) -> float | None:
    if certificate is None or certificate.point is None:
        return None
    return max(certificate.point.threshold, certificate.floors.get(intent, 0.0))


NO_GROUNDS = Grounds()
USUAL_ODDS = 19.0


@dataclass(frozen=True, slots=True)
class RoutingPolicy:
    """Instant when sure; ask back, once, when two intents share the confidence; else generate."""

    instant_threshold: float | None = None
    """Least confidence for an instant answer, whatever is certified; None leaves it to the
    certificate."""
    safe_confidence: float = 0.9
    safe_assurance: float = 0.97
    """The least of both where nothing is certified and one answer in twenty may be wrong; their
    odds grow with those that are promised (docs/decisions/0029)."""
    clarify_threshold: float = 0.6
    """Least confidence of the best two together to ask which of them it is."""
    least_share_of_second: float = 0.1
    """A runner-up with less than this share of the best one's confidence is no rival."""
    follow_up_threshold: float = 0.5
    """How likely an unsure utterance must continue the topic to be taken as a follow-up."""

    def choose(
        self,
        prediction: Prediction | None,
        state: DialogueState,
        grounds: Grounds = NO_GROUNDS,
        continuation: Continuation | None = None,
        pressure: Pressure = Pressure.NONE,
    ) -> Decision:
        """`prediction` is None while no model version is live; `continuation` where no topic
        came before, or nobody follows topics. An instant answer never rests on it: what is
        certified is the classifier alone. It only tells a generator what is being asked."""
        if prediction is None:
            basis, threshold = self._without_certificate()
            return Decision(
                Route.GENERATE,
                Cause.NO_MODEL_VERSION,
                None,
                0.0,
                threshold,
                0.0,
                basis=basis,
                pressure=pressure,
            )
        basis, threshold, assurance, is_sure = self._judge(prediction, grounds, pressure)
        ranking = prediction.ranking
        if is_sure:
            route, cause = Route.INSTANT, Cause.CONFIDENT
        else:
            route, cause = self._route_unsure(prediction, state, pressure)
            asks_for_want_of_budget = pressure is Pressure.SPENT and route is Route.CLARIFY
            if (
                continuation
                and not asks_for_want_of_budget
                and self._follows(continuation, prediction, route)
            ):
                route, cause, ranking = Route.GENERATE, Cause.FOLLOW_UP, continuation.topics
        best = ranking[0]
        return Decision(
            route,
            cause,
            best.intent,
            best.confidence,
            threshold,
            best.confidence - _confidence_of_second(ranking),
            ranking[:3],
            assurance,
            basis,
            prediction.in_scope,
            continuation.probability if continuation else None,
            pressure,
        )

    def chosen(self, intent: str) -> Decision:
        """The user picked this intent from a clarification."""
        basis, threshold = self._without_certificate()
        return Decision(
            Route.INSTANT, Cause.CHOSEN, intent, 1.0, threshold, 1.0, assurance=1.0, basis=basis
        )

    def _follows(self, continuation: Continuation, prediction: Prediction, route: Route) -> bool:
        """Where two intents are close the topic tells which, if it is one of them."""
        rivals = [one.intent for one in prediction.ranking[:2]]
        may_be_meant = route is not Route.CLARIFY or continuation.topics[0].intent in rivals
        return may_be_meant and continuation.probability >= self.follow_up_threshold

    def _judge(
        self, prediction: Prediction, grounds: Grounds, pressure: Pressure
    ) -> tuple[Basis, float, float, bool]:
        """The basis and its threshold, what has to reach it, and whether it does."""
        if self.instant_threshold is not None:
            confidence, least = prediction.confidence, self.instant_threshold
            is_sure = prediction.in_scope and confidence >= least
            return Basis.FIXED, least, confidence, is_sure
        assurance = prediction.assurance
        if pressure is not Pressure.NONE:
            looser = grounds.threshold_under_pressure(prediction.intent)
            if looser is not None:
                return Basis.UNDER_PRESSURE, looser, assurance, assurance >= looser
        certified = grounds.threshold(prediction.intent)
        if certified is not None and grounds.is_usual_traffic:
            return Basis.CERTIFIED, certified, assurance, assurance >= certified
        promised = grounds.certificate.promise if grounds.certificate else Promise()
        least_confidence = _as_safe(self.safe_confidence, promised)
        least = _as_safe(self.safe_assurance, promised)
        is_confident = prediction.in_scope and prediction.confidence >= least_confidence
        if certified is not None:
            # Outside of what is certified both must be convinced.
            least = max(least, certified)
            return Basis.OTHER_TRAFFIC, least, assurance, is_confident and assurance >= least
        if prediction.confidence < least_confidence:
            return Basis.UNCERTIFIED, least_confidence, prediction.confidence, False
        return Basis.UNCERTIFIED, least, assurance, is_confident and assurance >= least

    def _without_certificate(self) -> tuple[Basis, float]:
        """Where there is no prediction to judge."""
        if self.instant_threshold is not None:
            return Basis.FIXED, self.instant_threshold
        return Basis.UNCERTIFIED, self.safe_assurance

    def _route_unsure(
        self, prediction: Prediction, state: DialogueState, pressure: Pressure
    ) -> tuple[Route, Cause]:
        best, second = prediction.confidence, _confidence_of_second(prediction.ranking)
        if not prediction.in_scope:
            return Route.GENERATE, Cause.OUT_OF_SCOPE
        rivals = second >= self.least_share_of_second * best
        if rivals and best + second >= self.clarify_threshold and not state.pending:
            return Route.CLARIFY, Cause.CLOSE_INTENTS
        if pressure is Pressure.SPENT and not state.pending:
            return Route.CLARIFY, Cause.NOT_AFFORDED
        return Route.GENERATE, Cause.UNSURE


@cache
def _as_safe(share: float, promise: Promise) -> float:
    """Its odds, as many times as the promised odds are those of 19 to 1."""
    wrong = promise.max_wrong_instant
    odds = share / (1 - share) * (1 - wrong) / wrong / USUAL_ODDS
    return round(odds / (1 + odds), 6)


def _confidence_of_second(ranking: Sequence[RankedIntent]) -> float:
    return ranking[1].confidence if len(ranking) > 1 else 0.0

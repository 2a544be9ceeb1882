"""Which way a turn goes: instant, clarify or generate. Pure functions of values."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from app.dialogue.state import DialogueState
from intent.interface import Prediction


class Route(StrEnum):
    INSTANT = "instant"
    CLARIFY = "clarify"
    GENERATE = "generate"


class Cause(StrEnum):
    """Why a decision came out as it did."""

    CONFIDENT = "confident"
    CHOSEN = "chosen"  # the user picked one of the clarification's options
    CLOSE_INTENTS = "close_intents"
    UNSURE = "unsure"
    OUT_OF_SCOPE = "out_of_scope"
    NO_REPLY = "no_reply"  # the intent is known, but has no reply that can be said
    NO_MODEL_VERSION = "no_model_version"  # nothing is trained or promoted yet


@dataclass(frozen=True, slots=True)
class Alternative:
    intent: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Decision:
    route: Route
    cause: Cause
    intent: str | None
    confidence: float
    threshold: float
    margin: float
    """Confidence of the best intent above the second."""
    alternatives: tuple[Alternative, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "route": self.route.value,
            "cause": self.cause.value,
            "intent": self.intent,
            "confidence": self.confidence,
            "threshold": self.threshold,
            "margin": self.margin,
            "alternatives": [[one.intent, one.confidence] for one in self.alternatives],
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
            alternatives=tuple(Alternative(*pair) for pair in value["alternatives"]),
        )


@dataclass(frozen=True, slots=True)
class RoutingPolicy:
    """Instant when sure; ask back, once, when two intents share the confidence; else generate."""

    instant_threshold: float = 0.8
    clarify_threshold: float = 0.6
    """Least confidence of the best two together to ask which of them it is."""
    least_share_of_second: float = 0.1
    """A runner-up with less than this share of the best one's confidence is no rival."""

    def choose(self, prediction: Prediction | None, state: DialogueState) -> Decision:
        """`prediction` is None while no model version is live."""
        if prediction is None:
            return Decision(
                Route.GENERATE, Cause.NO_MODEL_VERSION, None, 0.0, self.instant_threshold, 0.0
            )
        route, cause = self._route(prediction, state)
        best, second = prediction.confidence, _confidence_of_second(prediction)
        return Decision(
            route=route,
            cause=cause,
            intent=prediction.intent,
            confidence=best,
            threshold=self.instant_threshold,
            margin=best - second,
            alternatives=tuple(
                Alternative(one.intent, one.confidence) for one in prediction.ranking[:3]
            ),
        )

    def _route(self, prediction: Prediction, state: DialogueState) -> tuple[Route, Cause]:
        best, second = prediction.confidence, _confidence_of_second(prediction)
        if not prediction.in_scope:
            return Route.GENERATE, Cause.OUT_OF_SCOPE
        if best >= self.instant_threshold:
            return Route.INSTANT, Cause.CONFIDENT
        rivals = second >= self.least_share_of_second * best
        if rivals and best + second >= self.clarify_threshold and not state.pending:
            return Route.CLARIFY, Cause.CLOSE_INTENTS
        return Route.GENERATE, Cause.UNSURE

    def chosen(self, intent: str) -> Decision:
        """The user picked this intent from a clarification."""
        return Decision(Route.INSTANT, Cause.CHOSEN, intent, 1.0, self.instant_threshold, 1.0)


def _confidence_of_second(prediction: Prediction) -> float:
    return prediction.ranking[1].confidence if len(prediction.ranking) > 1 else 0.0

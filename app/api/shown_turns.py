"""A turn as people see it over HTTP, and what it is made from."""

from datetime import datetime
from typing import Literal, cast

from app.api.dependencies import In, Out
from app.api.strict_json import CleanText
from app.dialogue import turn as domain
from app.dialogue.pressure import Pressure
from app.dialogue.responses import ReplyBook
from app.dialogue.routing import Basis, Cause, Route
from app.dialogue.routing import Decision as DomainDecision
from app.dialogue.turn import TurnStatus


class Alternative(Out):
    intent: str
    title: str
    confidence: float


class Decision(Out):
    route: Route
    cause: Cause
    intent: str | None
    intent_title: str | None
    confidence: float
    threshold: float
    """What `assurance` had to reach for an instant answer, and what `basis` says it rests on."""
    assurance: float
    basis: Basis
    margin: float
    alternatives: list[Alternative]
    goes_on: float | None
    """How likely the message continues the topic before it; null where there was none. Where an
    unsure one does (`follow_up`), intent, confidence and alternatives are those of the
    conversation, and a generator answers with what was said before."""
    pressure: Pressure
    """What spoke against generating: then the threshold may be the one of `under_pressure`; and
    where the budget is `spent`, an unsure bot asks back, or says that it cannot (`degraded`)."""


class Citation(Out):
    passage_id: str
    document: str
    title: str
    quote: str


class Choice(Out):
    intent: str
    title: str


class Timing(Out):
    classify_ms: float | None
    search_ms: float | None
    first_piece_ms: float | None
    total_ms: float | None


Rating = Literal["up", "down"]


class Feedback(In):
    rating: Rating
    comment: CleanText | None = None


class Skipped(Out):
    generator: str
    error: str


class TurnError(Out):
    code: str
    message: str


class Turn(Out):
    id: str
    conversation_id: str
    seq: int
    status: TurnStatus
    text: str
    reply: str | None
    citations: list[Citation]
    choices: list[Choice]
    decision: Decision | None
    model_version: int | None
    generator: str | None
    degraded: str | None
    """`deadline`, `fallback`, `no_reply` or `budget`: why this may not be the best answer."""
    skipped: list[Skipped]
    """Generators that were asked before, and did not answer."""
    timing: Timing
    feedback: Feedback | None
    error: TurnError | None
    created_at: datetime
    finished_at: datetime | None


class Ranked(Out):
    intent: str
    confidence: float


class Prediction(Out):
    intent: str
    confidence: float
    in_scope: bool
    scope_score: float
    assurance: float
    ranking: list[Ranked]


def shown(turn: domain.Turn, replies: ReplyBook) -> Turn:
    reply = turn.reply
    return Turn(
        id=turn.id,
        conversation_id=turn.conversation_id,
        seq=turn.seq,
        status=turn.status,
        text=turn.text,
        reply=reply.text if reply else None,
        citations=[Citation.model_validate(one) for one in reply.citations] if reply else [],
        choices=[Choice.model_validate(one) for one in reply.choices] if reply else [],
        decision=shown_decision(turn.decision, replies) if turn.decision else None,
        model_version=turn.model_version,
        generator=reply.generator if reply else None,
        degraded=reply.degraded if reply else None,
        skipped=[Skipped.model_validate(one) for one in reply.skipped] if reply else [],
        timing=Timing.model_validate(turn.timing),
        feedback=(
            Feedback(rating=cast(Rating, turn.feedback.rating), comment=turn.feedback.comment)
            if turn.feedback
            else None
        ),
        error=_error(turn.error_code),
        created_at=turn.created_at,
        finished_at=turn.finished_at,
    )


def shown_decision(decision: DomainDecision, replies: ReplyBook) -> Decision:
    return Decision(
        route=decision.route,
        cause=decision.cause,
        intent=decision.intent,
        intent_title=replies.title(decision.intent) if decision.intent else None,
        confidence=decision.confidence,
        threshold=decision.threshold,
        assurance=decision.assurance,
        basis=decision.basis,
        margin=decision.margin,
        alternatives=[
            Alternative(
                intent=one.intent, title=replies.title(one.intent), confidence=one.confidence
            )
            for one in decision.alternatives
        ],
        goes_on=decision.goes_on,
        pressure=decision.pressure,
    )


_MESSAGES = {
    "orphaned": "the server was interrupted twice while it answered this turn",
    "internal": "something went wrong while this turn was answered",
    "generator_timeout": "the generator did not answer in time",
    "generator_overloaded": "the generator is full",
    "generator_unavailable": "the generator cannot be reached",
}


def _error(code: str | None) -> TurnError | None:
    if code is None:
        return None
    return TurnError(code=code, message=_MESSAGES.get(code, "the reply could not be written"))

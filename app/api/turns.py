"""Turns: post one and hear its reply, whole or streamed; read, cancel and rate them."""

import hashlib
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse
from pydantic import Field

from app.api import admission, sse
from app.api.auth import User
from app.api.certificates import Certificate
from app.api.dependencies import App, Cursor, Id, In, Limit, Out, Services
from app.api.shown_turns import Decision, Feedback, Prediction, Turn, shown, shown_decision
from app.api.sse import Event
from app.api.strict_json import CleanText, StrictRoute
from app.database import conversations, turns
from app.dialogue import turn as domain
from app.dialogue.responses import ReplyBook
from app.dialogue.state import DialogueState
from app.dialogue.turn import TurnStatus
from app.errors import NotFound, Unavailable

router = APIRouter(prefix="/v1", tags=["turns"], route_class=StrictRoute)

IdempotencyKey = Annotated[
    str | None, Header(min_length=16, max_length=255, pattern="^[\x21-\x7e]+$")
]
EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "The turn as it grows"}
}
STORED: dict[int | str, dict[str, Any]] = {
    202: {"description": "Stored; another server goes on, see Location"}
}
NOT_NEWEST: dict[int | str, dict[str, Any]] = {
    409: {"description": "It is answered already, or a newer turn follows it"}
}


class NewTurn(In):
    text: CleanText
    deadline_ms: Annotated[int, Field(ge=100, le=600_000, strict=True)] | None = None
    """When a generator cannot finish in time, what it has by then is final (`degraded`)."""


class TurnPage(Out):
    items: list[Turn]
    next_cursor: str | None


class Question(In):
    text: CleanText
    conversation_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None


class Explanation(Out):
    decision: Decision
    prediction: Prediction | None
    certificate: Certificate | None
    """Of the live model version."""
    certificate_under_pressure: Certificate | None
    """For the looser promise of such times, where the settings make one."""
    usual_traffic: bool
    """False: fewer of the last messages are in scope than the certificates take for granted, so
    that they say nothing of these. Until that is over an instant answer must satisfy the safe
    default, too."""


@router.post(
    "/conversations/{conversation_id}/turns",
    status_code=201,
    response_model=Turn,
    responses=EVENT_STREAM | STORED,
    dependencies=[Depends(admission.turn)],
)
async def post(
    conversation_id: Id,
    new: NewTurn,
    principal: User,
    app: App,
    request: Request,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Turn | Response:
    """With `Accept: text/event-stream` the reply is streamed; else this waits until it is whole.

    The turn is stored before anything is answered: if the connection breaks,
    `GET /v1/turns/{id}` has it. 202: stored, but this server shuts down, or loses its database,
    before the reply is whole; it or another one writes it."""
    turn = await app.turns.post(
        principal.owner,
        conversation_id,
        new.text,
        idempotency_key=idempotency_key,
        deadline_seconds=new.deadline_ms / 1000 if new.deadline_ms else None,
    )
    if turn.replayed:
        response.headers["Idempotency-Replayed"] = "true"
        response.status_code = 200
    return await _reply(turn, app, request, response)


@router.get("/conversations/{conversation_id}/turns")
async def index(
    conversation_id: Id, principal: User, app: App, limit: Limit = 50, cursor: Cursor = None
) -> TurnPage:
    """The newest turns, oldest first within a page; `next_cursor` leads to older ones."""
    items, older = await app.database.read(
        lambda c: turns.page(c, principal.owner, conversation_id, limit=limit, cursor=cursor)
    )
    return TurnPage(items=[shown(one, app.live.replies) for one in items], next_cursor=older)


@router.get("/turns/{turn_id}", dependencies=[Depends(admission.listening)])
async def show(
    turn_id: Id, principal: User, app: App, wait: Annotated[float, Query(ge=0, le=30)] = 0
) -> Turn:
    """`wait`: seconds to hold the answer back for as long as the turn is open."""
    if wait:
        turn = await app.turns.final(principal.owner, turn_id, wait_seconds=wait)
    else:
        turn = await app.database.read(lambda c: turns.get(c, principal.owner, turn_id))
    return shown(turn, app.live.replies)


@router.get(
    "/turns/{turn_id}/events",
    response_model=None,
    responses=EVENT_STREAM,
    dependencies=[Depends(admission.listening)],
)
async def events(
    turn_id: Id,
    principal: User,
    app: App,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Listen to a turn, from its start or from where a broken connection ended, on any replica.

    A stream that ends without `done` or `failed` was cut: ask again with `Last-Event-ID`."""
    await app.database.read(lambda c: turns.get(c, principal.owner, turn_id))
    return _stream(app, principal.owner, turn_id, last_event_id)


@router.post(
    "/turns/{turn_id}/retry",
    response_model=Turn,
    responses=EVENT_STREAM | STORED | NOT_NEWEST,
    dependencies=[Depends(admission.turn)],
)
async def retry(
    turn_id: Id, principal: User, app: App, request: Request, response: Response
) -> Turn | Response:
    """Answer a failed or cancelled turn again, as long as it is the newest of its conversation.

    Replies as posting it does. Asked again while it is being answered, this attaches to it."""
    turn = await app.turns.retry(principal.owner, turn_id)
    return await _reply(turn, app, request, response)


@router.post("/turns/{turn_id}/cancel")
async def cancel(turn_id: Id, principal: User, app: App) -> Turn:
    """Stop answering; what was written stays. A final turn stays as it is."""
    return shown(await app.turns.cancel(principal.owner, turn_id), app.live.replies)


@router.put("/turns/{turn_id}/feedback")
async def rate(turn_id: Id, feedback: Feedback, principal: User, app: App) -> Turn:
    given = domain.Feedback(feedback.rating, feedback.comment)
    turn = await app.database.write(lambda c: turns.rate(c, principal.owner, turn_id, given))
    return shown(turn, app.live.replies)


@router.delete("/turns/{turn_id}/feedback", status_code=204)
async def unrate(turn_id: Id, principal: User, app: App) -> None:
    await app.database.write(lambda c: turns.rate(c, principal.owner, turn_id, None))


@router.post("/route", dependencies=[Depends(admission.turn)])
async def explain(question: Question, principal: User, app: App) -> Explanation:
    """What would be decided, and why. Answers and stores nothing."""
    state = DialogueState()
    if (asked := question.conversation_id) is not None:
        found = await app.database.read(lambda c: conversations.get(c, principal.owner, asked))
        state = found.state
    grounds = app.live.grounds
    certificate, looser = grounds.certificate, grounds.under_pressure
    prediction, decision = await app.chatbot.explain(question.text, state)
    return Explanation(
        decision=shown_decision(decision, app.live.replies),
        prediction=Prediction.model_validate(prediction) if prediction else None,
        certificate=Certificate.of(certificate) if certificate else None,
        certificate_under_pressure=Certificate.of(looser) if looser else None,
        usual_traffic=grounds.is_usual_traffic,
    )


async def _reply(
    turn: domain.Turn, app: Services, request: Request, response: Response
) -> Turn | Response:
    """Streamed or whole, as the client takes it."""
    response.headers["Location"] = f"/v1/turns/{turn.id}"
    if "text/event-stream" in request.headers.get("accept", ""):
        streamed = _stream(app, turn.owner, turn.id)
        streamed.headers.update(response.headers)
        return streamed
    if not turn.status.is_final:
        with suppress(Unavailable):  # it is stored: whoever repeats an error would say it twice
            turn = await app.turns.final(turn.owner, turn.id)
    if not turn.status.is_final:
        response.status_code = 202
        response.headers["Retry-After"] = "1"
    return shown(turn, app.live.replies)


def _stream(
    app: Services, owner: str, turn_id: str, last_event_id: str | None = None
) -> EventSourceResponse:
    return sse.stream(
        _events(app, owner, turn_id, _position(last_event_id)),
        heartbeat_seconds=app.settings.heartbeat_seconds,
    )


async def _events(
    app: Services, owner: str, turn_id: str, heard: "_Position | None"
) -> AsyncGenerator[Event]:
    """`accepted`, `decision`, `delta`…, then `done` or `failed`; ids are fence.offset.

    Who has `heard` something gets what comes after it, and `reset` first where that is no longer
    the reply's beginning."""
    fence, offset = heard or (None, 0)
    told_acceptance = told_decision = heard is not None
    replies = app.live.replies
    async with aclosing(_watched(app, owner, turn_id)) as grown:
        async for turn in grown:
            if turn is None:
                yield Event("failed", {"turn": None, "code": "erased"})
                return
            text = turn.reply.text if turn.reply else ""
            # Text that was heard may not be in the row yet, but it is when the turn is final.
            beyond = turn.status.is_final and offset > len(text)
            if offset > 0 and (turn.fence != fence or beyond):
                yield Event("reset", {}, id=f"{turn.fence}.0")
                offset = 0
            fence = turn.fence
            if not told_acceptance:
                told_acceptance = True
                yield Event("accepted", shown(turn, replies), id=f"{fence}.0")
            if not told_decision and turn.decision is not None:
                told_decision = True
                yield Event(
                    "decision", shown_decision(turn.decision, replies), id=f"{fence}.{offset}"
                )
            if len(text) > offset:
                piece = {"text": text[offset:], "offset": offset}
                offset = len(text)
                yield Event("delta", piece, id=f"{fence}.{offset}")
            if turn.status.is_final:
                yield _last_event(turn, text, replies)


def _last_event(turn: domain.Turn, text: str, replies: ReplyBook) -> Event:
    whole = shown(turn, replies).model_dump(mode="json")
    last_id = f"{turn.fence}.{len(text)}"
    if turn.status is TurnStatus.DONE:
        digest = hashlib.sha256(text.encode()).hexdigest()
        return Event("done", {"turn": whole, "sha256": digest}, id=last_id)
    return Event("failed", {"turn": whole, "code": turn.error_code or turn.status.value}, last_id)


async def _watched(app: Services, owner: str, turn_id: str) -> AsyncGenerator[domain.Turn | None]:
    """None at the end, when the turn was erased while somebody listened."""
    async with aclosing(app.turns.watch(owner, turn_id)) as grown:
        try:
            async for turn in grown:
                yield turn
        except NotFound:
            yield None


_Position = tuple[int, int]

_EVENT_ID = re.compile(r"(\d{1,9})\.(\d{1,9})", re.ASCII)


def _position(last_event_id: str | None) -> _Position | None:
    """`fence.offset`; an id that is not ours starts from the beginning."""
    ours = _EVENT_ID.fullmatch(last_event_id or "")
    return (int(ours[1]), int(ours[2])) if ours else None

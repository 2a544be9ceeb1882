"""The review queue: turns worth a label, and what operators make of them."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AfterValidator, Field

from app.api.auth import Admin
from app.api.dependencies import App, Cursor, Id, In, Limit, Out
from app.api.intents import Example, ExampleText, IntentName
from app.api.shown_turns import Turn, shown
from app.api.strict_json import StrictRoute, clean
from app.database import labels, review
from app.dialogue.responses import ReplyBook
from app.dialogue.review import Entry, Reason
from app.dialogue.turn import Turn as DomainTurn
from app.errors import InvalidInput

router = APIRouter(prefix="/admin/review", tags=["review"], route_class=StrictRoute)

IntentFilter = Annotated[
    Annotated[str, AfterValidator(clean)] | None, Query(min_length=1, max_length=200)
]
TurnId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class Suggestion(Out):
    """The intent that users chose when the bot asked back; all who said this chose it."""

    intent: str
    title: str
    turns: int


class ReviewEntry(Out):
    """A message, however often it was asked."""

    turn: Turn
    """The one that stands for all: decide on it, and the others are decided with it."""
    turns: int
    conversations: int
    reasons: list[Reason]
    suggestion: Suggestion | None


class ReviewPage(Out):
    items: list[ReviewEntry]
    next_cursor: str | None
    waiting: int
    """Entries that the filter lets through, on all pages."""
    suggested: int
    """Of these, those with a suggestion."""


class Verdict(In):
    """Either `intent` or `dismiss`."""

    intent: IntentName | None = None
    """`out_of_scope` for what the assistant is not for."""
    text: ExampleText | None = None
    """The operator's wording, to be the example instead of what was said."""
    dismiss: Annotated[bool, Field(strict=True)] = False


class Decided(Out):
    turn_id: str
    intent: str | None
    turns: int
    example: Example | None
    """None where it was dismissed, or the intent has it already."""


class Accepting(In):
    turn_ids: Annotated[list[TurnId], Field(min_length=1, max_length=200)]
    """Of entries with a suggestion, as the operator has seen them."""


class Accepted(Out):
    accepted: int
    skipped: int
    """Decided on or erased meanwhile, or without a suggestion that all users agree on."""


@router.get("")
async def index(
    _: Admin,
    app: App,
    reason: Reason | None = None,
    intent: IntentFilter = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> ReviewPage:
    """Turns worth a label, best first. `intent`: the network's first guess, or the suggestion."""
    wanted = review.Filter(reason, intent)
    found = await app.database.read(lambda c: review.page(c, wanted, limit=limit, cursor=cursor))
    return ReviewPage(
        items=[_shown(entry, turn, app.live.replies) for entry, turn in found.items],
        next_cursor=found.next_cursor,
        waiting=found.waiting,
        suggested=found.suggested,
    )


@router.post("/accept-suggestions")
async def accept_suggestions(accepting: Accepting, principal: Admin, app: App) -> Accepted:
    """Label these turns with what users chose, and make examples of them."""
    wanted = set(accepting.turn_ids)
    found = await app.database.read(review.entries)
    entries = [one for one in found if not wanted.isdisjoint(one.turn_ids)]
    accepted = 0
    for portion in review.portions(entries):
        accepting_some = partial(review.accept, portion=portion, by=principal.owner)
        accepted += await app.database.write(accepting_some)
    return Accepted(accepted=accepted, skipped=max(0, len(wanted) - accepted))


@router.post("/{turn_id}")
async def decide(turn_id: Id, verdict: Verdict, principal: Admin, app: App) -> Decided:
    """Label a turn, which makes an example of it, or dismiss it; any turn, in the queue or not.
    Turns that say the same are decided with it. 409: somebody was here first."""
    if verdict.dismiss == (verdict.intent is not None) or (verdict.dismiss and verdict.text):
        raise InvalidInput("send `intent`, or `dismiss`: true", code="no_verdict")
    same = await app.database.read(lambda c: review.same_as(c, turn_id))
    turns, example = await app.database.write(
        lambda c: labels.decide(
            c, turn_id, same, verdict.intent, by=principal.owner, wording=verdict.text
        )
    )
    return Decided(
        turn_id=turn_id,
        intent=verdict.intent,
        turns=turns,
        example=Example.model_validate(example) if example else None,
    )


@router.delete("/{turn_id}", status_code=204)
async def undo(turn_id: Id, _: Admin, app: App) -> None:
    """Open again, with all that was decided with it; the example that it made goes."""
    await app.database.write(lambda c: labels.undo(c, turn_id))


def _shown(entry: Entry, turn: DomainTurn, replies: ReplyBook) -> ReviewEntry:
    suggestion = None
    if entry.suggestion is not None:
        suggestion = Suggestion(
            intent=entry.suggestion,
            title=replies.title(entry.suggestion),
            turns=entry.suggested_by,
        )
    return ReviewEntry(
        turn=shown(turn, replies),
        turns=len(entry.turn_ids),
        conversations=entry.conversations,
        reasons=list(entry.reasons),
        suggestion=suggestion,
    )

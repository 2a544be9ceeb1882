"""Conversations: create, list, read, delete."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from app.api.auth import User
from app.api.dependencies import App, Cursor, Id, In, Limit, Out
from app.api.strict_json import ShortText, StrictRoute
from app.database import conversations
from app.database.erasure import By

router = APIRouter(prefix="/v1/conversations", tags=["conversations"], route_class=StrictRoute)

VariableName = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]{0,49}$")]


class NewConversation(In):
    title: ShortText | None = None
    variables: Annotated[dict[VariableName, ShortText], Field(max_length=50)] | None = None
    """For `{name}` in replies: what the product knows of this user."""


class Conversation(Out):
    id: str
    title: str
    turns: int
    created_at: datetime
    updated_at: datetime


class ConversationPage(Out):
    items: list[Conversation]
    next_cursor: str | None


@router.post("", status_code=201)
async def create(
    new: NewConversation, principal: User, app: App, response: Response
) -> Conversation:
    made = await app.database.write(
        lambda c: conversations.create(
            c, principal.owner, title=new.title or "", variables=new.variables
        )
    )
    response.headers["Location"] = f"/v1/conversations/{made.id}"
    return Conversation.model_validate(made)


@router.get("")
async def index(
    principal: User, app: App, limit: Limit = 20, cursor: Cursor = None
) -> ConversationPage:
    """Newest first."""
    items, following = await app.database.read(
        lambda c: conversations.newest_first(c, principal.owner, limit=limit, cursor=cursor)
    )
    return ConversationPage(
        items=[Conversation.model_validate(one) for one in items], next_cursor=following
    )


@router.get("/{conversation_id}")
async def show(conversation_id: Id, principal: User, app: App) -> Conversation:
    found = await app.database.read(
        lambda c: conversations.get(c, principal.owner, conversation_id)
    )
    return Conversation.model_validate(found)


@router.delete("/{conversation_id}", status_code=204)
async def remove(conversation_id: Id, principal: User, app: App, response: Response) -> None:
    """Every trace goes: its turns, and the training examples that were taken from them.
    `Location` names the receipt."""
    receipt = await app.eraser.erase_conversation(principal.owner, conversation_id, By.OWNER)
    response.headers["Location"] = f"/v1/erasures/{receipt.id}"

"""The assistant's face: name, greeting, suggestions, and the variables of its replies."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from app.api.auth import admin, user
from app.api.conversations import VariableName
from app.api.dependencies import App, In, Out
from app.api.strict_json import CleanText, ShortText, StrictRoute
from app.database import assistant

router = APIRouter(tags=["assistant"], route_class=StrictRoute)


class Face(Out):
    name: str
    greeting: str
    suggestions: list[str]
    ready: bool
    """False while nothing is promoted: every turn goes to the generator."""
    model_version: int | None


class Assistant(In):
    name: Annotated[ShortText, Field(max_length=100)]
    greeting: CleanText
    suggestions: Annotated[list[ShortText], Field(max_length=12)]
    variables: Annotated[dict[VariableName, ShortText], Field(max_length=100)]


@router.get("/v1/assistant", dependencies=[Depends(user)])
async def face(app: App) -> Face:
    found = await app.database.read(assistant.get)
    return Face(
        name=found.name,
        greeting=found.greeting,
        suggestions=list(found.suggestions),
        ready=app.live.model_version is not None,
        model_version=app.live.model_version,
    )


@router.get("/admin/assistant", dependencies=[Depends(admin)])
async def show(app: App) -> Assistant:
    return _shown(await app.database.read(assistant.get))


@router.put("/admin/assistant", dependencies=[Depends(admin)])
async def put(new: Assistant, app: App) -> Assistant:
    """Live at once."""
    stored = assistant.Assistant(new.name, new.greeting, tuple(new.suggestions), new.variables)
    await app.database.write(lambda c: assistant.put(c, stored))
    await app.live.refresh()
    return _shown(stored)


def _shown(found: assistant.Assistant) -> Assistant:
    return Assistant(
        name=found.name,
        greeting=found.greeting,
        suggestions=list(found.suggestions),
        variables=dict(found.variables),
    )

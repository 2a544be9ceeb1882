"""Intents, replies and examples: what operators teach."""

from datetime import datetime
from typing import Annotated

from annotated_types import MaxLen
from fastapi import APIRouter, Depends, Path
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from app.api.auth import admin
from app.api.dependencies import App, Cursor, Id, In, Limit, Out
from app.api.strict_json import CleanText, ShortText, StrictRoute, clean
from app.database import intents
from app.database.intents import MOST_EXAMPLE_CHARACTERS
from app.errors import InvalidInput
from intent import data as training_data

router = APIRouter(
    prefix="/admin", tags=["intents"], route_class=StrictRoute, dependencies=[Depends(admin)]
)


def _a_name(name: str) -> str:
    name = clean(name)
    if not all(one.isalnum() or one in "_-/.+& " for one in name):
        raise PydanticCustomError("bad_name", "takes letters, digits and _ - / . + & only")
    if name.endswith("/examples") or {"", ".", ".."} & set(name.split("/")):
        # It is part of addresses, where these would mean another thing.
        raise PydanticCustomError("bad_name", "has a part that cannot stand in an address")
    return name


IntentName = Annotated[
    str, Field(min_length=1, max_length=200), AfterValidator(_a_name), MaxLen(200)
]
InPath = Annotated[str, Path(max_length=200), AfterValidator(clean)]
ExampleText = Annotated[str, Field(max_length=MOST_EXAMPLE_CHARACTERS), AfterValidator(clean)]
Replies = Annotated[list[CleanText], Field(max_length=50)]


class NewIntent(In):
    name: IntentName
    title: ShortText | None = None
    replies: Replies = Field(default_factory=list)
    examples: Annotated[list[ExampleText], Field(max_length=1000)] = Field(default_factory=list)


class IntentChange(In):
    name: IntentName | None = None
    title: ShortText | None = None
    replies: Replies | None = None


class Intent(Out):
    name: str
    title: str
    replies: list[str]
    examples: int
    updated_at: datetime


class IntentList(Out):
    items: list[Intent]


class Example(Out):
    id: str
    text: str
    created_at: datetime
    turn_id: str | None
    """The turn it was taken from; it goes when the turn does."""


class ExamplePage(Out):
    items: list[Example]
    next_cursor: str | None


class NewExamples(In):
    texts: Annotated[list[ExampleText], Field(max_length=1000)] = Field(default_factory=list)
    from_turn: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    """A turn in which somebody said it. Without `texts` its utterance becomes the example; with
    them, they are its wordings. Erasing the turn erases the examples."""


class Skipped(Out):
    text_index: int
    reason: str


class AddedExamples(Out):
    items: list[Example]
    skipped: list[Skipped]


class ExampleChange(In):
    text: ExampleText


class Problem(Out):
    severity: str
    intent: str | None
    message: str


class ProblemList(Out):
    problems: list[Problem]


@router.get("/training-data/lint")
async def lint(app: App) -> ProblemList:
    """What stands in the way of good training, errors first."""
    pairs = await app.database.read(intents.training_data)
    found = training_data.lint(
        training_data.training_set(training_data.Example(text, name) for text, name in pairs)
    )
    return ProblemList(
        problems=[
            Problem(severity=one.severity, intent=one.intent, message=one.message)
            for one in sorted(found, key=lambda one: one.severity != "error")
        ]
    )


@router.get("/intents")
async def index(app: App) -> IntentList:
    found = await app.database.read(intents.everything)
    return IntentList(items=[Intent.model_validate(one) for one in found])


@router.post("/intents", status_code=201)
async def create(new: NewIntent, app: App) -> Intent:
    made = await app.database.write(
        lambda c: intents.create(
            c, new.name, title=new.title or "", replies=new.replies, example_texts=new.examples
        )
    )
    await app.live.refresh()
    return Intent.model_validate(made)


@router.get("/intents/{name:path}/examples")
async def examples(name: InPath, app: App, limit: Limit = 50, cursor: Cursor = None) -> ExamplePage:
    """Newest first."""
    items, following = await app.database.read(
        lambda c: intents.examples_of(c, name, limit=limit, cursor=cursor)
    )
    return ExamplePage(items=[Example.model_validate(one) for one in items], next_cursor=following)


@router.post("/intents/{name:path}/examples", status_code=201)
async def add_examples(name: InPath, new: NewExamples, app: App) -> AddedExamples:
    if (turn_id := new.from_turn) is not None:
        added, skipped = await app.database.write(
            lambda c: intents.add_examples_from_turn(c, name, turn_id, new.texts)
        )
    elif new.texts:
        added, skipped = await app.database.write(
            lambda c: intents.add_examples(c, name, new.texts)
        )
    else:
        raise InvalidInput("send `texts`, or `from_turn`", code="no_examples")
    return AddedExamples(
        items=[Example.model_validate(one) for one in added],
        skipped=[Skipped(text_index=place, reason="duplicate") for place in skipped],
    )


@router.get("/intents/{name:path}")
async def show(name: InPath, app: App) -> Intent:
    found = await app.database.read(lambda c: intents.get(c, name))
    return Intent.model_validate(found)


@router.patch("/intents/{name:path}")
async def change(name: InPath, change: IntentChange, app: App) -> Intent:
    """Replies and titles are said at once; a new name is known after the next training."""
    changed = await app.database.write(
        lambda c: intents.change(
            c, name, new_name=change.name, title=change.title, replies=change.replies
        )
    )
    await app.live.refresh()
    return Intent.model_validate(changed)


@router.delete("/intents/{name:path}", status_code=204)
async def remove(name: InPath, app: App) -> None:
    """Its replies are no longer said; the network forgets it with the next training."""
    await app.database.write(lambda c: intents.remove(c, name))
    await app.live.refresh()


@router.patch("/examples/{example_id}")
async def change_example(example_id: Id, change: ExampleChange, app: App) -> Example:
    changed = await app.database.write(lambda c: intents.change_example(c, example_id, change.text))
    return Example.model_validate(changed)


@router.delete("/examples/{example_id}", status_code=204)
async def remove_example(example_id: Id, app: App) -> None:
    await app.database.write(lambda c: intents.remove_example(c, example_id))

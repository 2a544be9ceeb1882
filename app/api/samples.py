"""The random sample of turns that a certificate can be counted anew on, and its labels."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import Field

from app.api.auth import Admin
from app.api.dependencies import App, Id, In, Limit, Out
from app.api.intents import IntentName
from app.api.strict_json import StrictRoute
from app.database import samples
from app.database.samples import Label
from app.dialogue.responses import ReplyBook
from app.errors import InvalidInput
from intent.interface import OUT_OF_SCOPE, Doubt

router = APIRouter(prefix="/admin/sample", tags=["sample"], route_class=StrictRoute)

SampleId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class State(StrEnum):
    NONE = "none"  # nothing drawn of the live network
    LABELLING = "labelling"
    COMPLETE = "complete"  # labelled, and not tested yet
    UNCERTIFIED = "uncertified"  # tested, and its labels do not bear the promise out
    SERVED = "served"  # its certificate went live


class Verdict(Out):
    """What came of the last test."""

    certified: bool
    doubt: Doubt | None
    more: int | None
    """How many more labels would do, if they turn out as these; null: no number would."""
    model_version: int | None = None
    """That serves it."""


class Sample(Out):
    id: str
    network: int
    """The version whose network it is about."""
    drawn_at: datetime
    asked_from: datetime
    asked_to: datetime
    """When the first and the last of the messages it was drawn from were asked."""
    population: int
    turns: int
    labelled: int
    tries: int
    """The how-manieth test of it this is; a later one has to be surer."""
    verdict: Verdict | None

    @classmethod
    def of(cls, sample: samples.Sample) -> Self:
        return cls(
            id=sample.id,
            network=sample.network,
            drawn_at=sample.drawn_at,
            asked_from=datetime.fromtimestamp(sample.asked_from, UTC),
            asked_to=datetime.fromtimestamp(sample.asked_to, UTC),
            population=sample.population,
            turns=sample.turns,
            labelled=sample.labelled,
            tries=sample.tries,
            verdict=Verdict.model_validate(dict(sample.verdict)) if sample.verdict else None,
        )


class Progress(Out):
    state: State
    sample: Sample | None
    needed: int | None
    """Messages for the next sample, by what training expects; null while one is labelled, or where
    the promise would take more than anybody labels."""
    available: int
    """Messages to draw it from, up to those that are needed."""


class Draw(In):
    replaces: SampleId | None = None
    """The sample that you have seen; null: none. 409 where it is another by now."""


class Enlargement(In):
    replaces: SampleId


class Choice(Out):
    intent: str
    title: str


class SampledTurn(Out):
    turn_id: str
    place: int
    """In the drawn order."""
    text: str
    asked_at: datetime
    choices: list[Choice]
    """The network's guesses by name: which was its first would sway whoever labels."""
    label: Label | None
    intent: str | None
    labelled_by: str | None


class TurnPage(Out):
    items: list[SampledTurn]


class LabelGiven(In):
    """Either `intent` or `cannot_tell`."""

    intent: IntentName | None = None
    """`out_of_scope` for what the assistant is not for."""
    cannot_tell: Annotated[bool, Field(strict=True)] = False
    """Counts against the promise, as whatever would be worst."""


@router.get("")
async def show(_: Admin, app: App) -> Progress:
    """How far the labelling is."""
    found = await app.recalibrator.sample()
    if found is None or found.is_closed:
        prospect = await app.recalibrator.prospect()
        return Progress(
            state=_state(found),
            sample=Sample.of(found) if found else None,
            needed=prospect.needed,
            available=prospect.available,
        )
    return Progress(state=_state(found), sample=Sample.of(found), needed=None, available=0)


@router.post("", status_code=201)
async def draw(wanted: Draw, principal: Admin, app: App) -> Sample:
    """Draw a sample from the newest messages that the live network has read; labels of messages
    that are drawn again stay. Which ones, nobody chooses."""
    drawn = await app.recalibrator.draw(by=principal.owner, replaces=wanted.replaces)
    return Sample.of(drawn)


@router.post("/enlarge")
async def enlarge(wanted: Enlargement, _: Admin, app: App) -> Sample:
    """By as many messages as the last test said are missing."""
    return Sample.of(await app.recalibrator.enlarge(replaces=wanted.replaces))


@router.get("/turns")
async def turns(
    _: Admin,
    app: App,
    labelled: bool = False,
    after: Annotated[int, Query(ge=-1, le=2**31 - 1)] = -1,
    limit: Limit = 20,
) -> TurnPage:
    """Those without a label, or those with one, in the drawn order; `after`: a place in it."""
    sample = await app.recalibrator.sample()
    if sample is None:
        return TurnPage(items=[])
    found = await app.database.read(
        lambda c: samples.page(c, sample, labelled=labelled, limit=limit, after=after)
    )
    return TurnPage(items=[_shown(one, app.live.replies) for one in found])


@router.post("/turns/{turn_id}")
async def label(turn_id: Id, given: LabelGiven, principal: Admin, app: App) -> Sample:
    """Say what a sampled message was about. It becomes no example. 409: somebody was first."""
    if given.cannot_tell == (given.intent is not None):
        raise InvalidInput("send `intent`, or `cannot_tell`: true", code="no_label")
    kind = Label.INTENT
    if given.cannot_tell:
        kind = Label.CANNOT_TELL
    elif given.intent == OUT_OF_SCOPE:
        kind = Label.OUT_OF_SCOPE
    return Sample.of(
        await app.database.write(
            lambda c: samples.label(c, turn_id, kind, given.intent, by=principal.owner)
        )
    )


@router.delete("/turns/{turn_id}")
async def undo(turn_id: Id, _: Admin, app: App) -> Sample:
    return Sample.of(await app.database.write(lambda c: samples.unlabel(c, turn_id)))


def _state(sample: samples.Sample | None) -> State:
    if sample is None:
        return State.NONE
    if sample.is_closed:
        return State.SERVED
    if sample.missing:
        return State.LABELLING
    return State.UNCERTIFIED if sample.verdict else State.COMPLETE


def _shown(one: samples.SampledTurn, replies: ReplyBook) -> SampledTurn:
    return SampledTurn(
        turn_id=one.turn_id,
        place=one.place,
        text=one.text,
        asked_at=one.asked_at,
        choices=[Choice(intent=name, title=replies.title(name)) for name in one.alternatives],
        label=one.label,
        intent=one.intent,
        labelled_by=one.labelled_by,
    )

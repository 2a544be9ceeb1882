"""Erasing everything of a person, the receipts of erasures, and what the retention would take."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from app.api.auth import Admin, User
from app.api.dependencies import App, Id, Out
from app.api.strict_json import StrictRoute
from app.database import erasure
from app.database.erasure import By, Kind, Retention

router = APIRouter(tags=["erasure"], route_class=StrictRoute)

Owner = Annotated[str, Path(max_length=64, pattern="^[a-z]{1,16}:[0-9A-Za-z_.-]{1,47}$")]
"""As `key:<id>` or `guest:<id>`."""

_RETRAIN = (
    "these model versions were trained while erased examples were there: train and promote "
    "another; what is left in the old ones' weights cannot be taken out"
)


class Receipt(Out):
    id: str
    kind: Kind
    subject: str | None
    """sha256 of the id of the conversation or the owner."""
    requested_by: By
    rows: dict[str, int]
    """How many rows went, by table."""
    model_versions: list[int]
    advice: str | None
    started_at: datetime
    finished_at: datetime | None
    sha256: str | None
    """Of id, kind, subject, requested_by, rows, model_versions, started_at and finished_at as
    JSON with sorted names and no blanks."""


class ReceiptList(Out):
    items: list[Receipt]


class Due(Out):
    conversations: int
    turns: int
    examples: int


class RetentionReport(Out):
    retention_days: Annotated[float, Field(ge=0)]
    guest_retention_days: Annotated[float, Field(ge=0)]
    due: Due
    """What the next beat will take; with `days`, what it would take."""


@router.delete("/v1/me")
async def erase_me(principal: User, app: App) -> Receipt:
    """Everything of the caller's: conversations, turns, feedback, and the training examples that
    were taken from them. Open turns stop. The receipt can be fetched again."""
    return shown(await app.eraser.erase_owner(principal.owner, By.OWNER))


@router.get("/v1/erasures/{erasure_id}")
async def show_own(erasure_id: Id, principal: User, app: App) -> Receipt:
    return shown(await app.database.read(lambda c: erasure.get_own(c, principal.owner, erasure_id)))


@router.delete("/admin/owners/{owner}")
async def erase_owner(owner: Owner, _: Admin, app: App) -> Receipt:
    """The same for anybody; for somebody of whom nothing is here the receipt counts nothing."""
    return shown(await app.eraser.erase_owner(owner, By.ADMIN))


@router.get("/admin/erasures")
async def index(_: Admin, app: App) -> ReceiptList:
    """The newest fifty, those of the retention among them."""
    return ReceiptList(items=[shown(one) for one in await app.database.read(erasure.newest_first)])


@router.get("/admin/erasures/{erasure_id}")
async def show(erasure_id: Id, _: Admin, app: App) -> Receipt:
    return shown(await app.database.read(lambda c: erasure.get(c, erasure_id)))


@router.get("/admin/retention")
async def retention(
    _: Admin, app: App, days: Annotated[float | None, Query(gt=0, le=36_500)] = None
) -> RetentionReport:
    """A dry run: counts what is too old, by the settings or by `days`, and changes nothing."""
    rule = app.eraser.retention if days is None else Retention(days=days)
    return RetentionReport(
        retention_days=rule.days,
        guest_retention_days=rule.guest_days or rule.days,
        due=Due.model_validate(await app.database.read(lambda c: erasure.due(c, rule))),
    )


def shown(receipt: erasure.Receipt) -> Receipt:
    return Receipt(
        id=receipt.id,
        kind=receipt.kind,
        subject=receipt.subject,
        requested_by=receipt.requested_by,
        rows=dict(receipt.rows),
        model_versions=list(receipt.model_versions),
        advice=_RETRAIN if receipt.model_versions else None,
        started_at=receipt.started_at,
        finished_at=receipt.finished_at,
        sha256=receipt.sha256,
    )

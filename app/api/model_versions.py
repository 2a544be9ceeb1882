"""Model versions: what was trained, which one is live, promote and roll back."""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import StrictInt

from app.api.auth import Admin, admin
from app.api.certificates import WholeCertificate
from app.api.dependencies import App, In, Out
from app.api.strict_json import StrictRoute
from app.database import model_versions
from intent.certificate import Calibration, certify
from intent.interface import Promise

router = APIRouter(
    prefix="/admin/model-versions",
    tags=["model versions"],
    route_class=StrictRoute,
    dependencies=[Depends(admin)],
)

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


class Version(Out):
    number: int
    live: bool
    created_at: datetime
    size_bytes: int
    sha256: str
    intents: int
    examples: int
    data_hash: str
    evaluation: dict[str, Any]
    certificate: WholeCertificate
    """For the promise in the settings, which is what instant answers are held to."""
    training_job: str | None


class VersionList(Out):
    items: list[Version]
    live: int | None
    epoch: int


class Promotion(In):
    expected_epoch: StrictInt | None = None
    """Refuse (409) if somebody promoted another version since this epoch."""


class Live(Out):
    live: int | None
    epoch: int


@router.get("")
async def index(app: App) -> VersionList:
    """Newest first."""
    versions, live = await app.database.read(
        lambda c: (model_versions.everything(c), model_versions.live(c))
    )
    items = await asyncio.to_thread(
        lambda: [_shown(one, live, app.settings.promise) for one in versions]
    )
    return VersionList(items=items, live=live.model_version, epoch=live.epoch)


@router.get("/{number}")
async def show(number: Number, app: App) -> Version:
    version, live = await app.database.read(
        lambda c: (model_versions.get(c, number), model_versions.live(c))
    )
    return await asyncio.to_thread(_shown, version, live, app.settings.promise)


@router.post("/{number}/promote")
async def promote(number: Number, promotion: Promotion, principal: Admin, app: App) -> Live:
    """Running turns end with the version that read them; the next utterance meets the new one."""

    await app.live.try_out(number)
    live = await app.database.write(
        lambda c: model_versions.promote(
            c, number, by=principal.owner, expected_epoch=promotion.expected_epoch
        )
    )
    return await _switch(app, live)


@router.post("/rollback")
async def roll_back(promotion: Promotion, principal: Admin, app: App) -> Live:
    """Back to the version that was live before this one."""
    live = await app.database.write(
        lambda c: model_versions.roll_back(
            c, by=principal.owner, expected_epoch=promotion.expected_epoch
        )
    )
    return await _switch(app, live)


async def _switch(app: App, live: model_versions.Live) -> Live:
    await app.live.refresh()
    return Live(live=live.model_version, epoch=live.epoch)


def _shown(
    version: model_versions.ModelVersion, live: model_versions.Live, promise: Promise
) -> Version:
    counted = None
    with suppress(ValueError):  # of an older release, or damaged: then nothing is certified
        counted = Calibration.from_json(version.calibration)
    return Version(
        number=version.number,
        live=version.number == live.model_version,
        created_at=version.created_at,
        size_bytes=version.size_bytes,
        sha256=version.sha256,
        intents=version.intents,
        examples=version.examples,
        data_hash=version.data_hash,
        evaluation=dict(version.evaluation),
        certificate=WholeCertificate.of(certify(counted, promise)),
        training_job=version.training_job_id,
    )

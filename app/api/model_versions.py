"""Model versions: what was trained, which one is live, promote and roll back."""

import asyncio
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import Field, StrictInt

from app.api.auth import Admin, admin
from app.api.certificates import Certificate, WholeCertificate
from app.api.dependencies import App, In, Out
from app.api.strict_json import StrictRoute
from app.database import model_versions
from app.settings import Settings
from intent.certificate import certify

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
    certificate_under_pressure: Certificate | None
    """For the looser one of times when generating is dear, where the settings make one."""
    training_job: str | None
    network_of: int | None
    """The version whose network this is, calibrated anew on a sample of turns."""


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


class Recalibration(In):
    expected_epoch: StrictInt | None = None
    """Refuse (409) if somebody promoted another version since this epoch."""
    even_uncertified: Annotated[bool, Field(strict=True)] = False
    """Serve it also where it certifies nothing: then the fixed, safe threshold counts."""


class Recalibrated(Out):
    certificate: WholeCertificate
    live: int | None
    """The new version that serves it; null: nothing was changed."""
    epoch: int
    more: int | None
    """Where too few were labelled: how many more would do, if they turn out as these."""
    unknown: int
    """Labels of intents that this network does not know, counted as out of scope."""


@router.get("")
async def index(app: App) -> VersionList:
    """Newest first."""
    versions, live = await app.database.read(
        lambda c: (model_versions.everything(c), model_versions.live(c))
    )
    items = await asyncio.to_thread(lambda: [_shown(one, live, app.settings) for one in versions])
    return VersionList(items=items, live=live.model_version, epoch=live.epoch)


@router.get("/{number}")
async def show(number: Number, app: App) -> Version:
    version, live = await app.database.read(
        lambda c: (model_versions.get(c, number), model_versions.live(c))
    )
    return await asyncio.to_thread(_shown, version, live, app.settings)


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


@router.post("/recalibrate")
async def recalibrate(wanted: Recalibration, principal: Admin, app: App) -> Recalibrated:
    """Count the live network's certificate anew on the sample of `/admin/sample`, all of which
    must be labelled, and serve it as a version of its own; roll back to undo that. Nothing changes
    where the labels do not bear the promise out, unless `even_uncertified`.

    409: labels are missing, the sample has served, or somebody else was first."""
    found = await app.recalibrator.recalibrate(
        by=principal.owner,
        expected_epoch=wanted.expected_epoch,
        even_uncertified=wanted.even_uncertified,
    )
    await app.live.refresh()
    return Recalibrated(
        certificate=WholeCertificate.of(found.certificate),
        live=found.model_version,
        epoch=found.epoch,
        more=found.more,
        unknown=found.unknown,
    )


async def _switch(app: App, live: model_versions.Live) -> Live:
    await app.live.refresh()
    return Live(live=live.model_version, epoch=live.epoch)


def _shown(
    version: model_versions.ModelVersion, live: model_versions.Live, settings: Settings
) -> Version:
    counted, looser = model_versions.counted(version), settings.promise_under_pressure
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
        certificate=WholeCertificate.of(certify(counted, settings.promise)),
        certificate_under_pressure=Certificate.of(certify(counted, looser)) if looser else None,
        training_job=version.training_job_id,
        network_of=version.network_of,
    )

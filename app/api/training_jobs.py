"""Training jobs: start one, watch it, cancel it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Depends, Response

from app.api import admission, sse
from app.api.auth import admin
from app.api.dependencies import App, Id, In, Out, Services
from app.api.sse import Event
from app.api.strict_json import StrictRoute
from app.database import training_jobs
from app.database.training_jobs import JobStatus

POLL_SECONDS = 0.5

router = APIRouter(
    prefix="/admin/training-jobs",
    tags=["training"],
    route_class=StrictRoute,
    dependencies=[Depends(admin)],
)


class NewJob(In):
    """Trains on all examples as they are now; there is nothing to choose yet."""


class Epoch(Out):
    epoch: int
    epochs: int
    train_loss: float | None
    valid_loss: float | None
    valid_accuracy: float | None
    gradient_norm: float | None
    seconds: float | None


class Progress(Out):
    epoch: int
    epochs: int
    history: list[Epoch]


class JobError(Out):
    code: str
    message: str
    problems: list[str]


class Job(Out):
    id: str
    status: JobStatus
    progress: Progress
    error: JobError | None
    model_version: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobList(Out):
    items: list[Job]


@router.post("", status_code=202)
async def create(_: NewJob, app: App, response: Response) -> Job:
    job = await app.database.write(
        lambda c: training_jobs.create(c, max_waiting=app.settings.max_training_jobs_waiting)
    )
    if app.training is not None:
        app.training.wake()
    response.headers["Location"] = f"/admin/training-jobs/{job.id}"
    return shown(job)


@router.get("")
async def index(app: App) -> JobList:
    found = await app.database.read(training_jobs.newest_first)
    return JobList(items=[shown(one) for one in found])


@router.get("/{job_id}")
async def show(job_id: Id, app: App) -> Job:
    return shown(await app.database.read(lambda c: training_jobs.get(c, job_id)))


@router.get("/{job_id}/events", response_model=None, dependencies=[Depends(admission.listening)])
async def events(job_id: Id, app: App) -> Response:
    """`progress` whenever the job has moved, `done` at its end."""
    await app.database.read(lambda c: training_jobs.get(c, job_id))
    return sse.stream(_events(app, job_id), heartbeat_seconds=app.settings.heartbeat_seconds)


@router.post("/{job_id}/cancel")
async def cancel(job_id: Id, app: App) -> Job:
    return shown(await app.database.write(lambda c: training_jobs.cancel(c, job_id)))


async def _events(app: Services, job_id: str) -> AsyncGenerator[Event]:
    told: Job | None = None
    while True:
        job = shown(await app.database.read(lambda c: training_jobs.get(c, job_id)))
        if job.status.is_final:
            yield Event("done", job)
            return
        if job != told:
            yield Event("progress", job)
            told = job
        await asyncio.sleep(POLL_SECONDS)


def shown(job: training_jobs.TrainingJob) -> Job:
    history = [_epoch(one) for one in job.epochs]
    error = job.error
    return Job(
        id=job.id,
        status=job.status,
        progress=Progress(
            epoch=history[-1].epoch if history else 0,
            epochs=history[-1].epochs if history else 0,
            history=history,
        ),
        error=(
            JobError(code=error.code, message=error.message, problems=list(error.problems))
            if error
            else None
        ),
        model_version=job.model_version,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def _epoch(report: Mapping[str, Any]) -> Epoch:
    """A line of `python -m intent train --progress json`."""
    return Epoch(
        epoch=report["number"],
        epochs=report["of"],
        train_loss=report.get("train_loss"),
        valid_loss=report.get("valid_loss"),
        valid_accuracy=report.get("valid_accuracy"),
        gradient_norm=report.get("gradient_norm"),
        seconds=report.get("seconds"),
    )

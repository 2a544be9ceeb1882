"""Training jobs: queued by people, run by one worker at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, func, insert, or_, select, update

from app.database.tables import now, training_jobs
from app.errors import LostFence, NotFound, Overloaded

LEASE_SECONDS = 20.0
MOST_STARTS = 2


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class JobError:
    code: str
    message: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingJob:
    id: str
    status: JobStatus
    epochs: tuple[Mapping[str, Any], ...]
    """As `python -m intent train --progress json` reports them."""
    error: JobError | None
    model_version: int | None
    cancel_requested: bool
    fence: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


def create(connection: Connection, *, max_waiting: int) -> TrainingJob:
    waiting = connection.scalar(
        select(func.count()).where(training_jobs.c.status == JobStatus.QUEUED)
    )
    if (waiting or 0) >= max_waiting:
        raise Overloaded("too many training jobs are waiting", retry_after_seconds=10)
    job_id = uuid4().hex
    connection.execute(
        insert(training_jobs).values(
            id=job_id, status=JobStatus.QUEUED, progress=[], fence=0, created_at=now()
        )
    )
    return get(connection, job_id)


def get(connection: Connection, job_id: str) -> TrainingJob:
    row = connection.execute(
        select(training_jobs).where(training_jobs.c.id == job_id)
    ).one_or_none()
    if row is None:
        raise NotFound("training job")
    return _from_row(row)


def newest_first(connection: Connection, *, limit: int = 50) -> list[TrainingJob]:
    rows = connection.execute(
        select(training_jobs)
        .order_by(training_jobs.c.created_at.desc(), training_jobs.c.id)
        .limit(limit)
    )
    return [_from_row(row) for row in rows]


def claim(connection: Connection, worker: str) -> TrainingJob | None:
    """The oldest job that waits, or whose worker is gone; None when there is nothing to do."""
    connection.execute(
        update(training_jobs)
        .where(
            training_jobs.c.status == JobStatus.RUNNING,
            training_jobs.c.lease_until < now(),
            training_jobs.c.fence >= MOST_STARTS,
        )
        .values(
            status=JobStatus.FAILED,
            error={"code": "orphaned", "message": "the worker died twice while training this"},
            finished_at=now(),
        )
    )
    free = (
        select(training_jobs.c.id)
        .where(
            or_(
                training_jobs.c.status == JobStatus.QUEUED,
                (training_jobs.c.status == JobStatus.RUNNING)
                & (training_jobs.c.lease_until < now())
                & (training_jobs.c.fence < MOST_STARTS),  # its lease may have ended just now
            )
        )
        .order_by(training_jobs.c.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(
        update(training_jobs)
        .where(training_jobs.c.id == free.scalar_subquery())
        .values(
            status=JobStatus.RUNNING,
            worker=worker,
            fence=training_jobs.c.fence + 1,
            lease_until=now() + LEASE_SECONDS,
            started_at=now(),
            progress=[],
        )
        .returning(*training_jobs.c)
    ).one_or_none()
    return _from_row(row) if row else None


def report(connection: Connection, job: TrainingJob, epochs: Sequence[Mapping[str, Any]]) -> bool:
    """Store progress and renew the lease; False: stop, somebody asked for it or took over."""
    row = connection.execute(
        update(training_jobs)
        .where(*_mine(job))
        .values(progress=list(epochs), lease_until=now() + LEASE_SECONDS)
        .returning(training_jobs.c.cancel_requested)
    ).one_or_none()
    return row is not None and not row.cancel_requested


def close(
    connection: Connection,
    job: TrainingJob,
    status: JobStatus,
    *,
    error: JobError | None = None,
    model_version: int | None = None,
) -> TrainingJob:
    closed = connection.execute(
        update(training_jobs)
        .where(*_mine(job))
        .values(
            status=status,
            error=(
                {"code": error.code, "message": error.message, "problems": list(error.problems)}
                if error
                else None
            ),
            model_version=model_version,
            finished_at=now(),
            lease_until=None,
        )
    )
    if closed.rowcount == 0:
        raise LostFence("this training job was taken over")
    return get(connection, job.id)


def cancel(connection: Connection, job_id: str) -> TrainingJob:
    """A waiting job ends at once, a running one as soon as its worker looks."""
    connection.execute(
        update(training_jobs)
        .where(training_jobs.c.id == job_id, training_jobs.c.status == JobStatus.QUEUED)
        .values(status=JobStatus.CANCELLED, finished_at=now())
    )
    connection.execute(
        update(training_jobs)
        .where(training_jobs.c.id == job_id, training_jobs.c.status == JobStatus.RUNNING)
        .values(cancel_requested=True)
    )
    return get(connection, job_id)


def _mine(job: TrainingJob) -> tuple[Any, ...]:
    return (
        training_jobs.c.id == job.id,
        training_jobs.c.fence == job.fence,
        training_jobs.c.status == JobStatus.RUNNING,
    )


def _from_row(row: Row[Any]) -> TrainingJob:
    error = row.error
    return TrainingJob(
        id=row.id,
        status=JobStatus(row.status),
        epochs=tuple(row.progress),
        error=(
            JobError(error["code"], error["message"], tuple(error.get("problems", ())))
            if error
            else None
        ),
        model_version=row.model_version,
        cancel_requested=row.cancel_requested,
        fence=row.fence,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        started_at=datetime.fromtimestamp(row.started_at, UTC) if row.started_at else None,
        finished_at=datetime.fromtimestamp(row.finished_at, UTC) if row.finished_at else None,
    )

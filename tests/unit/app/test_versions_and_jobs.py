"""Model versions and training jobs: who wins when several want the same."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from app.database import model_versions, training_jobs
from app.database.database import Database
from app.database.model_versions import Live
from app.database.tables import model_versions as versions_table
from app.database.tables import training_jobs as jobs_table
from app.database.training_jobs import JobError, JobStatus
from app.errors import Conflict, LostFence, NotFound, Overloaded
from tests.unit.app.stored import expire, replicas


def add_version(database: Database, artifact: bytes = b"a network") -> int:
    return database.write_now(
        lambda c: model_versions.add(
            c,
            artifact,
            data_hash="0" * 64,
            intents=2,
            examples=4,
            evaluation={"accuracy": 0.9},
            training_job_id=None,
        )
    )


def promote(number: int, expected_epoch: int | None = None):
    return lambda c: model_versions.promote(c, number, by="ada", expected_epoch=expected_epoch)


def live(database: Database) -> Live:
    return database.read_now(model_versions.live)


def queue_job(database: Database):
    return database.write_now(lambda c: training_jobs.create(c, max_waiting=100))


def claim(database: Database, worker: str = "first"):
    return database.write_now(lambda c: training_jobs.claim(c, worker))


def test_the_newest_promotion_is_live_and_epochs_count_them(database: Database) -> None:
    first, second = add_version(database), add_version(database)
    assert second > first
    assert live(database) == Live(None, 0)
    assert database.write_now(promote(first)) == Live(first, 1)
    assert database.write_now(promote(second, expected_epoch=1)) == Live(second, 2)
    assert live(database) == Live(second, 2)


def test_promoting_what_is_live_already_changes_nothing(database: Database) -> None:
    number = add_version(database)
    database.write_now(promote(number))
    assert database.write_now(promote(number)) == Live(number, 1)


def test_whoever_looked_at_an_older_epoch_is_refused(database: Database) -> None:
    first, second = add_version(database), add_version(database)
    database.write_now(promote(first))
    with pytest.raises(Conflict) as refused:
        database.write_now(promote(second, expected_epoch=0))
    assert refused.value.code == "epoch_changed"
    assert live(database) == Live(first, 1)


def test_of_two_who_promote_at_the_same_moment_exactly_one_wins(database: Database) -> None:
    numbers = [add_version(database) for _ in range(8)]

    with replicas(database.url) as servers:

        async def race() -> list[Live | BaseException]:
            return await asyncio.gather(
                *(
                    servers[place % 2].write(promote(number, expected_epoch=0))
                    for place, number in enumerate(numbers)
                ),
                return_exceptions=True,
            )

        results = asyncio.run(race())
    won = [one for one in results if isinstance(one, Live)]
    lost = [one for one in results if isinstance(one, Conflict)]
    assert (len(won), len(lost)) == (1, 7)
    assert live(database) == won[0] == Live(won[0].model_version, 1)


def test_two_rollbacks_at_the_same_moment_roll_back_once(database: Database) -> None:
    first, second = add_version(database), add_version(database)
    database.write_now(promote(first))
    database.write_now(promote(second))

    def back(connection):
        return model_versions.roll_back(connection, by="ada", expected_epoch=2)

    with replicas(database.url) as servers:

        async def race() -> list[Live | BaseException]:
            return await asyncio.gather(
                *(one.write(back) for one in servers), return_exceptions=True
            )

        results = asyncio.run(race())
    assert sorted(type(one).__name__ for one in results) == ["Conflict", "Live"]
    assert live(database) == Live(first, 3)


def test_without_an_earlier_version_there_is_no_way_back(database: Database) -> None:
    database.write_now(promote(add_version(database)))
    with pytest.raises(Conflict) as refused:
        database.write_now(lambda c: model_versions.roll_back(c, by="ada"))
    assert refused.value.code == "nothing_to_roll_back_to"


def test_an_unknown_version_is_not_promoted(database: Database) -> None:
    with pytest.raises(NotFound):
        database.write_now(promote(7))


def test_an_artefact_comes_back_whole_and_a_damaged_one_never(database: Database) -> None:
    number = add_version(database, bytes(range(256)) * 100)
    stored = database.read_now(lambda c: model_versions.artifact(c, number))
    assert stored == bytes(range(256)) * 100
    database.write_now(lambda c: c.execute(update(versions_table).values(artifact=b"bit rot")))
    with pytest.raises(model_versions.DamagedArtifact):
        database.read_now(lambda c: model_versions.artifact(c, number))


def test_jobs_are_claimed_oldest_first_and_once(database: Database) -> None:
    jobs = [queue_job(database) for _ in range(3)]
    at = {job.id: 1000.0 + place for place, job in enumerate(reversed(jobs))}
    for job_id, created_at in at.items():
        database.write_now(
            lambda c, job_id=job_id, created_at=created_at: c.execute(
                update(jobs_table).where(jobs_table.c.id == job_id).values(created_at=created_at)
            )
        )
    assert [claim(database).id for _ in jobs] == [job.id for job in reversed(jobs)]
    assert claim(database) is None


def test_workers_at_the_same_moment_never_claim_one_job_twice(database: Database) -> None:
    jobs = {queue_job(database).id for _ in range(10)}
    barrier = threading.Barrier(4)
    with replicas(database.url, 4) as workers:

        def work(place: int) -> list[str]:
            barrier.wait()
            got = []
            while (job := claim(workers[place], f"worker-{place}")) is not None:
                got.append(job.id)
            return got

        with ThreadPoolExecutor(4) as pool:
            claimed = [job for got in pool.map(work, range(4)) for job in got]
    assert len(claimed) == len(jobs)
    assert set(claimed) == jobs


def test_a_job_whose_worker_died_is_run_again_once_and_then_failed(database: Database) -> None:
    job = queue_job(database)
    first = claim(database, "first")
    assert claim(database, "second") is None  # its lease lasts
    expire(database, jobs_table)
    second = claim(database, "second")
    assert (second.id, second.fence, second.epochs) == (job.id, first.fence + 1, ())
    expire(database, jobs_table)
    assert claim(database, "third") is None
    ended = database.read_now(lambda c: training_jobs.get(c, job.id))
    assert (ended.status, ended.error.code) == (JobStatus.FAILED, "orphaned")


def test_a_worker_that_comes_back_late_changes_nothing(database: Database) -> None:
    queue_job(database)
    late = claim(database, "first")
    expire(database, jobs_table)
    mine = claim(database, "second")
    assert not database.write_now(lambda c: training_jobs.report(c, late, [{"number": 1}]))
    with pytest.raises(LostFence):
        database.write_now(lambda c: training_jobs.close(c, late, JobStatus.FAILED))
    assert database.write_now(lambda c: training_jobs.report(c, mine, [{"number": 2}]))
    done = database.write_now(
        lambda c: training_jobs.close(c, mine, JobStatus.SUCCEEDED, model_version=1)
    )
    assert (done.status, done.epochs) == (JobStatus.SUCCEEDED, ({"number": 2},))


def test_a_report_renews_the_lease(database: Database) -> None:
    queue_job(database)
    job = claim(database, "first")
    expire(database, jobs_table)
    assert database.write_now(lambda c: training_jobs.report(c, job, []))
    assert claim(database, "second") is None


def test_a_waiting_job_is_cancelled_at_once_a_running_one_when_its_worker_looks(
    database: Database,
) -> None:
    running, waiting = queue_job(database), queue_job(database)
    claimed = claim(database)
    if claimed.id != running.id:  # made in the same millisecond
        running, waiting = waiting, running

    def cancel(job_id: str):
        return database.write_now(lambda c: training_jobs.cancel(c, job_id))

    assert cancel(waiting.id).status is JobStatus.CANCELLED
    asked = cancel(running.id)
    assert (asked.status, asked.cancel_requested) == (JobStatus.RUNNING, True)
    assert not database.write_now(lambda c: training_jobs.report(c, claimed, []))
    ended = database.write_now(lambda c: training_jobs.close(c, claimed, JobStatus.CANCELLED))
    assert cancel(ended.id) == ended


def test_what_went_wrong_is_kept_with_the_job(database: Database) -> None:
    queue_job(database)
    job = claim(database)
    why = JobError("bad_training_data", "too few examples", ("greet: one example",))
    database.write_now(lambda c: training_jobs.close(c, job, JobStatus.FAILED, error=why))
    assert database.read_now(lambda c: training_jobs.get(c, job.id)).error == why
    with pytest.raises(NotFound):
        database.read_now(lambda c: training_jobs.get(c, "0" * 32))


def test_too_many_waiting_jobs_are_turned_away(database: Database) -> None:
    for _ in range(2):
        database.write_now(lambda c: training_jobs.create(c, max_waiting=2))
    with pytest.raises(Overloaded):
        database.write_now(lambda c: training_jobs.create(c, max_waiting=2))
    claim(database)
    assert database.write_now(lambda c: training_jobs.create(c, max_waiting=2))

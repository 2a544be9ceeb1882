"""A lease can end between two statements of one look: that gives nobody an extra start."""

from typing import Any

from sqlalchemy import Connection, Table, event, update

from app.database import leases, training_jobs, turns
from app.database.database import Database
from app.database.tables import now
from app.database.tables import training_jobs as jobs_table
from app.database.tables import turns as turns_table
from app.database.training_jobs import JobStatus
from app.dialogue.turn import TurnStatus
from tests.unit.app.stored import accept, begin, conversation, expire


def expire_after_the_first_update(connection: Connection, table: Table) -> None:
    """Every lease of the table ends as soon as the next UPDATE of it has looked at them."""
    looked = False

    @event.listens_for(connection, "after_cursor_execute")
    def _end_leases(c: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal looked
        if not looked and statement.startswith(f"UPDATE {table.name} "):
            looked = True
            c.execute(update(table).values(lease_until=now() - 1))


def test_a_turn_at_its_last_start_is_not_adopted(database: Database) -> None:
    turn = database.write_now(accept(conversation(database)))
    expire(database, turns_table)
    database.write_now(lambda c: leases.adopt_orphans(c, "first"))
    started_twice = database.write_now(begin(turn))
    assert started_twice.fence == leases.MOST_STARTS

    def look(connection: Connection) -> list[Any]:
        expire_after_the_first_update(connection, turns_table)
        return leases.adopt_orphans(connection, "second")

    assert database.write_now(look) == []
    assert database.write_now(lambda c: leases.adopt_orphans(c, "second")) == []
    ended = database.read_now(lambda c: turns.get(c, turn.owner, turn.id))
    assert (ended.status, ended.error_code) == (TurnStatus.FAILED, "orphaned")


def test_a_training_job_at_its_last_start_is_not_claimed(database: Database) -> None:
    job = database.write_now(lambda c: training_jobs.create(c, max_waiting=1))
    for _ in range(training_jobs.MOST_STARTS):
        expire(database, jobs_table)
        assert database.write_now(lambda c: training_jobs.claim(c, "first")).id == job.id

    def look(connection: Connection) -> Any:
        expire_after_the_first_update(connection, jobs_table)
        return training_jobs.claim(connection, "second")

    assert database.write_now(look) is None
    assert database.write_now(lambda c: training_jobs.claim(c, "second")) is None
    ended = database.read_now(lambda c: training_jobs.get(c, job.id))
    assert (ended.status, ended.error.code) == (JobStatus.FAILED, "orphaned")

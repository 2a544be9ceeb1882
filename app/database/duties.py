"""What one replica does for all: whoever holds a duty does it, until its lease is over."""

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from app.database.tables import duties, now

LEASE_SECONDS = 60.0


def take(connection: Connection, name: str, worker: str) -> bool:
    """Take up a duty, or go on with it; whether it is this worker's now."""
    free = (duties.c.worker == worker) | (duties.c.lease_until < now())
    taken = connection.execute(
        update(duties)
        .where(duties.c.name == name, free)
        .values(worker=worker, lease_until=now() + LEASE_SECONDS)
    )
    if taken.rowcount:
        return True
    if connection.scalar(select(duties.c.name).where(duties.c.name == name)) is not None:
        return False
    try:
        with connection.begin_nested():
            connection.execute(
                insert(duties).values(name=name, worker=worker, lease_until=now() + LEASE_SECONDS)
            )
    except IntegrityError:  # two at once
        return False
    return True


def release(connection: Connection, name: str, worker: str) -> None:
    connection.execute(
        update(duties).where(duties.c.name == name, duties.c.worker == worker).values(lease_until=0)
    )

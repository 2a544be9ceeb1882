"""Who answers a turn: the worker whose name is on its row, as long as its lease lasts."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, and_, case, exists, select, update

from app.database.tables import now, turns
from app.database.turn_rows import LEASE_SECONDS, OPEN, from_row
from app.dialogue.turn import Turn, TurnStatus

MOST_STARTS = 2
"""A turn whose worker died is answered again, but a turn that kills workers is not."""


def renew(connection: Connection, worker: str, turn_ids: Sequence[str]) -> set[str]:
    """Keep the leases of this worker's open turns; returns those that are still its own."""
    return set(
        connection.scalars(
            update(turns)
            .where(turns.c.id.in_(turn_ids), turns.c.worker == worker, OPEN)
            .values(lease_until=now() + LEASE_SECONDS)
            .returning(turns.c.id)
        )
    )


def held(connection: Connection, worker: str, turn_ids: Collection[str]) -> set[str]:
    """Which of these this worker still has to answer; the others were cancelled, taken over or
    deleted."""
    return set(
        connection.scalars(
            select(turns.c.id).where(turns.c.id.in_(turn_ids), turns.c.worker == worker, OPEN)
        )
    )


def release(connection: Connection, worker: str) -> int:
    """Hand over what this worker has open: whoever looks next adopts it at once. A start that
    ends like this does not count against the turn."""
    return connection.execute(
        update(turns)
        .where(turns.c.worker == worker, OPEN)
        .values(
            status=TurnStatus.ACCEPTED,
            starts=case(
                (turns.c.status == TurnStatus.GENERATING, turns.c.starts - 1),
                else_=turns.c.starts,
            ),
            worker=None,
            lease_until=0,
        )
    ).rowcount


def orphans_exist(connection: Connection) -> bool:
    """A look that costs next to nothing, for every second."""
    return bool(connection.scalar(select(exists().where(OPEN, turns.c.lease_until < now()))))


def adopt_orphans(
    connection: Connection,
    worker: str,
    *,
    answering: Collection[str] = (),
    all_open: bool = False,
    most: int = 32,
) -> list[Turn]:
    """Take over turns whose worker is gone: its lease is over, or (`all_open`, where only one
    process can exist) this process has just started. Too often started: failed. Not more than
    `most` at a time, so that the replicas share them.

    `answering` are the turns that this worker is at work on. Its others are orphans like
    anybody's: it gave them up when the database did not take their end."""
    orphaned = OPEN if all_open else and_(OPEN, turns.c.lease_until < now())
    orphaned = and_(orphaned, turns.c.id.not_in(answering))
    connection.execute(
        update(turns)
        .where(orphaned, turns.c.starts >= MOST_STARTS)
        .values(
            status=TurnStatus.FAILED, error_code="orphaned", finished_at=now(), lease_until=None
        )
    )
    mine = orphaned
    if not all_open:
        some = select(turns.c.id).where(orphaned).order_by(turns.c.created_at).limit(most)
        mine = and_(orphaned, turns.c.id.in_(some))
    adopted = connection.scalars(
        update(turns)
        .where(mine, turns.c.starts < MOST_STARTS)  # a lease may have ended since that update
        .values(status=TurnStatus.ACCEPTED, worker=worker, lease_until=now() + LEASE_SECONDS)
        .returning(turns.c.id)
    ).all()
    rows = connection.execute(
        select(turns).where(turns.c.id.in_(adopted)).order_by(turns.c.conversation_id, turns.c.seq)
    )
    return [from_row(row) for row in rows]

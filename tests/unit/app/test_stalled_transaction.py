"""A replica that is stopped in the middle of a transaction does not stop the others."""

from collections.abc import Callable

import pytest
from sqlalchemy import update

from app.database import database as module
from app.database import leases
from app.database.database import Database
from app.database.tables import turns as table
from app.dialogue.turn import TurnStatus
from tests.unit.app.stored import accept, conversation, expire


def test_its_rows_are_free_after_a_while(
    postgresql: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALLED_SECONDS", 0.3)
    url = postgresql()
    stopped, other = Database(url), Database(url)
    try:
        turn = stopped.write_now(accept(conversation(stopped)))
        expire(stopped, table)
        with stopped.engine.connect() as connection:
            connection.execute(update(table).values(reply="half a reply"))
            # Here its process is stopped: it neither commits nor goes away.
            adopted = other.write_now(lambda c: leases.adopt_orphans(c, "second"))
            connection.invalidate()
        assert [one.id for one in adopted] == [turn.id]
        assert adopted[0].status is TurnStatus.ACCEPTED
    finally:
        stopped.close()
        other.close()

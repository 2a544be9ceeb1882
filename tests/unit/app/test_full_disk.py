"""A full disk makes SQLite give up a whole transaction: nothing of it may be told as done."""

import asyncio
import threading
from pathlib import Path

from sqlalchemy import Connection, event, text

from app.database.database import Database
from app.errors import Unavailable


def test_what_shared_a_commit_with_a_write_that_found_no_room_is_there_or_refused(
    tmp_path: Path,
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'full.db'}")
    database.write_now(lambda c: c.execute(text("CREATE TABLE notes (body TEXT)")))

    @event.listens_for(database.engine, "begin")
    def _no_room(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 4")

    begun, go_on = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        begun.set()
        go_on.wait(20)

    def note(connection: Connection, body: str) -> None:
        connection.execute(text("INSERT INTO notes VALUES (:body)"), {"body": body})

    async def play() -> list[BaseException | None]:
        first = asyncio.create_task(database.write(hold))
        await asyncio.to_thread(begun.wait, 20)
        together = asyncio.gather(
            database.write(lambda c: note(c, "small")),
            database.write(lambda c: note(c, "x" * 100_000)),
            database.write(lambda c: note(c, "small too")),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
        go_on.set()
        await first
        return list(await together)

    small, large, small_too = asyncio.run(play())
    stored = database.read_now(lambda c: set(c.scalars(text("SELECT body FROM notes"))))
    database.close()
    assert isinstance(large, Unavailable)
    assert (small, small_too) == (None, None)
    assert stored == {"small", "small too"}

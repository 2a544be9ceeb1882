"""The writing thread: what is shared in a commit, and what is not."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from app.database.database import Database
from app.database.tables import intents, now
from app.database.writer import Writer
from app.errors import Overloaded, Unavailable


def adding(name: str, row_id: str | None = None) -> Callable[[Connection], str]:
    def add(connection: Connection) -> str:
        connection.execute(
            insert(intents).values(
                id=row_id or name, name=name, title="", replies=[], updated_at=now()
            )
        )
        return name

    return add


def names(database: Database) -> list[str]:
    return sorted(database.read_now(lambda c: c.scalars(select(intents.c.name)).all()))


class Gate:
    """An operation that keeps the writer busy until it is opened."""

    def __init__(self) -> None:
        self.reached, self._open = threading.Event(), threading.Event()

    def __call__(self, _: Connection) -> None:
        self.reached.set()
        assert self._open.wait(30)

    def open(self) -> None:
        self._open.set()


async def held(database: Database, gate: Gate) -> "asyncio.Task[None]":
    task = asyncio.create_task(database.write(gate))
    assert await asyncio.to_thread(gate.reached.wait, 30)
    return task


def broken(connection: Connection) -> None:
    adding("half_done")(connection)
    raise ValueError("a defect in one operation")


def test_in_a_shared_commit_a_failing_operation_fails_alone(database: Database) -> None:
    async def scene() -> list[object]:
        gate = Gate()
        holding = await held(database, gate)
        work = [adding("a"), broken, adding("b"), adding("a", "twice"), adding("c")]
        tasks = [asyncio.create_task(database.write(one)) for one in work]
        await asyncio.sleep(0)  # all are in the queue now, for one commit
        gate.open()
        await holding
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(scene())
    assert [results[place] for place in (0, 2, 4)] == ["a", "b", "c"]
    assert isinstance(results[1], ValueError)
    assert isinstance(results[3], IntegrityError)
    assert names(database) == ["a", "b", "c"]


def test_an_error_that_may_be_logged_holds_nobodys_words(database: Database) -> None:
    database.write_now(adding("a"))
    with pytest.raises(IntegrityError) as raised:
        database.write_now(adding("my secret words", "a"))
    assert "my secret words" not in str(raised.value)


def test_what_gathers_while_a_commit_runs_shares_the_next_one(database: Database) -> None:
    async def scene() -> set[object]:
        gate = Gate()
        holding = await held(database, gate)
        tasks = [
            asyncio.create_task(database.write(lambda c: c.get_transaction())) for _ in range(10)
        ]
        await asyncio.sleep(0)
        gate.open()
        await holding
        return set(await asyncio.gather(*tasks))

    assert len(asyncio.run(scene())) == 1


def test_a_write_is_there_for_whoever_reads_after_it(database: Database) -> None:
    async def scene() -> list[str]:
        await database.write(adding("a"))
        return await database.read(lambda c: list(c.scalars(select(intents.c.name))))

    assert asyncio.run(scene()) == ["a"]


def test_who_gives_up_waiting_does_not_stop_the_writer(database: Database) -> None:
    async def scene() -> None:
        gate = Gate()
        holding = await held(database, gate)
        given_up = asyncio.create_task(database.write(adding("never_mind")))
        await asyncio.sleep(0)
        holding.cancel()
        given_up.cancel()
        await asyncio.wait({holding, given_up})
        gate.open()
        await database.write(adding("after"))

    asyncio.run(scene())
    assert names(database) == ["after"]


def test_closing_commits_what_was_submitted_before(database: Database) -> None:
    async def scene() -> list[str]:
        writer, gate = Writer(database.engine), Gate()
        holding = asyncio.create_task(writer.submit(gate))
        assert await asyncio.to_thread(gate.reached.wait, 30)
        tasks = [asyncio.create_task(writer.submit(adding(name))) for name in "abc"]
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(writer.close))
        gate.open()
        await asyncio.gather(closing, holding)
        return await asyncio.gather(*tasks)

    assert asyncio.run(scene()) == ["a", "b", "c"]
    assert names(database) == ["a", "b", "c"]


def test_after_closing_nothing_is_taken(database: Database) -> None:
    writer = Writer(database.engine)
    writer.close()
    writer.close()
    with pytest.raises(Unavailable):
        asyncio.run(writer.submit(adding("late")))
    with pytest.raises(Unavailable):
        writer.submit_and_wait(adding("late"))
    assert names(database) == []


def test_whoever_races_with_closing_is_committed_or_refused_and_never_left_waiting(
    database: Database,
) -> None:
    for attempt in range(20):
        writer, barrier = Writer(database.engine), threading.Barrier(2)
        outcome: list[str] = []

        def submit(
            writer: Writer = writer,
            barrier: threading.Barrier = barrier,
            outcome: list[str] = outcome,
            name: str = f"race_{attempt}",
        ) -> None:
            barrier.wait()
            try:
                outcome.append(writer.submit_and_wait(adding(name)))
            except Unavailable:
                outcome.append("refused")

        thread = threading.Thread(target=submit, daemon=True)
        thread.start()
        barrier.wait()
        writer.close()
        thread.join(10)
        assert outcome in ([f"race_{attempt}"], ["refused"])


def test_a_full_queue_turns_work_away(database: Database) -> None:
    async def scene() -> str:
        writer, gate = Writer(database.engine, max_waiting=2), Gate()
        holding = asyncio.create_task(writer.submit(gate))
        assert await asyncio.to_thread(gate.reached.wait, 30)
        waiting = [asyncio.create_task(writer.submit(adding(name))) for name in "ab"]
        await asyncio.sleep(0)
        try:
            await writer.submit(adding("c"))
        except Overloaded as error:
            code = error.code
        gate.open()
        await asyncio.gather(holding, *waiting)
        await asyncio.to_thread(writer.close)
        return code

    assert asyncio.run(scene()) == "overloaded"
    assert names(database) == ["a", "b"]


def test_a_database_that_does_not_answer_is_unavailable_and_comes_back(tmp_path) -> None:
    folder = tmp_path / "not there yet"
    database = Database(f"sqlite:///{folder / 'twofold.db'}")
    for attempt in (database.write_now, database.read_now):
        with pytest.raises(Unavailable):
            attempt(lambda c: 1)
    folder.mkdir()
    assert database.write_now(lambda c: 1) == 1
    database.close()

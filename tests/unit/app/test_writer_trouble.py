"""The writing thread when the database, the disk or an operation misbehaves."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, event, text

from app.database import accepting, turns
from app.database.accepting import NewTurn
from app.database.database import Database
from app.database.migration import migrate
from app.database.writer import OutcomeUnknown, Writer
from app.errors import Unavailable
from tests.unit.app.stored import accept, conversation, instant, timing
from tests.unit.app.test_writer import Gate, adding, held, names

KEY = "0123456789abcdef"


class Unconfirmed:
    """After `confirmed` more, a COMMIT is (or is not) done and its confirmation gets lost."""

    def __init__(self, database: Database, *, really: bool, confirmed: int = 0) -> None:
        self._dialect, self._really = database.engine.dialect, really
        self._confirmed = confirmed
        self._commit = self._dialect.do_commit

    def __enter__(self) -> None:
        self._dialect.do_commit = self._lose

    def __exit__(self, *_: object) -> None:
        self._dialect.do_commit = self._commit

    def _lose(self, connection) -> None:
        if self._confirmed > 0:
            self._confirmed -= 1
            self._commit(connection)
            return
        self._dialect.do_commit = self._commit
        if self._really:
            self._commit(connection)
        lost = sqlite3 if isinstance(connection.driver_connection, sqlite3.Connection) else psycopg
        raise lost.OperationalError("the connection was lost")


@pytest.mark.parametrize("really", [True, False])
def test_a_commit_that_nobody_confirmed_is_told_as_unknown_and_not_run_again(
    database: Database, really: bool
) -> None:
    runs: list[int] = []

    def add(connection: Connection) -> str:
        runs.append(1)
        return adding("a")(connection)

    async def scene() -> list[object]:
        gate = Gate()
        holding = await held(database, gate)
        both = [asyncio.create_task(database.write(one)) for one in (add, adding("b"))]
        await asyncio.sleep(0)
        gate.open()
        await holding
        return await asyncio.gather(*both, return_exceptions=True)

    with Unconfirmed(database, really=really, confirmed=1):  # the gate's
        results = asyncio.run(scene())
    assert [type(one) for one in results] == [OutcomeUnknown, OutcomeUnknown]
    assert len(runs) == 1
    assert names(database) == (["a", "b"] if really else [])
    assert database.write_now(adding("after")) == "after"  # and it goes on


@pytest.mark.parametrize("really", [True, False])
def test_an_unconfirmed_turn_is_one_turn_when_it_is_posted_again_with_its_key(
    database: Database, really: bool
) -> None:
    mine = conversation(database)
    with Unconfirmed(database, really=really), pytest.raises(OutcomeUnknown):
        database.write_now(accept(mine, decide=instant, key=KEY))
    again = database.write_now(accept(mine, decide=instant, key=KEY))
    assert (again.seq, again.replayed) == (1, really)
    assert database.write_now(accept(mine, decide=instant)).seq == 2


class NoSuchThing(BaseException):
    """Not even an Exception."""


def test_whatever_an_operation_raises_the_thread_goes_on(database: Database) -> None:
    def broken(_: Connection) -> None:
        raise NoSuchThing

    async def scene() -> list[object]:
        gate = Gate()
        holding = await held(database, gate)
        work = [adding("a"), broken, adding("b")]
        tasks = [asyncio.create_task(database.write(one)) for one in work]
        await asyncio.sleep(0)
        gate.open()
        await holding
        return await asyncio.gather(*tasks, return_exceptions=True)

    with pytest.raises(NoSuchThing):
        database.write_now(broken)
    results = asyncio.run(scene())
    assert [results[0], results[2]] == ["a", "b"]
    assert isinstance(results[1], NoSuchThing)
    assert names(database) == ["a", "b"]


def test_an_engine_that_breaks_hangs_nobody(database: Database) -> None:
    class Broken:
        def connect(self) -> Connection:
            raise MemoryError

    writer = Writer(database.engine)
    writer._engine = Broken()  # type: ignore[assignment]
    with pytest.raises(MemoryError):
        writer.submit_and_wait(adding("a"))
    writer._engine = database.engine
    assert writer.submit_and_wait(adding("b")) == "b"
    writer.close()


def test_who_waits_in_a_loop_that_was_closed_does_not_stop_the_writer(
    database: Database,
) -> None:
    gate = Gate()

    async def leave() -> None:
        await held(database, gate)

    loop = asyncio.new_event_loop()
    task = loop.create_task(leave())
    loop.run_until_complete(task)
    for one in asyncio.all_tasks(loop):
        one.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gate.open()
    assert database.write_now(adding("after")) == "after"


def test_one_bad_operation_does_not_cost_a_commit_for_each_other(database: Database) -> None:
    commits: list[int] = []
    event.listen(database.engine, "commit", lambda _: commits.append(1))

    def broken(_: Connection) -> None:
        raise ValueError

    async def scene() -> None:
        gate = Gate()
        holding = await held(database, gate)
        work = [broken, *(adding(str(n)) for n in range(20))]
        tasks = [asyncio.create_task(database.write(one)) for one in work]
        await asyncio.sleep(0)
        gate.open()
        await holding
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scene())
    assert len(names(database)) == 20
    assert len(commits) == 2  # the gate's, and theirs


def test_sqlite_syncs_every_commit_to_the_disk(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'twofold.db'}")
    for run in (database.write_now, database.read_now):
        assert run(lambda c: c.scalar(text("PRAGMA synchronous"))) == 2
        assert run(lambda c: c.scalar(text("PRAGMA journal_mode"))) == "wal"
    database.close()


def test_a_full_disk_loses_nothing_and_heals(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'twofold.db'}")
    database.write_now(migrate)
    mine = conversation(database)
    pages = database.read_now(lambda c: c.scalar(text("PRAGMA page_count")))

    def limit(connection: Connection, most: int) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {most}")

    database.write_now(lambda c: limit(c, pages + 3))
    stored = 0
    refused = None
    while refused is None:
        try:
            database.write_now(accept(mine, "long " * 800, decide=instant))
            stored += 1
        except Unavailable as error:
            refused = error.message
    assert "nothing was changed" in refused
    # The limit is the connection's, as a full disk is everybody's.
    database.write_now(lambda c: limit(c, 1_000_000))
    assert database.write_now(accept(mine, decide=instant)).seq == stored + 1
    page = database.read_now(lambda c: turns.page(c, "ada", mine, limit=100, cursor=None))[0]
    assert [one.seq for one in page] == list(range(1, stored + 2))
    database.close()


@pytest.fixture
def on_postgresql(postgresql: Callable[[], str]) -> Iterator[Database]:
    opened = Database(postgresql())
    yield opened
    opened.close()


def test_postgresql_confirms_only_what_is_on_its_disk(postgresql: Callable[[], str]) -> None:
    url = postgresql()
    admin = Database(url)
    name = admin.write_now(lambda c: c.scalar(text("SELECT current_database()")))
    admin.write_now(
        lambda c: c.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    )
    admin.close()
    database = Database(url)
    for run in (database.write_now, database.read_now):
        assert run(lambda c: c.scalar(text("SHOW synchronous_commit"))) == "on"
    database.close()


def cut_all_connections(database: Database) -> None:
    """From outside, as an administrator or a restart does."""
    with psycopg.connect(database.url) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_after_lost_connections_writing_and_reading_go_on_by_themselves(
    on_postgresql: Database,
) -> None:
    for round_ in range(3):
        on_postgresql.write_now(adding(f"before_{round_}"))
        cut_all_connections(on_postgresql)
        assert on_postgresql.write_now(adding(f"after_{round_}")) == f"after_{round_}"
        cut_all_connections(on_postgresql)
        assert len(names(on_postgresql)) == 2 * (round_ + 1)


def test_a_connection_cut_within_a_transaction_changed_nothing_and_says_so(
    on_postgresql: Database,
) -> None:
    def cut(connection: Connection) -> None:
        adding("a")(connection)
        cut_all_connections(on_postgresql)
        adding("b")(connection)

    with pytest.raises(Unavailable, match="nothing was changed"):
        on_postgresql.write_now(cut)
    assert names(on_postgresql) == []


def test_a_replica_that_stops_within_a_transaction_does_not_hold_the_others_for_ever(
    postgresql: Callable[[], str],
) -> None:
    url = postgresql()
    stopped, other = Database(url), Database(url)
    mine = conversation(other)
    reached, go_on = threading.Event(), threading.Event()

    def stop(connection: Connection) -> None:
        accepting.accept(connection, NewTurn("ada", mine, "one", "first"), instant, timing)
        reached.set()
        go_on.wait(60)  # as under SIGSTOP: the transaction is open, and nothing comes

    answer: list[BaseException] = []

    def write() -> None:
        try:
            stopped.write_now(stop)
        except BaseException as error:
            answer.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    assert reached.wait(30)
    assert other.write_now(accept(mine, decide=instant, worker="second")).seq == 1
    go_on.set()
    thread.join(30)
    assert [type(error) for error in answer] in ([Unavailable], [OutcomeUnknown])
    page = other.read_now(lambda c: turns.page(c, "ada", mine, limit=10, cursor=None))[0]
    assert [one.seq for one in page] == [1]
    stopped.close()
    other.close()

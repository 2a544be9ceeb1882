"""Who is let in: what one replica remembers of keys, and how soon it forgets."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.api import key_ring
from app.api.key_ring import KeyRing
from app.database import api_keys
from app.database.api_keys import ADMIN, USER, ApiKey
from app.database.database import Database
from app.errors import Overloaded, Unavailable

PEPPER = b"0123456789abcdef" * 2
NEWER = b"fedcba9876543210" * 2


def play(scene: Coroutine[Any, Any, Any]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(30):
            return await scene

    return asyncio.run(limited())


@asynccontextmanager
async def a_ring(database: Database, *peppers: bytes) -> AsyncIterator[KeyRing]:
    ring = KeyRing(database, peppers or (PEPPER,))
    await ring.start()
    try:
        yield ring
    finally:
        await ring.close()


class CountingDatabase(Database):
    """Counts what is looked up, apart from the beat's own small query."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.lookups = 0
        self.away = False

    async def read(self, operation: Any) -> Any:
        self.lookups += 1
        return await super().read(operation)

    def read_now(self, operation: Any) -> Any:
        if self.away:
            raise Unavailable("the database does not answer")
        return super().read_now(operation)


@pytest.fixture
def counting(database: Database) -> Iterator[CountingDatabase]:
    opened = CountingDatabase(database.url)
    yield opened
    opened.close()


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """No beat by itself: the test says when to look."""
    monkeypatch.setattr(key_ring, "POLL_SECONDS", 3600)


def made(database: Database, **options: Any) -> tuple[ApiKey, str]:
    fields = {"pepper": PEPPER} | options
    return database.write_now(lambda c: api_keys.create(c, "Ada", USER, **fields))


def wrong_secret(key: str) -> str:
    """Of the same prefix, checksum and all."""
    forged = f"tf_{api_keys.prefix_of(key)}_{'a' * 32}"
    return forged + api_keys._checksum(forged)


def unknown(number: int) -> str:
    key = f"tf_{number:08d}_{'a' * 32}"
    return key + api_keys._checksum(key)


@pytest.mark.usefixtures("still")
def test_a_key_is_looked_up_once_and_then_known(counting: CountingDatabase) -> None:
    row, key = made(counting)

    async def scene() -> list[ApiKey | None]:
        async with a_ring(counting) as ring:
            return [await ring.of_key(key) for _ in range(50)]

    assert play(scene()) == [row] * 50
    assert counting.lookups == 1


@pytest.mark.usefixtures("still")
def test_whoever_asks_at_the_same_moment_shares_a_query(counting: CountingDatabase) -> None:
    keys = [made(counting)[1] for _ in range(20)]

    async def scene() -> list[ApiKey | None]:
        async with a_ring(counting) as ring:
            return await asyncio.gather(*(ring.of_key(key) for key in keys * 5))

    assert all(play(scene()))
    assert counting.lookups <= 2


@pytest.mark.usefixtures("still")
def test_a_flood_of_wrong_keys_costs_few_queries_and_no_memory(
    counting: CountingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "MOST_WRONG", 100)
    monkeypatch.setattr(key_ring, "LOOKUP_PAUSE_SECONDS", 0)
    _, key = made(counting)

    async def scene() -> None:
        async with a_ring(counting) as ring:
            assert await ring.of_key(key)
            for start in range(0, 2000, 200):
                asked = [ring.of_key(unknown(start + one)) for one in range(200)]
                assert await asyncio.gather(*asked) == [None] * 200
            assert len(ring._wrong) == 100
            assert len(ring._known) == 1
            before = counting.lookups
            for _ in range(100):
                assert await ring.of_key(unknown(1999)) is None  # the same wrong key again
                assert await ring.of_key(key)
            assert counting.lookups == before

    play(scene())
    assert counting.lookups <= 30


@pytest.mark.usefixtures("still")
def test_when_too_many_unknown_keys_wait_the_known_ones_go_on(
    counting: CountingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "MOST_LOOKUPS", 5)
    _, key = made(counting)

    async def scene() -> None:
        async with a_ring(counting) as ring:
            assert await ring.of_key(key)
            asked = [ring.of_key(unknown(one)) for one in range(50)]
            got = await asyncio.gather(*asked, ring.of_key(key), return_exceptions=True)
            assert isinstance(got.pop(), ApiKey)
            assert {type(one) for one in got} == {type(None), Overloaded}

    play(scene())


@pytest.mark.usefixtures("still")
def test_a_wrong_secret_takes_the_same_way_as_an_unknown_prefix(
    counting: CountingDatabase,
) -> None:
    """What takes as many steps takes as long: the time does not tell that a prefix is right."""
    _, key = made(counting)

    async def scene() -> list[list[int]]:
        async with a_ring(counting) as ring:
            assert await ring.of_key(key)  # so that the prefix is known here
            steps: list[list[int]] = []
            for wrong in (wrong_secret(key), unknown(1)):
                counts = []
                for _ in range(3):
                    before = counting.lookups
                    assert await ring.of_key(wrong) is None
                    counts.append(counting.lookups - before)
                steps.append(counts)
            return steps

    assert play(scene()) == [[1, 0, 0], [1, 0, 0]]


def test_another_replica_sees_a_revocation_within_a_second(database: Database) -> None:
    other = Database(database.url)

    async def seconds_until_seen(ring: KeyRing) -> float:
        row, key = await database.write(lambda c: api_keys.create(c, "Ada", USER, pepper=PEPPER))
        session = await database.write(lambda c: api_keys.start_session(c, row.id))
        assert await ring.of_key(key)
        assert await ring.of_session(session)
        await database.write(lambda c: api_keys.revoke(c, row.id))
        clock = asyncio.get_running_loop().time
        start = clock()
        while await ring.of_key(key) or await ring.of_session(session):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return clock() - start

    async def scene() -> list[float]:
        async with a_ring(other) as ring:
            return [await seconds_until_seen(ring) for _ in range(4)]

    took = sorted(play(scene()))
    assert took[1] < 1.0, took  # a busy machine may spoil one or two of them
    other.close()


def test_a_slow_commit_does_not_delay_the_sight_of_a_revocation(database: Database) -> None:
    """Writing down that a key was used waits for the disk; nothing else may wait for that."""
    row, key = made(database)
    other = Database(database.url)
    go_on = threading.Event()

    async def scene() -> None:
        async with a_ring(other) as ring:
            stuck = asyncio.create_task(other.write(lambda _: go_on.wait(20)))
            assert await ring.of_key(key) == row  # and its use waits to be noted
            while other.waiting_writes == 0:  # noqa: ASYNC110 - `play` has the deadline
                await asyncio.sleep(0.01)
            if not other.is_sqlite:  # there is one writer at a time: nobody could revoke now
                await database.write(lambda c: api_keys.revoke(c, row.id))
                while await ring.of_key(key):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            checked = ring._checked_at
            while ring._checked_at == checked:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            go_on.set()
            await stuck

    try:
        play(scene())
    finally:
        go_on.set()
        other.close()


def test_another_replica_sees_a_sign_out(database: Database) -> None:
    row, key = made(database)
    session, kept = (
        database.write_now(lambda c: api_keys.start_session(c, row.id)) for _ in range(2)
    )
    other = Database(database.url)

    async def scene() -> None:
        async with a_ring(other) as ring:
            assert await ring.of_session(session)
            await database.write(lambda c: api_keys.end_session(c, session))
            while await ring.of_session(session):  # noqa: ASYNC110 - `play` has the deadline
                await asyncio.sleep(0.01)
            still_known = await ring.of_session(kept), await ring.of_key(key)
            assert [one and one.id for one in still_known] == [row.id] * 2

    play(scene())
    other.close()


@pytest.mark.usefixtures("still")
def test_a_key_made_elsewhere_is_taken_at_once(database: Database) -> None:
    other = Database(database.url)

    async def scene() -> None:
        async with a_ring(other) as ring:
            for _ in range(3):
                row, key = await database.write(
                    lambda c: api_keys.create(c, "new", ADMIN, pepper=PEPPER)
                )
                assert await ring.of_key(key) == row

    play(scene())
    other.close()


@pytest.mark.usefixtures("still")
def test_what_was_read_before_a_revocation_is_not_remembered_after_it(
    database: Database,
) -> None:
    """The look-up and the beat overlap: the slower one must not bring the key back."""
    row, key = made(database)

    class Overtaken(Database):
        async def read(self, operation: Any) -> Any:
            found = await super().read(operation)
            await database.write(lambda c: api_keys.revoke(c, row.id))
            await ring.refresh()
            return found

    other = Overtaken(database.url)
    ring = KeyRing(other, (PEPPER,))

    async def scene() -> list[bool]:
        await ring.start()
        asked = [await ring.of_key(key) is not None]
        other.__class__ = Database
        asked.append(await ring.of_key(key) is not None)
        await ring.close()
        return asked

    assert play(scene()) == [True, False]
    other.close()


@pytest.mark.usefixtures("still")
def test_nothing_reads_any_more_when_it_is_closed(database: Database) -> None:
    """Or a connection would be opened, or given back, after the database was closed."""
    reached, go_on = threading.Event(), threading.Event()
    under_way: list[Any] = []

    class Slow(Database):
        def read_now(self, operation: Any) -> Any:
            under_way.append(operation)
            reached.set()
            go_on.wait(20)
            try:
                return super().read_now(operation)
            finally:
                under_way.remove(operation)

    other = Database(database.url)

    async def scene() -> None:
        async with a_ring(other) as ring:
            other.__class__ = Slow
            looking = asyncio.create_task(ring.refresh())
            assert await asyncio.to_thread(reached.wait, 20)
            looking.cancel()
            asyncio.get_running_loop().call_later(0.3, go_on.set)
        assert under_way == []

    try:
        play(scene())
    finally:
        go_on.set()
        other.close()


@pytest.mark.usefixtures("still")
def test_a_key_ends_at_its_hour_by_the_databases_clock(database: Database) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    row, key = made(database, expires_at=soon)

    async def scene() -> list[ApiKey | None]:
        async with a_ring(database) as ring:
            before = await ring.of_key(key)
            ring._ahead += 31
            return [before, await ring.of_key(key)]

    assert play(scene()) == [row, None]


@pytest.mark.usefixtures("still")
def test_nobody_is_let_in_on_knowledge_of_yesterday(
    counting: CountingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, key = made(counting)

    async def scene() -> None:
        async with a_ring(counting) as ring:
            assert await ring.of_key(key)
            counting.away = True
            assert await ring.of_key(key)  # a hiccup is not yet an outage
            ring._checked_at -= key_ring.MOST_STALE_SECONDS + 1
            with pytest.raises(Unavailable):
                await ring.of_key(key)
            with pytest.raises(Unavailable):
                await ring.of_session("0" * 32)
            counting.away = False
            assert await ring.of_key(key) == row
            # As if the whole process had been stopped meanwhile: it looks before it lets in.
            await counting.write(lambda c: api_keys.revoke(c, row.id))
            ring._checked_at -= key_ring.MOST_STALE_SECONDS + 1
            assert await ring.of_key(key) is None

    play(scene())


def test_the_use_of_a_key_is_noted_soon_and_not_with_every_request(database: Database) -> None:
    row, key = made(database)

    def last_used() -> datetime | None:
        return database.read_now(api_keys.everything)[0].last_used_at

    async def scene() -> None:
        async with a_ring(database) as ring:
            assert await ring.of_key(key) == row
            while last_used() is None or ring._used:  # noqa: ASYNC110 - `play` has the deadline
                await asyncio.sleep(0.02)
            for _ in range(10):
                assert await ring.of_key(key)
            assert not ring._used

    play(scene())


@pytest.mark.usefixtures("still")
def test_a_key_goes_over_to_the_new_secret_when_it_is_used(database: Database) -> None:
    row, key = made(database)
    _, unused = made(database)

    async def used_with(*peppers: bytes) -> list[bool]:
        async with a_ring(database, *peppers) as ring:
            return [await ring.of_key(one) is not None for one in (key, unused)]

    assert play(used_with(NEWER)) == [False, False]
    assert play(used_with(PEPPER, NEWER)) == [True, True]  # first, every server knows both

    async def one_is_used() -> None:
        async with a_ring(database, NEWER, PEPPER) as ring:
            assert await ring.of_key(key)

    play(one_is_used())
    left = database.read_now(lambda c: api_keys.under_another_pepper(c, NEWER))
    assert left == {one.id for one in database.read_now(api_keys.everything)} - {row.id}
    assert play(used_with(NEWER)) == [True, False]

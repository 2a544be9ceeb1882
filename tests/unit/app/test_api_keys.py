"""API keys: their shape, and what the table knows of them."""

import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from app.database import api_keys
from app.database.api_keys import (
    ADMIN,
    MOST_SESSIONS,
    USER,
    Scope,
    StoredKey,
    looks_like_a_key,
    scopes_named,
)
from app.database.database import Database
from app.database.tables import api_keys as table
from app.database.tables import now
from app.errors import ConfigurationError, InvalidInput, NotFound

PEPPER = b"0123456789abcdef" * 2
DRAWN = string.ascii_letters + string.digits
GOOD = "tf_Ab3dEf9h_" + "Zx8" * 10 + "Zx"
GOOD += api_keys._checksum(GOOD)


def made(database: Database, scopes: frozenset[Scope] = USER) -> tuple[api_keys.ApiKey, str]:
    return database.write_now(lambda c: api_keys.create(c, "Ada", scopes, pepper=PEPPER))


def living(database: Database, *names: str) -> list[StoredKey]:
    """By prefixes and session ids."""
    keys, sessions = database.read_now(lambda c: api_keys.living(c, names, names))
    return [*keys.values(), *sessions.values()]


def revision(database: Database) -> int:
    return database.read_now(api_keys.revision)[0]


def test_a_drawn_key_looks_like_one() -> None:
    assert looks_like_a_key(GOOD)


@given(st.integers(0, len(GOOD) - 1), st.characters())
def test_any_single_changed_character_is_noticed(place: int, character: str) -> None:
    changed = GOOD[:place] + character + GOOD[place + 1 :]
    assert looks_like_a_key(changed) == (changed == GOOD)


@given(st.integers(0, len(GOOD) - 2))
def test_two_swapped_neighbours_are_noticed(place: int) -> None:
    swapped = GOOD[:place] + GOOD[place + 1] + GOOD[place] + GOOD[place + 2 :]
    assert looks_like_a_key(swapped) == (swapped == GOOD)


@given(st.text() | st.text(alphabet=DRAWN + "_", min_size=40, max_size=50))
def test_any_other_text_is_no_key_and_no_error(text: str) -> None:
    assert not looks_like_a_key(text)


def test_a_key_is_there_until_it_is_revoked(database: Database) -> None:
    row, key = made(database, ADMIN)
    (stored,) = living(database, row.prefix)
    assert stored.key == row
    assert (stored.hash, stored.ends_at) == (api_keys.hash_of(key, PEPPER), None)
    before = revision(database)
    database.write_now(lambda c: api_keys.revoke(c, row.id))
    assert living(database, row.prefix) == []
    assert revision(database) > before
    with pytest.raises(NotFound):
        database.write_now(lambda c: api_keys.revoke(c, row.id))


def test_the_table_holds_no_key_and_proves_nothing_without_the_pepper(database: Database) -> None:
    _, key = made(database)
    stored = str(database.read_now(lambda c: c.execute(table.select()).all()))
    assert key not in stored
    assert key.split("_")[2] not in stored
    assert api_keys.hash_of(key, PEPPER) in stored
    assert api_keys.hash_of(key, b"another") not in stored


def test_scopes_have_names_and_short_names() -> None:
    assert scopes_named(["user"]) == {Scope.CHAT}
    assert scopes_named(["admin"]) == set(Scope)
    assert scopes_named(["chat", "admin:read"]) == {Scope.CHAT, Scope.ADMIN_READ}
    assert scopes_named(["admin:write"]) == {Scope.ADMIN_READ, Scope.ADMIN_WRITE}
    for wrong in ([], ["god"], ["Chat"], [""], ["admin:read admin:write"]):
        with pytest.raises(InvalidInput):
            scopes_named(wrong)


def test_a_session_is_there_until_it_or_its_key_ends(database: Database) -> None:
    row, _ = made(database)
    first, second = (
        database.write_now(lambda c: api_keys.start_session(c, row.id)) for _ in range(2)
    )
    assert [one.key for one in living(database, first, second)] == [row, row]
    before = revision(database)
    database.write_now(lambda c: api_keys.end_session(c, first))
    assert living(database, first) == []
    assert revision(database) == before + 1
    database.write_now(lambda c: api_keys.end_session(c, first))  # again, and nothing happens
    assert revision(database) == before + 1
    database.write_now(lambda c: api_keys.revoke(c, row.id))
    assert living(database, second) == []


def wait_for_the_clock(database: Database) -> None:
    """Until the clock that sessions are dated by shows another moment."""
    moment = database.read_now(lambda c: c.scalar(select(now())))
    while database.read_now(lambda c: c.scalar(select(now()))) == moment:
        pass


def test_a_key_has_so_many_sessions_and_no_more(database: Database) -> None:
    row, _ = made(database)
    started = []
    for _ in range(MOST_SESSIONS + 2):
        started.append(database.write_now(lambda c: api_keys.start_session(c, row.id)))
        wait_for_the_clock(database)  # of two that started at one moment, either may be the older
    assert len(living(database, *started)) == MOST_SESSIONS
    assert living(database, *started[:2]) == []


def test_a_session_ends_when_its_key_does(database: Database) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    row, _ = database.write_now(
        lambda c: api_keys.create(c, "Ada", USER, pepper=PEPPER, expires_at=soon)
    )
    session = database.write_now(lambda c: api_keys.start_session(c, row.id))
    by_key, by_session = living(database, row.prefix, session)
    assert by_key.ends_at == by_session.ends_at == pytest.approx(soon.timestamp())


def test_servers_of_one_database_need_the_same_secret(database: Database) -> None:
    def check(*peppers: bytes) -> None:
        database.write_now(lambda c: api_keys.check_pepper(c, peppers))

    check(PEPPER)
    check(PEPPER)
    with pytest.raises(ConfigurationError, match="TWOFOLD_SECRET"):
        check(b"another" * 8)
    # A change of the secret: both are honoured for a while, then the new one alone.
    check(PEPPER, b"new" * 12)
    check(b"new" * 12, PEPPER)
    check(b"new" * 12)
    with pytest.raises(ConfigurationError):
        check(PEPPER)


def test_starting_over_ends_all_keys_and_takes_the_present_secret(database: Database) -> None:
    row, _ = made(database)
    session = database.write_now(lambda c: api_keys.start_session(c, row.id))
    database.write_now(lambda c: api_keys.check_pepper(c, [PEPPER]))
    assert database.write_now(lambda c: api_keys.start_over(c, b"new" * 12)) == 1
    assert living(database, row.prefix, session) == []
    database.write_now(lambda c: api_keys.check_pepper(c, [b"new" * 12]))


def test_the_use_of_a_key_is_noted_but_not_with_every_request(database: Database) -> None:
    row, _ = made(database)

    def last_used() -> object:
        database.write_now(lambda c: api_keys.mark_used(c, [row.id]))
        return living(database, row.prefix)[0].key.last_used_at

    first = last_used()
    assert first is not None
    assert last_used() == first

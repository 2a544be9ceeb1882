"""API keys: their shape, and what the table knows of them."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.database import api_keys
from app.database.api_keys import Scope, looks_like_a_key
from app.database.database import Database
from app.database.tables import api_keys as table
from app.errors import NotFound

PEPPER = b"0123456789abcdef" * 2
DRAWN = string.ascii_letters + string.digits
GOOD = "tf_Ab3dEf9h_" + "Zx8" * 10 + "Zx"
GOOD += api_keys._checksum(GOOD)


def made(database: Database, scope: Scope = Scope.USER) -> tuple[api_keys.ApiKey, str]:
    return database.write_now(lambda c: api_keys.create(c, "Ada", scope, pepper=PEPPER))


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


def test_a_key_opens_until_it_is_revoked(database: Database) -> None:
    row, key = made(database, Scope.ADMIN)
    assert looks_like_a_key(key)
    assert database.read_now(lambda c: api_keys.find(c, key, pepper=PEPPER)) == row
    assert database.read_now(lambda c: api_keys.get_living(c, row.id)) == row
    database.write_now(lambda c: api_keys.revoke(c, row.id))
    assert database.read_now(lambda c: api_keys.find(c, key, pepper=PEPPER)) is None
    assert database.read_now(lambda c: api_keys.get_living(c, row.id)) is None
    with pytest.raises(NotFound):
        database.write_now(lambda c: api_keys.revoke(c, row.id))


def test_the_table_holds_no_key_and_opens_nothing_without_the_pepper(database: Database) -> None:
    _, key = made(database)
    stored = str(database.read_now(lambda c: c.execute(table.select()).all()))
    assert key not in stored
    assert key.split("_")[2] not in stored
    assert database.read_now(lambda c: api_keys.find(c, key, pepper=b"another")) is None


def test_a_right_prefix_alone_opens_nothing(database: Database) -> None:
    _, key = made(database)
    start = "_".join(key.split("_")[:2])
    forged = f"{start}_{'A' * 32}"
    forged += api_keys._checksum(forged)
    assert looks_like_a_key(forged)
    assert database.read_now(lambda c: api_keys.find(c, forged, pepper=PEPPER)) is None


def test_the_use_of_a_key_is_noted_but_not_with_every_request(database: Database) -> None:
    row, _ = made(database)

    def last_used() -> object:
        database.write_now(lambda c: api_keys.mark_used(c, row.id))
        return database.read_now(lambda c: api_keys.get_living(c, row.id)).last_used_at

    first = last_used()
    assert first is not None
    assert last_used() == first

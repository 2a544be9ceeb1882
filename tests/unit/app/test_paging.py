"""Pages: every item exactly once, in order, whatever the page size; and hostile cursors."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as trying
from hypothesis import strategies as st
from sqlalchemy import update

from app.database import conversations, erasure, intents, turns
from app.database.database import Database
from app.database.tables import conversations as conversations_table
from app.errors import Conflict, InvalidInput, NotFound
from tests.unit.app.stored import accept, conversation, instant

COUNT = 7
Page = Callable[..., tuple[list[Any], str | None]]


def conversation_pages(database: Database) -> Page:
    for _ in range(COUNT):
        conversation(database)
    conversation(database, owner="bob")
    # Three of them at the same moment: the id must break the tie.
    ids = database.read_now(lambda c: conversations.newest_first(c, "ada", limit=99, cursor=None))
    database.write_now(
        lambda c: c.execute(
            update(conversations_table)
            .where(conversations_table.c.id.in_([one.id for one in ids[0][:3]]))
            .values(updated_at=1_700_000_000.123456)
        )
    )
    return lambda **page: database.read_now(lambda c: conversations.newest_first(c, "ada", **page))


def example_pages(database: Database) -> Page:
    texts = [f"hello {n}" for n in range(COUNT)]
    database.write_now(lambda c: intents.create(c, "greet", example_texts=texts))
    database.write_now(lambda c: intents.create(c, "bye", example_texts=["bye"]))
    return lambda **page: database.read_now(lambda c: intents.examples_of(c, "greet", **page))


def turn_pages(database: Database) -> Page:
    mine = conversation(database)
    for _ in range(COUNT):
        database.write_now(accept(mine, decide=instant))
    database.write_now(accept(conversation(database), decide=instant))
    return lambda **page: database.read_now(lambda c: turns.page(c, "ada", mine, **page))


@pytest.fixture(params=[conversation_pages, example_pages, turn_pages])
def page(request: pytest.FixtureRequest, database: Database) -> Page:
    made: Page = request.param(database)
    return made


def test_all_pages_together_are_everything_exactly_once(
    request: pytest.FixtureRequest, page: Page
) -> None:
    everything, end = page(limit=100, cursor=None)
    assert (len(everything), end) == (COUNT, None)
    newest_last = "turn_pages" in request.node.name
    for limit in range(1, COUNT + 2):
        collected: list[Any] = []
        cursor = None
        while True:
            items, cursor = page(limit=limit, cursor=cursor)
            assert 0 < len(items) <= limit
            collected = [*items, *collected] if newest_last else [*collected, *items]
            if cursor is None:
                break
        assert collected == everything


@given(cursor=st.text() | st.from_regex(r"-?[0-9a-z.]{1,30}_?[0-9a-f]{0,40}", fullmatch=True))
@example(cursor="nan_x")
@example(cursor="inf_x")
@example(cursor="1e999_x")
@example(cursor="1.0_\x00")
@example(cursor="1.0_\ud800")
@example(cursor="99999999999999999999")
@example(cursor="-1")
@example(cursor="\u0663")
@trying(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cursor_that_is_not_ours_is_refused_or_leads_somewhere(page: Page, cursor: str) -> None:
    with suppress(InvalidInput):
        page(limit=3, cursor=cursor)


def test_somebody_elses_conversation_is_absent(database: Database) -> None:
    hers = conversation(database)
    for look in (
        lambda c: conversations.get(c, "bob", hers),
        lambda c: erasure.erase_conversation(c, "bob", hers, by=erasure.By.OWNER),
        lambda c: turns.page(c, "bob", hers, limit=3, cursor=None),
        lambda c: conversations.get(c, "bob", "0" * 32),
    ):
        with pytest.raises(NotFound, match="there is no such conversation"):
            database.write_now(look)
    assert database.read_now(lambda c: conversations.get(c, "ada", hers)).id == hers


def test_an_example_can_be_longer_than_an_index_allows(database: Database) -> None:
    # Not repetitive: PostgreSQL would compress it below the limit of its index pages.
    long = " ".join(f"{n * 7919 % 100_003:x}" for n in range(20_000))
    database.write_now(lambda c: intents.create(c, "greet"))
    added, skipped = database.write_now(
        lambda c: intents.add_examples(c, "greet", [long, long + "!", long])
    )
    assert ([one.text for one in added], skipped) == ([long, long + "!"], [2])
    assert database.write_now(lambda c: intents.add_examples(c, "greet", [long])) == ([], [0])


def test_an_example_is_not_changed_into_one_that_is_there(database: Database) -> None:
    database.write_now(lambda c: intents.create(c, "greet", example_texts=["hi", "hello"]))
    items, _ = database.read_now(lambda c: intents.examples_of(c, "greet", limit=9, cursor=None))
    hi = next(one for one in items if one.text == "hi")
    with pytest.raises(Conflict):
        database.write_now(lambda c: intents.change_example(c, hi.id, "hello"))
    assert database.write_now(lambda c: intents.change_example(c, hi.id, "hey")).text == "hey"

"""What is older than the retention allows goes by itself, and can be counted before."""

import asyncio
import threading

import pytest
from sqlalchemy import select, update

from app.database import erasure
from app.database.database import Database
from app.database.erasure import Retention
from app.database.migration import migrate
from app.database.tables import conversations, now, turns
from app.eraser import Eraser
from app.settings import Settings
from tests.integration.conftest import serving
from tests.integration.routes import assert_problem
from tests.integration.test_erasure import count
from tests.unit.app import stored

DAY = 86_400.0


def test_the_dry_run_counts_what_the_retention_then_takes(database: Database) -> None:
    for owner, days in (
        ("key:a", 1), ("key:a", 29), ("key:b", 31), ("guest:c", 8), ("guest:c", 6),
    ):  # fmt: skip
        _talk_of_age(database, owner, days)
    retention = Retention(days=30, guest_days=7)
    due = database.read_now(lambda c: erasure.due(c, retention))
    assert (due.conversations, due.turns, due.examples) == (2, 2, 0)
    assert count(database, conversations) == 5  # a dry run
    receipts = asyncio.run(Eraser(database, retention).enforce_retention())
    (receipt,) = receipts
    assert receipt.rows == {
        "conversations": 2,
        "turns": 2,
        "examples": 0,
        "reanswers": 0,
        "labels": 0,
        "sampled_turns": 0,
    }
    assert all(one.seal() == one.sha256 for one in receipts)
    assert count(database, conversations) == count(database, turns) == 3
    assert asyncio.run(Eraser(database, retention).enforce_retention()) == []


@pytest.mark.parametrize(
    ("retention", "left"),
    [
        (Retention(), 2),
        (Retention(days=30), 0),
        (Retention(guest_days=30), 1),
        (Retention(days=30, guest_days=60), 1),
    ],
)
def test_retention_of_guests_may_differ(
    database: Database, retention: Retention, left: int
) -> None:
    _talk_of_age(database, "key:a", 40)
    _talk_of_age(database, "guest:b", 40)
    asyncio.run(Eraser(database, retention).enforce_retention())
    assert count(database, conversations) == left


def test_what_is_being_answered_is_never_too_old(database: Database) -> None:
    mine = stored.conversation(database, "key:a")
    database.write_now(stored.accept(mine, owner="key:a"))
    _make_old(database, mine, 400)
    assert asyncio.run(Eraser(database, Retention(days=1)).enforce_retention()) == []
    assert count(database, turns) == 1


def test_a_server_enforces_its_retention_by_itself(settings: Settings) -> None:
    database = Database(settings.url)
    database.write_now(migrate)
    _talk_of_age(database, "key:a", 40)
    kept = _talk_of_age(database, "key:a", 2)
    kept_settings = settings.model_copy(update={"retention_days": 30.0})
    with serving(kept_settings) as served:
        deadline = threading.Event()
        for _ in range(400):
            if count(database, conversations) == 1:
                break
            deadline.wait(0.05)
        assert database.read_now(lambda c: c.scalar(select(conversations.c.id))) == kept
        report = served.client.get("/admin/retention", headers=served.admin).json()
        assert (report["retention_days"], report["guest_retention_days"]) == (30, 30)
        assert report["due"] == {"conversations": 0, "turns": 0, "examples": 0}
        tried = served.client.get("/admin/retention?days=1", headers=served.admin).json()
        assert tried["due"] == {"conversations": 1, "turns": 1, "examples": 0}
        for wrong in ("0", "-1", "nan", "inf", "x", "1e9"):
            got = served.client.get(f"/admin/retention?days={wrong}", headers=served.admin)
            assert_problem(got, 422)
    database.close()


def _talk_of_age(database: Database, owner: str, days: float) -> str:
    mine = stored.conversation(database, owner)
    database.write_now(stored.accept(mine, owner=owner, decide=stored.instant))
    _make_old(database, mine, days)
    return mine


def _make_old(database: Database, conversation_id: str, days: float) -> None:
    database.write_now(
        lambda c: c.execute(
            update(conversations)
            .where(conversations.c.id == conversation_id)
            .values(updated_at=now() - days * DAY)
        )
    )

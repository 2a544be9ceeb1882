"""The live model version and the replies, as a process follows their changes."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy import update

from app import live
from app.database import assistant, intents, model_versions
from app.database.assistant import Assistant
from app.database.database import Database
from app.database.tables import model_versions as table
from app.live import LiveAssistant
from intent.interface import ArtifactError, IntentClassifier
from tests.fakes import FakeClassifier, prediction

ANSWERS = {
    b"first": prediction(("greet", 0.9)),
    b"second": prediction(("goodbye", 0.8)),
}


class Loader:
    """What is loaded is counted; an artefact that it does not know is refused."""

    def __init__(self) -> None:
        self.loaded: list[bytes] = []

    def __call__(self, artifact: bytes) -> IntentClassifier:
        self.loaded.append(artifact)
        if artifact not in ANSWERS:
            raise ArtifactError("not one of ours")
        return FakeClassifier({"hello": ANSWERS[artifact]})


def add(database: Database, artifact: bytes) -> int:
    return database.write_now(
        lambda c: model_versions.add(
            c,
            artifact,
            data_hash="0" * 64,
            intents=1,
            examples=2,
            evaluation={},
            training_job_id=None,
        )
    )


def promote(database: Database, number: int) -> None:
    database.write_now(lambda c: model_versions.promote(c, number, by="ada"))


def play(
    database: Database, scene: Callable[[LiveAssistant], Coroutine[Any, Any, Any]]
) -> tuple[Any, list[bytes]]:
    loader = Loader()

    async def run() -> Any:
        following = LiveAssistant(database, loader)
        await following.start()
        try:
            async with asyncio.timeout(30):
                return await scene(following)
        finally:
            await following.close()

    return asyncio.run(run()), loader.loaded


async def heard(following: LiveAssistant) -> tuple[str | None, int | None]:
    reading = await following.read("hello")
    return reading.prediction.intent if reading.prediction else None, reading.model_version


def test_before_the_first_promotion_nothing_is_predicted(database: Database) -> None:
    add(database, b"first")
    assert play(database, heard) == ((None, None), [])


def test_a_promotion_is_followed_and_loaded_once(database: Database) -> None:
    first, second = add(database, b"first"), add(database, b"second")
    promote(database, first)

    async def scene(following: LiveAssistant) -> list[object]:
        before = await heard(following)
        await asyncio.to_thread(promote, database, second)
        await asyncio.gather(*(following.refresh() for _ in range(5)))
        return [before, await heard(following)]

    seen, loaded = play(database, scene)
    assert seen == [("greet", first), ("goodbye", second)]
    assert loaded == [b"first", b"second"]


@pytest.mark.parametrize("damage", ["refused by the loader", "damaged in the table"])
def test_a_version_that_cannot_be_loaded_leaves_the_old_one_serving(
    database: Database, damage: str
) -> None:
    first = add(database, b"first")
    promote(database, first)
    bad = add(database, b"unheard of")
    if damage == "damaged in the table":
        database.write_now(
            lambda c: c.execute(
                update(table).where(table.c.number == bad).values(artifact=b"bit rot")
            )
        )
    second = add(database, b"second")

    async def scene(following: LiveAssistant) -> list[object]:
        await asyncio.to_thread(promote, database, bad)
        for _ in range(3):
            await following.refresh()
        seen = [await heard(following)]
        await asyncio.to_thread(promote, database, second)
        await following.refresh()
        return [*seen, await heard(following)]

    seen, loaded = play(database, scene)
    assert seen == [("greet", first), ("goodbye", second)]
    assert loaded.count(b"unheard of") == (damage == "refused by the loader")  # not every second


def test_edits_of_replies_and_variables_are_followed(database: Database) -> None:
    def edit(connection) -> None:
        intents.create(connection, "greet", title="Say hello", replies=["Hi from {shop}!"])
        assistant.put(connection, Assistant("Juno", "Hi.", (), {"shop": "Ours"}))

    async def scene(following: LiveAssistant) -> tuple[object, ...]:
        before = following.replies.intents
        await asyncio.to_thread(database.write_now, edit)
        await following.refresh()
        book = (await following.read("hello")).replies
        return before, book.title("greet"), dict(book.variables)

    assert play(database, scene)[0] == ({}, "Say hello", {"shop": "Ours"})


class Outage(Database):
    error: Exception | None = None
    failed = 0

    async def read(self, operation):
        if self.error is not None:
            self.failed += 1
            raise self.error
        return await super().read(operation)


@pytest.mark.parametrize("error", [live.TwofoldError("away"), ValueError("a defect")])
def test_it_goes_on_following_after_the_database_was_away(
    database: Database, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "POLL_SECONDS", 0.005)
    number = add(database, b"first")
    flaky = Outage(database.url)

    async def scene(following: LiveAssistant) -> int | None:
        flaky.error = error
        while flaky.failed < 3:
            assert not following._follower.done()
            await asyncio.sleep(0.005)
        flaky.error = None
        await asyncio.to_thread(promote, database, number)
        while following.model_version is None:
            assert not following._follower.done()
            await asyncio.sleep(0.005)
        return following.model_version

    assert play(flaky, scene)[0] == number
    flaky.close()

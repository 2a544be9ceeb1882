"""Turns outlive the process that answers them: crashes, cancellations, outages."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app import turn_runner
from app.database import erasure, leases, turns
from app.database.database import Database
from app.database.tables import turns as table
from app.dialogue.chatbot import Chatbot, Found, Reading
from app.dialogue.responses import ReplyBook
from app.dialogue.routing import RoutingPolicy
from app.dialogue.turn import Turn, TurnStatus
from app.errors import NotFound, Overloaded, Unavailable
from app.turn_places import TurnLimits, TurnPlaces
from app.turn_runner import TurnRunner
from generator.interface import ChatMessage, Generator, GeneratorUnavailable
from generator.scripted import ScriptedGenerator
from tests.fakes import NOTHING
from tests.unit.app.stored import conversation, expire

DEADLINE_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _short_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GROW_SECONDS", "RENEW_SECONDS", "RECOVER_SECONDS", "POLL_SECONDS"):
        monkeypatch.setattr(turn_runner, name, 0.02)


class NothingIsKnown:
    async def read(self, text: str) -> Reading:
        return Reading(NOTHING, 1, ReplyBook(), 0.0)


async def no_passages(_: Sequence[ChatMessage]) -> Found:
    return Found(())


def a_runner(database: Database, generator: Generator, **options: TurnPlaces) -> TurnRunner:
    chatbot = Chatbot(NothingIsKnown(), RoutingPolicy(), generator, no_passages)
    return TurnRunner(database, chatbot, **options)


@asynccontextmanager
async def running(
    database: Database, generator: Generator, **options: TurnPlaces
) -> AsyncIterator[TurnRunner]:
    runner = a_runner(database, generator, **options)
    await runner.start()
    try:
        yield runner
    finally:
        await runner.close(drain_seconds=0)


def play(scene: Coroutine[Any, Any, Any]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await scene

    return asyncio.run(limited())


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Looks until it holds; `play` has the deadline."""
    while not await holds():  # noqa: ASYNC110 - what it looks at tells nobody
        await asyncio.sleep(0.005)


async def crash(runner: TurnRunner) -> None:
    """Its process is gone: nothing is written, nothing is handed over."""
    tasks = [*runner._beats, *runner._answering]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def stored(database: Database, turn: Turn) -> Turn:
    return await database.read(lambda c: turns.get(c, turn.owner, turn.id))


async def until_stored(database: Database, turn: Turn, text: str, *, fence: int = 1) -> None:
    """By this start of the turn or a later one."""

    async def holds() -> bool:
        now = await stored(database, turn)
        return now.fence >= fence and now.reply is not None and now.reply.text == text

    await eventually(holds)


async def until_heard(runner: TurnRunner, turn: Turn, text: str) -> None:
    async for grown in runner.watch(turn.owner, turn.id):
        if grown.reply and grown.reply.text == text:
            return


def stuck(line: str, *, at: int = 2) -> ScriptedGenerator:
    """Says `at` words of the line and then nothing more."""
    return ScriptedGenerator([line], wait_before={at: asyncio.Event()})


def test_a_turn_whose_process_died_is_answered_by_the_next_one_from_the_start(
    database: Database,
) -> None:
    mine = conversation(database)

    async def scene() -> tuple[Turn, Turn, list[str]]:
        first = a_runner(database, stuck("Old words, never finished."))
        await first.start()
        posted = await first.post("ada", mine, "tell me a story")
        await until_stored(database, posted, "Old words, ")
        await crash(first)
        left = await stored(database, posted)
        await asyncio.to_thread(expire, database, table)
        async with running(database, ScriptedGenerator(["A whole new reply."])) as second:
            seen = [turn.reply.text async for turn in second.watch("ada", posted.id) if turn.reply]
            return left, await stored(database, posted), seen

    left, ended, seen = play(scene())
    assert (left.status, left.fence, left.reply.text) == (TurnStatus.GENERATING, 1, "Old words, ")
    assert (ended.status, ended.fence, ended.seq) == (TurnStatus.DONE, 2, 1)
    assert ended.reply.text == "A whole new reply."
    replaced = [text for text in seen if text != "Old words, "]
    assert all("A whole new reply.".startswith(text) for text in replaced)


def test_a_turn_that_outlives_no_process_fails_with_its_partial_text(database: Database) -> None:
    mine = conversation(database)

    async def scene() -> Turn:
        posted = None
        for line in ("Old words, never.", "New words, never."):
            runner = a_runner(database, stuck(line))
            await runner.start()
            posted = posted or await runner.post("ada", mine, "tell me a story")
            await until_stored(database, posted, line.removesuffix("never."))
            await crash(runner)
            await asyncio.to_thread(expire, database, table)
        async with running(database, ScriptedGenerator(["Not said."])) as third:
            return await third.final("ada", posted.id)

    ended = play(scene())
    assert (ended.status, ended.error_code) == (TurnStatus.FAILED, "orphaned")
    assert ended.reply.text == "New words, "


def test_turns_that_waited_when_the_process_died_are_answered_in_order(
    database: Database,
) -> None:
    mine = conversation(database)

    async def scene() -> list[Turn]:
        first = a_runner(database, stuck("Old words, never."))
        await first.start()
        posted = [await first.post("ada", mine, f"message {n}") for n in range(3)]
        await crash(first)
        await asyncio.to_thread(expire, database, table)
        async with running(database, ScriptedGenerator(["One.", "Two.", "Three."])) as second:
            return [await second.final("ada", turn.id) for turn in posted]

    ended = play(scene())
    assert [turn.reply.text for turn in ended] == ["One.", "Two.", "Three."]
    assert [turn.fence for turn in ended] == [2, 1, 1]


SERVER = """
    import asyncio, sys
    from app.database.database import Database
    from tests.integration.test_turn_durability import a_runner, stuck, until_stored

    async def serve():
        database = Database(sys.argv[1])
        runner = a_runner(database, stuck("Old words, never finished."))
        await runner.start()
        turn = await runner.post("ada", sys.argv[2], "tell me a story")
        await until_stored(database, turn, "Old words, ")
        print(turn.id, flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())
"""


def test_a_killed_process_loses_no_turn(database: Database) -> None:
    mine = conversation(database)
    server = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVER), database.url, mine],
        stdout=subprocess.PIPE,
        text=True,
    )
    turn_id = server.stdout.readline().strip()
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    server.stdout.close()
    expire(database, table)

    async def scene() -> Turn:
        async with running(database, ScriptedGenerator(["A whole new reply."])) as runner:
            return await runner.final("ada", turn_id)

    ended = play(scene())
    assert (ended.status, ended.fence) == (TurnStatus.DONE, 2)
    assert ended.reply.text == "A whole new reply."


def test_cancelling_stops_the_generator_and_keeps_every_word_that_was_said(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_runner, "GROW_SECONDS", 3600)  # no beat comes in between
    mine = conversation(database)
    generator = stuck("Half a reply, never finished.", at=3)

    async def scene() -> tuple[Turn, Turn]:
        async with running(database, generator) as runner:
            turn = await runner.post("ada", mine, "tell me a story")
            await until_heard(runner, turn, "Half a reply, ")
            cancelled = await runner.cancel("ada", turn.id)
            await eventually(lambda: _is(generator.abandoned == 1))
            return cancelled, await runner.final("ada", turn.id)

    cancelled, final = play(scene())
    assert (cancelled.status, cancelled.reply.text) == (TurnStatus.CANCELLED, "Half a reply, ")
    assert final == cancelled


async def _is(value: bool) -> bool:
    return value


def test_nobody_else_can_cancel_a_turn(database: Database) -> None:
    mine = conversation(database)
    go_on = asyncio.Event()

    async def scene() -> Turn:
        async with running(
            database, ScriptedGenerator(["One two."], wait_before={1: go_on})
        ) as runner:
            turn = await runner.post("ada", mine, "tell me a story")
            with pytest.raises(NotFound):
                await runner.cancel("bob", turn.id)
            go_on.set()
            return await runner.final("ada", turn.id)

    assert play(scene()).reply.text == "One two."


@pytest.mark.parametrize("end", ["finish", "cancel"])
def test_a_waiting_turn_starts_when_the_one_before_it_ends(database: Database, end: str) -> None:
    mine = conversation(database)
    go_on = asyncio.Event()
    generator = ScriptedGenerator(["First one.", "Second."], wait_before={1: go_on})

    async def scene() -> tuple[Turn, Turn, Turn]:
        async with running(database, generator) as runner:
            first = await runner.post("ada", mine, "one")
            second = await runner.post("ada", mine, "two")
            waiting = await runner.final("ada", second.id, wait_seconds=0.1)
            if end == "cancel":
                await runner.cancel("ada", first.id)
            go_on.set()
            ended = [await runner.final("ada", turn.id) for turn in (first, second)]
            return waiting, *ended

    waiting, first, second = play(scene())
    assert (waiting.status, waiting.decision) == (TurnStatus.ACCEPTED, None)
    assert first.status is (TurnStatus.CANCELLED if end == "cancel" else TurnStatus.DONE)
    assert (second.status, second.reply.text) == (TurnStatus.DONE, "Second.")
    assert len(generator.calls) == 2


def test_closing_gives_open_turns_time_to_end(database: Database) -> None:
    mine = conversation(database)
    go_on = asyncio.Event()

    async def scene() -> Turn:
        runner = a_runner(database, ScriptedGenerator(["One two."], wait_before={1: go_on}))
        await runner.start()
        turn = await runner.post("ada", mine, "tell me a story")
        closing = asyncio.create_task(runner.close(drain_seconds=DEADLINE_SECONDS))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await runner.post("ada", mine, "too late")
        go_on.set()
        await closing
        return await stored(database, turn)

    ended = play(scene())
    assert (ended.status, ended.reply.text) == (TurnStatus.DONE, "One two.")


def test_what_is_not_done_at_closing_is_handed_over_with_its_text(database: Database) -> None:
    mine = conversation(database)
    generator = stuck("Half said, never finished.")

    async def scene() -> Turn:
        runner = a_runner(database, generator)
        await runner.start()
        turn = await runner.post("ada", mine, "tell me a story")
        await until_heard(runner, turn, "Half said, ")
        await runner.close(drain_seconds=0)
        return await stored(database, turn)

    left = play(scene())
    assert (left.status, left.reply.text) == (TurnStatus.ACCEPTED, "Half said, ")
    assert generator.abandoned == 1
    assert database.read_now(leases.orphans_exist)  # at once, not when the lease would be over


def test_too_many_open_turns_are_turned_away_until_one_ends(database: Database) -> None:
    places = [conversation(database) for _ in range(3)]
    full_at_two = TurnPlaces(TurnLimits(open=2))
    go_on = asyncio.Event()

    async def scene() -> Turn:
        generator = ScriptedGenerator(["One two."], wait_before={1: go_on})
        async with running(database, generator, places=full_at_two) as runner:
            first, _ = [await runner.post("ada", place, "hi") for place in places[:2]]
            with pytest.raises(Overloaded):
                await runner.post("ada", places[2], "hi")
            go_on.set()
            await runner.final("ada", first.id)
            await eventually(lambda: _is(runner.places.open < 2))
            turn = await runner.post("ada", places[2], "hi")
            return await runner.final("ada", turn.id)

    ended = play(scene())
    assert (ended.status, ended.seq) == (TurnStatus.DONE, 1)  # the one refused left no row


def test_a_repeated_request_attaches_to_the_turn_that_is_being_answered(
    database: Database,
) -> None:
    mine = conversation(database)
    go_on = asyncio.Event()
    generator = ScriptedGenerator(["One two."], wait_before={1: go_on})

    async def scene() -> tuple[Turn, Turn, Turn]:
        async with running(database, generator) as runner:
            key = "0123456789abcdef"
            first = await runner.post("ada", mine, "hi", idempotency_key=key)
            again = await runner.post("ada", mine, "hi", idempotency_key=key)
            go_on.set()
            return first, again, await runner.final("ada", again.id)

    first, again, ended = play(scene())
    assert (again.id, again.replayed) == (first.id, True)
    assert ended.reply.text == "One two."
    assert len(generator.calls) == 1


def test_who_stops_listening_or_waiting_does_not_stop_the_turn(database: Database) -> None:
    mine = conversation(database)
    go_on = asyncio.Event()

    async def scene() -> Turn:
        generator = ScriptedGenerator(["One two.", "Three."], wait_before={1: go_on})
        async with running(database, generator) as runner:
            gone = asyncio.create_task(runner.post("ada", mine, "one"))
            await eventually(lambda: _is(len(generator.calls) == 1))
            gone.cancel()
            await asyncio.wait({gone})
            first = (await database.read(_all(mine)))[0]
            async for grown in runner.watch("ada", first.id):
                if grown.reply:
                    break
            go_on.set()
            return await runner.final("ada", first.id)

    assert play(scene()).reply.text == "One two."


def _all(mine: str):
    return lambda c: turns.page(c, "ada", mine, limit=100, cursor=None)[0]


@pytest.mark.parametrize(
    ("error", "code"),
    [(GeneratorUnavailable("gone"), "generator_unavailable"), (ValueError("defect"), "internal")],
)
def test_a_generator_that_breaks_leaves_its_words_and_the_chat_goes_on(
    database: Database, error: Exception, code: str
) -> None:
    mine = conversation(database)

    async def scene() -> tuple[Turn, Turn]:
        broken = ScriptedGenerator(["One two three."], error=error, error_after=2)
        async with running(database, broken) as runner:
            turn = await runner.post("ada", mine, "one")
            failed = await runner.final("ada", turn.id)
        async with running(database, ScriptedGenerator(["Next."])) as runner:
            turn = await runner.post("ada", mine, "two")
            return failed, await runner.final("ada", turn.id)

    failed, following = play(scene())
    assert (failed.status, failed.error_code) == (TurnStatus.FAILED, code)
    assert failed.reply.text == "One two "
    assert following.reply.text == "Next."


class Outage(Database):
    """A database whose writes fail while `error` is set."""

    error: Exception | None = None

    async def write(self, operation):
        if self.error is not None:
            raise self.error
        return await super().write(operation)


@pytest.mark.parametrize("error", [Unavailable("the disk is full"), ValueError("a defect")])
def test_a_turn_that_ends_while_the_database_is_away_is_answered_again_when_it_is_back(
    database: Database, error: Exception
) -> None:
    mine = conversation(database)
    flaky = Outage(database.url)
    go_on = asyncio.Event()

    async def scene() -> Turn:
        generator = ScriptedGenerator(["Lost words.", "New words."], wait_before={1: go_on})
        async with running(flaky, generator) as runner:
            turn = await runner.post("ada", mine, "one")
            await eventually(lambda: _is(generator.pieces_said == 1))
            flaky.error = error
            go_on.set()
            await eventually(lambda: _is(turn.id not in runner._live))
            flaky.error = None
            await asyncio.to_thread(expire, database, table)
            return await runner.final("ada", turn.id)

    ended = play(scene())
    flaky.close()
    assert (ended.status, ended.fence, ended.reply.text) == (TurnStatus.DONE, 2, "New words.")


def test_a_runner_closes_also_while_the_database_is_away(database: Database) -> None:
    mine = conversation(database)
    flaky = Outage(database.url)
    generator = stuck("Half said, never finished.")

    async def scene() -> None:
        async with running(flaky, generator) as runner:
            await runner.post("ada", mine, "one")
            await eventually(lambda: _is(generator.pieces_said == 2))
            flaky.error = Unavailable("gone")
        assert not runner._beats | runner._answering

    play(scene())
    flaky.close()
    assert generator.abandoned == 1


def test_deleting_the_conversation_stops_the_generator(database: Database) -> None:
    mine = conversation(database)
    generator = stuck("Half said, never finished.")

    async def scene() -> None:
        async with running(database, generator) as runner:
            turn = await runner.post("ada", mine, "one")
            await eventually(lambda: _is(generator.pieces_said == 2))
            await database.write(
                lambda c: erasure.erase_conversation(c, "ada", mine, by=erasure.By.OWNER)
            )
            await eventually(lambda: _is(generator.abandoned == 1))
            with pytest.raises(NotFound):
                await runner.final("ada", turn.id)

    play(scene())

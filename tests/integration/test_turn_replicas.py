"""Two servers on one PostgreSQL: cancel, retry, hand over and listen on either of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from app import turn_runner
from app.database import turns
from app.database.database import Database
from app.database.tables import turns as table
from app.dialogue.turn import Turn, TurnStatus
from app.dialogue.wording import APOLOGY
from app.errors import Conflict, LostFence, Overloaded
from generator.interface import GeneratorUnavailable
from generator.scripted import ScriptedGenerator
from tests.integration.test_turn_durability import (
    DEADLINE_SECONDS,
    _is,
    a_runner,
    eventually,
    play,
    running,
    stored,
    stuck,
    until_heard,
    until_stored,
)
from tests.unit.app.stored import conversation, expire


@pytest.fixture
def two_databases(postgresql: Callable[[], str]):
    """Two servers' connections to one PostgreSQL; SQLite takes one process only."""
    url = postgresql()
    opened = Database(url), Database(url)
    yield opened
    for one in opened:
        one.close()


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RECOVER_SECONDS", "POLL_SECONDS"):
        monkeypatch.setattr(turn_runner, name, 0.02)


@pytest.fixture
def no_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that only the beat that writes can notice anything."""
    monkeypatch.setattr(turn_runner, "RENEW_SECONDS", 3600)


def before_a_word() -> ScriptedGenerator:
    return ScriptedGenerator(["Never said."], wait_before={0: asyncio.Event()})


@pytest.mark.usefixtures("no_renewals")
@pytest.mark.parametrize("generator", [before_a_word, lambda: stuck("Half said, never.")])
def test_a_cancellation_elsewhere_stops_the_generator_within_a_beat(
    two_databases, generator: Callable[[], ScriptedGenerator]
) -> None:
    here, there = two_databases
    mine = conversation(here)
    asked = generator()

    async def scene() -> float:
        async with (
            running(here, asked) as answering,
            running(there, ScriptedGenerator(["Not asked."])) as other,
        ):
            turn = await answering.post("ada", mine, "tell me a story")
            await eventually(lambda: _is(len(asked.calls) == 1))
            await other.cancel("ada", turn.id)
            start = time.monotonic()
            await eventually(lambda: _is(asked.abandoned == 1))
            return time.monotonic() - start

    # One beat, and room for a machine that is busy; a renewal would never come.
    assert play(scene()) < turn_runner.GROW_SECONDS + 2


@pytest.mark.usefixtures("no_renewals")
def test_a_cancellation_elsewhere_ends_a_turn_that_waits(two_databases) -> None:
    here, there = two_databases
    mine = conversation(here)
    generator = stuck("Half said, never.")

    async def scene() -> Turn:
        async with (
            running(here, generator) as answering,
            running(there, ScriptedGenerator(["Not asked."])) as other,
        ):
            await answering.post("ada", mine, "one")
            waiting = await answering.post("ada", mine, "two")
            await other.cancel("ada", waiting.id)
            await eventually(lambda: _is(waiting.id not in answering._live))
            return await stored(there, waiting)

    assert play(scene()).status is TurnStatus.CANCELLED
    assert len(generator.calls) == 1


def test_many_retries_on_two_replicas_at_once_are_one_generation(two_databases) -> None:
    here, there = two_databases
    mine = conversation(here)
    broken = ScriptedGenerator(["Half said."], error=GeneratorUnavailable("gone"), error_after=1)
    generators = [ScriptedGenerator(["A whole reply."]) for _ in two_databases]

    async def scene() -> tuple[Turn, list[Turn], Turn]:
        async with running(here, broken) as first:
            turn = await first.post("ada", mine, "one")
            failed = await first.final("ada", turn.id)
        async with running(here, generators[0]) as one, running(there, generators[1]) as two:
            got = await asyncio.gather(
                *((one, two)[n % 2].retry("ada", turn.id) for n in range(20)),
                return_exceptions=True,
            )
            return failed, got, await one.final("ada", turn.id)

    failed, got, ended = play(scene())
    assert (failed.status, failed.reply.text) == (TurnStatus.FAILED, "Half ")
    # Whoever came after the end is told that it is answered.
    assert {getattr(one, "id", None) or one.code for one in got} <= {failed.id, "turn_is_answered"}
    assert (ended.status, ended.fence, ended.reply.text) == (TurnStatus.DONE, 2, "A whole reply.")
    assert sum(len(one.calls) for one in generators) == 1


@pytest.mark.usefixtures("no_renewals")
def test_a_retry_here_of_a_turn_cancelled_elsewhere_stops_the_old_generation_first(
    two_databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_runner, "GROW_SECONDS", 3600)  # it has not heard of it yet
    here, there = two_databases
    mine = conversation(here)
    generator = ScriptedGenerator(["Old words, never.", "New."], wait_before={2: asyncio.Event()})

    async def scene() -> tuple[int, Turn]:
        async with (
            running(here, generator) as answering,
            running(there, ScriptedGenerator(["Not asked."])) as other,
        ):
            turn = await answering.post("ada", mine, "one")
            await until_heard(answering, turn, "Old words, ")
            await other.cancel("ada", turn.id)
            await answering.retry("ada", turn.id)
            stopped = generator.abandoned
            return stopped, await answering.final("ada", turn.id)

    stopped, ended = play(scene())
    assert stopped == 1
    assert (ended.fence, ended.reply.text) == (2, "New.")


def test_a_replica_that_goes_hands_its_turns_to_the_other_at_once(two_databases) -> None:
    """Not after the lease; and a start that was handed over does not count as a crash."""
    here, there = two_databases
    mine = conversation(here)

    async def scene() -> tuple[list[Turn], list[Turn]]:
        posted: list[Turn] = []
        for start in range(1, 4):  # more often than a turn may crash
            leaving = a_runner(here, stuck("Half said, never."))
            await leaving.start()
            if not posted:
                posted = [await leaving.post("ada", mine, text) for text in ("one", "two")]
            await until_stored(there, posted[0], "Half said, ", fence=start)
            await leaving.close(drain_seconds=0)
        async with running(there, ScriptedGenerator(["One.", "Two."])) as staying:
            heard = [turn async for turn in staying.watch("ada", posted[0].id)]
            return heard, [await staying.final("ada", turn.id) for turn in posted]

    heard, ended = play(scene())
    assert [turn.reply.text for turn in ended] == ["One.", "Two."]
    assert ended[0].fence == 4
    assert heard[-1] == ended[0]


def test_whoever_listens_to_a_replica_that_goes_hears_no_end_and_goes_on_elsewhere(
    two_databases,
) -> None:
    here, there = two_databases
    mine = conversation(here)

    async def collect(turns: AsyncIterator[Turn]) -> list[Turn]:
        return [turn async for turn in turns]

    async def scene() -> tuple[list[list[Turn]], Turn, list[Turn]]:
        leaving = a_runner(here, stuck("Half said, never."))
        await leaving.start()
        turn = await leaving.post("ada", mine, "one")
        elsewhere = a_runner(there, ScriptedGenerator(["A whole reply."]))
        listeners = [
            asyncio.create_task(collect(runner.watch("ada", turn.id)))
            for runner in (leaving, leaving, elsewhere)
        ]
        waiting = asyncio.create_task(leaving.final("ada", turn.id))
        await until_stored(there, turn, "Half said, ")
        await leaving.close(drain_seconds=0)
        cut = [await one for one in listeners[:2]]
        as_it_was = await waiting
        await elsewhere.start()
        heard = await listeners[2]
        await elsewhere.close()
        return cut, as_it_was, heard

    cut, as_it_was, heard = play(scene())
    for states in cut:
        assert states[-1].reply.text == "Half said, "
        assert not states[-1].status.is_final
    assert not as_it_was.status.is_final
    assert (heard[-1].status, heard[-1].reply.text) == (TurnStatus.DONE, "A whole reply.")


def test_a_closing_replica_takes_no_retry(database: Database) -> None:
    mine = conversation(database)

    async def scene() -> Turn:
        runner = a_runner(database, stuck("Half said, never."))
        await runner.start()
        turn = await runner.post("ada", mine, "one")
        await runner.cancel("ada", turn.id)
        await runner.close()
        with pytest.raises(Overloaded):
            await runner.retry("ada", turn.id)
        return await stored(database, turn)

    assert play(scene()).status is TurnStatus.CANCELLED


def test_closing_twice_waits_for_the_same_end(database: Database) -> None:
    mine = conversation(database)
    go_on = asyncio.Event()

    async def scene() -> Turn:
        runner = a_runner(database, ScriptedGenerator(["One two."], wait_before={1: go_on}))
        await runner.start()
        turn = await runner.post("ada", mine, "one")
        closings = [asyncio.create_task(runner.close(DEADLINE_SECONDS)) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(one.done() for one in closings)
        go_on.set()
        await asyncio.gather(*closings)
        return await stored(database, turn)

    assert play(scene()).reply.text == "One two."


def test_a_deadline_holds_also_while_an_earlier_turn_is_answered(database: Database) -> None:
    mine = conversation(database)
    go_on = asyncio.Event()
    generator = ScriptedGenerator(["First one.", "Third."], wait_before={1: go_on})

    async def scene() -> list[Turn]:
        async with running(database, generator) as runner:
            first = await runner.post("ada", mine, "one")
            hurried = await runner.post("ada", mine, "two", deadline_seconds=0.05)
            ended = await runner.final("ada", hurried.id)
            third = await runner.post("ada", mine, "three")
            go_on.set()
            return [ended, *[await runner.final("ada", one.id) for one in (first, third)]]

    hurried, first, third = play(scene())
    assert (hurried.status, hurried.reply.text) == (TurnStatus.DONE, APOLOGY)
    assert hurried.reply.degraded == "deadline"
    assert [first.reply.text, third.reply.text] == ["First one.", "Third."]


def test_a_deadline_counts_from_the_message_and_not_from_its_turn(database: Database) -> None:
    mine = conversation(database)
    go_on = asyncio.Event()
    generator = ScriptedGenerator(["First.", "Second one, never."])

    async def scene() -> Turn:
        generator._wait_before[0] = go_on
        async with running(database, generator) as runner:
            first = await runner.post("ada", mine, "one")
            second = await runner.post("ada", mine, "two", deadline_seconds=1.0)
            await asyncio.sleep(0.5)  # of its second
            generator._wait_before = {0: go_on, 2: asyncio.Event()}
            start = time.monotonic()
            go_on.set()
            await runner.final("ada", first.id)
            ended = await runner.final("ada", second.id)
            assert time.monotonic() - start < 0.95
            return ended

    ended = play(scene())
    assert (ended.reply.text, ended.reply.degraded) == ("Second one, ", "deadline")


def test_an_answered_turn_is_not_retried_and_says_so(database: Database) -> None:
    mine = conversation(database)

    async def scene() -> None:
        async with running(database, ScriptedGenerator(["One."])) as runner:
            turn = await runner.post("ada", mine, "one")
            await runner.final("ada", turn.id)
            with pytest.raises(Conflict):
                await runner.retry("ada", turn.id)

    play(scene())


def test_a_deadline_holds_for_whoever_adopts_the_turn(database: Database) -> None:
    mine = conversation(database)

    async def scene() -> Turn:
        leaving = a_runner(database, stuck("Half said, never."))
        await leaving.start()
        turn = await leaving.post("ada", mine, "one", deadline_seconds=0.5)
        await until_heard(leaving, turn, "Half said, ")
        await leaving.close(drain_seconds=0)
        async with running(database, stuck("New words, never.")) as adopting:
            return await adopting.final("ada", turn.id)

    assert play(scene()).reply.degraded == "deadline"


def test_a_listener_on_another_replica_hears_it_grow_and_end(two_databases) -> None:
    here, there = two_databases
    mine = conversation(here)
    go_on = asyncio.Event()
    generator = ScriptedGenerator(["One two three."], wait_before={2: go_on})

    async def scene() -> list[Turn]:
        async with (
            running(here, generator) as answering,
            running(there, ScriptedGenerator(["Not asked."])) as listening,
        ):
            turn = await answering.post("ada", mine, "tell me a story")
            seen = []
            async for grown in listening.watch("ada", turn.id):
                seen.append(grown)
                if grown.reply and grown.reply.text == "One two ":
                    go_on.set()
            return seen

    seen = play(scene())
    texts = [one.reply.text if one.reply else "" for one in seen]
    assert "One two " in texts
    assert texts == sorted(texts, key=len)
    assert (seen[-1].status, texts[-1]) == (TurnStatus.DONE, "One two three.")


def test_a_cancellation_on_another_replica_stops_the_generator(two_databases) -> None:
    here, there = two_databases
    mine = conversation(here)
    generator = stuck("Half said, never finished.")

    async def scene() -> Turn:
        async with (
            running(here, generator) as answering,
            running(there, ScriptedGenerator(["Not asked."])) as other,
        ):
            turn = await answering.post("ada", mine, "tell me a story")
            await until_stored(there, turn, "Half said, ")
            await other.cancel("ada", turn.id)
            await eventually(lambda: _is(generator.abandoned == 1))
            return await answering.final("ada", turn.id)

    ended = play(scene())
    assert (ended.status, ended.reply.text) == (TurnStatus.CANCELLED, "Half said, ")


def test_a_replica_that_was_thought_dead_stops_when_it_comes_back(two_databases) -> None:
    here, there = two_databases
    mine = conversation(here)
    slept = ScriptedGenerator(["Old words, never."], wait_before={2: asyncio.Event()})

    async def scene() -> Turn:
        late = a_runner(here, slept)  # not started: no beats, as if its process were stopped
        turn = await late.post("ada", mine, "tell me a story")
        await asyncio.to_thread(expire, there, table)
        async with running(there, ScriptedGenerator(["A whole new reply."])) as second:
            ended = await second.final("ada", turn.id)
            await late._grow()
            with pytest.raises(LostFence):
                await here.write(lambda c: turns.fail(c, turn.id, turn.fence, "x", turn.timing))
            await late._renew()
            await eventually(lambda: _is(slept.abandoned == 1))
            assert await stored(there, turn) == ended
        await late.close()
        return ended

    ended = play(scene())
    assert (ended.fence, ended.reply.text) == (2, "A whole new reply.")


def test_one_key_on_two_replicas_at_once_is_one_turn(two_databases) -> None:
    mine = conversation(two_databases[0])
    generators = [ScriptedGenerator(["One two."]) for _ in two_databases]

    async def scene() -> list[Turn]:
        async with (
            running(two_databases[0], generators[0]) as one,
            running(two_databases[1], generators[1]) as two,
        ):
            posted = await asyncio.gather(
                *(
                    (one, two)[n % 2].post("ada", mine, "hi", idempotency_key="0123456789abcdef")
                    for n in range(20)
                )
            )
            await one.final("ada", posted[0].id)
            return posted

    posted = play(scene())
    assert len({turn.id for turn in posted}) == 1
    assert sum(len(one.calls) for one in generators) == 1

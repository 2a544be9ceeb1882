"""Instant turns that the generator answers as well, when nobody else wants it."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update

from app.database import duties, reanswers
from app.database.database import Database
from app.database.tables import now
from app.database.tables import reanswers as table
from app.database.tables import turns as turn_rows
from app.dialogue.chatbot import Chatbot, Found, Reading
from app.dialogue.responses import ReplyBook
from app.dialogue.routing import RoutingPolicy
from app.dialogue.turn import Turn
from app.lanes import PeopleFirst
from app.reanswering import DUTY, MOST_FAILURES, Reanswerer
from generator.agreement import Agreement, Missing
from generator.fallback import FallbackGenerator, FixedGenerator
from generator.interface import (
    ChatMessage,
    Generator,
    GeneratorError,
    GeneratorUnavailable,
    TokensBy,
    Usage,
)
from generator.scripted import ScriptedGenerator
from tests.unit.app import stored

TOOK = Usage(2.0, 30, 4, TokensBy.ENGINE)


def compare(first: str, second: str) -> Agreement:
    return Agreement(1.0 if first == second else 0.0, Missing(), Missing())


class Nobody:
    async def read(self, text: str) -> Reading:
        return Reading(None, None, ReplyBook(), 0.0)


async def found(_: Sequence[ChatMessage]) -> Found:
    return Found((), cpu_seconds=0.5)


class Gate(asyncio.Event):
    """Stays shut, and tells when somebody stands before it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    async def wait(self) -> Any:
        self.reached.set()
        return await super().wait()


class Scene:
    def __init__(self, database: Database, generator: Generator, share: float = 1.0) -> None:
        self.lane = PeopleFirst(generator)
        chatbot = Chatbot(Nobody(), RoutingPolicy(), self.lane, found)
        self.reanswerer = Reanswerer(database, chatbot, self.lane, compare, share=share)

    async def all(self) -> int:
        count = 0
        while await self.reanswerer.answer_next():
            count += 1
        await self.reanswerer.release()
        return count


def play(scene: Coroutine[Any, Any, Any]) -> Any:
    async def run() -> Any:
        async with asyncio.timeout(30):
            return await scene

    return asyncio.run(run())


def say(database: Database, *texts: str, decide: Callable = stored.instant) -> list[Turn]:
    mine = stored.conversation(database)
    return [
        database.write_now(stored.accept(mine, text, decide=decide, key=None)) for text in texts
    ]


def rows(database: Database) -> list[Any]:
    return database.read_now(lambda c: c.execute(select(table).order_by(table.c.turn_id)).all())


def test_the_generator_answers_what_was_answered_at_once_and_what_it_took_is_kept(
    database: Database,
) -> None:
    first, second = say(database, "hello", "and again")
    generator = ScriptedGenerator(["Hello!"], usage=TOOK)
    assert play(Scene(database, generator).all()) == 2
    assert {one.turn_id for one in rows(database)} == {first.id, second.id}
    row = rows(database)[0]
    assert (row.reply, row.generator, row.differs) == ("Hello!", "scripted", False)
    assert (row.generator_cpu_ms, row.prompt_tokens, row.tokens_by) == (2500, 30, "engine")
    asked = {call.messages[-1].text: call.messages for call in generator.calls}
    assert asked["and again"] == (
        ChatMessage("user", "hello"),
        ChatMessage("assistant", "Hello!"),
        ChatMessage("user", "and again"),
    )
    assert play(Scene(database, generator).all()) == 0  # each once


def test_other_answers_and_open_noes_differ(database: Database) -> None:
    say(database, "hello")
    assert play(Scene(database, ScriptedGenerator(["Bye!"])).all()) == 1
    say(database, "hello")
    unsure = ScriptedGenerator(["Hello!"], answered=False)
    assert play(Scene(database, unsure).all()) == 1
    assert [one.differs for one in rows(database)] == [True, True]


def test_only_the_share_of_instant_turns_that_was_asked_for(database: Database) -> None:
    turns = say(database, *["hello"] * 40)
    ended = say(database, "tell me", decide=stored.open_ended)[0]
    database.write_now(stored.finish(ended))
    old = say(database, "hello")[0]
    aged = update(turn_rows).where(turn_rows.c.id == old.id).values(created_at=now() - 8 * 86_400)
    database.write_now(lambda c: c.execute(aged))
    play(Scene(database, ScriptedGenerator(["Hello!"]), share=0.25).all())
    answered = {one.turn_id for one in rows(database)}
    assert answered == {one.id for one in turns if int(one.id[0], 16) < 4}
    play(Scene(database, ScriptedGenerator(["Hello!"])).all())
    assert {one.turn_id for one in rows(database)} == {one.id for one in turns}


def test_while_somebody_waits_for_an_answer_nothing_is_begun(database: Database) -> None:
    say(database, "hello")
    (waiting,) = say(database, "tell me", decide=stored.open_ended)
    generator = ScriptedGenerator(["Hello!"])
    assert play(Scene(database, generator).all()) == 0
    assert generator.calls == []
    database.write_now(stored.finish(waiting))
    assert play(Scene(database, generator).all()) == 1


def test_whoever_wants_the_generator_gets_it_at_once(database: Database) -> None:
    say(database, "hello")

    async def run() -> None:
        gate = Gate()
        generator = ScriptedGenerator(["Hello there!"], wait_before={1: gate})
        scene = Scene(database, generator)
        background = asyncio.create_task(scene.reanswerer.answer_next())
        await gate.reached.wait()
        person = scene.lane.stream([ChatMessage("user", "tell me a story")])
        assert (await anext(person)).text == "Hello "
        assert not scene.lane.is_idle
        assert await background is False
        assert generator.abandoned == 1
        assert await scene.reanswerer.answer_next() is False  # still being answered
        await person.aclose()
        assert scene.lane.is_idle

    play(run())
    assert rows(database) == []


def test_whoever_is_answered_on_another_replica_is_not_kept_waiting(database: Database) -> None:
    say(database, "hello")

    async def run() -> None:
        gate = Gate()
        generator = ScriptedGenerator(["Hello!"], wait_before={0: gate})
        background = asyncio.create_task(Scene(database, generator).reanswerer.answer_next())
        await gate.reached.wait()
        await asyncio.to_thread(say, database, "tell me", decide=stored.open_ended)
        assert await background is False
        assert generator.abandoned == 1

    play(run())
    assert rows(database) == []


def test_one_replica_does_it_for_all_until_it_is_gone(database: Database) -> None:
    say(database, "hello", "hello")
    first, second = (Scene(database, ScriptedGenerator(["Hello!"])) for _ in range(2))
    assert play(first.reanswerer.answer_next()) is True
    assert play(second.reanswerer.answer_next()) is False
    play(first.reanswerer.release())
    assert play(second.reanswerer.answer_next()) is True
    assert not database.write_now(lambda c: duties.take(c, DUTY, "a third"))


def test_a_generator_that_does_not_answer_is_not_what_is_compared(database: Database) -> None:
    say(database, "hello")
    broken = ScriptedGenerator([], error=GeneratorUnavailable("gone"))
    scene = Scene(database, FallbackGenerator([broken, FixedGenerator("Sorry.")]))
    for _ in range(MOST_FAILURES):
        assert rows(database) == []
        with pytest.raises(GeneratorError):
            play(scene.reanswerer.answer_next())
    (row,) = rows(database)
    assert (row.reply, row.differs, row.error_code) == (None, None, "generator_unavailable")
    assert play(scene.all()) == 0


def test_a_turn_that_was_erased_meanwhile_leaves_nothing(database: Database) -> None:
    (turn,) = say(database, "hello")
    gone = reanswers.Reanswer("0" * 32, "x", "scripted", True, None, None, None, 1.0)
    database.write_now(lambda c: reanswers.store(c, gone))
    again = replace(gone, turn_id=turn.id)
    for _ in range(2):  # or by another replica
        database.write_now(lambda c: reanswers.store(c, again))
    assert [one.turn_id for one in rows(database)] == [turn.id]

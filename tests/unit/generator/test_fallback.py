"""The chain of generators, and the scripted one that plays its links."""

import asyncio

import pytest

from generator.fallback import FallbackGenerator, FixedGenerator, Link
from generator.interface import (
    ChatMessage,
    GeneratorOverloaded,
    GeneratorUnavailable,
    Limits,
    Skipped,
)
from generator.scripted import ScriptedGenerator

from .conftest import collect

pytestmark = pytest.mark.anyio

ASK = [ChatMessage("user", "hello?")]


async def text_of(generator: FallbackGenerator, seconds: float = 30) -> str:
    pieces = await collect(generator.stream(ASK, limits=Limits(seconds=seconds)))
    return " ".join(f"{piece.generator}:{piece.text}" for piece in pieces)


@pytest.mark.parametrize(
    "error", [GeneratorUnavailable("down"), GeneratorOverloaded("full"), ZeroDivisionError("bug")]
)
async def test_the_next_one_answers_when_one_fails_before_its_first_piece(error: Exception) -> None:
    failures: list[tuple[str, Exception]] = []
    chain = FallbackGenerator(
        [ScriptedGenerator(["never said"], name="first", error=error), FixedGenerator("Sorry.")],
        on_failure=lambda name, what: failures.append((name, what)),
    )
    assert await text_of(chain) == "fixed:Sorry."
    assert failures == [("first", error)]


async def test_the_first_piece_says_who_was_asked_before_and_why_they_did_not_answer() -> None:
    late = ScriptedGenerator(["too late"], name="late", wait_before={0: asyncio.Event()})
    full = ScriptedGenerator([""], name="full", error=GeneratorOverloaded("full"))
    bug = ScriptedGenerator([""], name="bug", error=ZeroDivisionError("secret"))
    last = ScriptedGenerator(["one two"], name="last")
    chain = FallbackGenerator([full, Link(late, first_piece_seconds=0.01), bug, last])
    first, *rest = await collect(chain.stream(ASK))
    assert first.skipped == (
        Skipped("full", "generator_overloaded"),
        Skipped("late", "generator_timeout"),
        Skipped("bug", "ZeroDivisionError"),
    )
    assert [piece.skipped for piece in rest] == [()] * len(rest)
    assert len(rest) > 0


async def test_the_next_one_answers_when_one_is_late_and_the_late_one_is_stopped() -> None:
    late = ScriptedGenerator(["too late"], name="late", wait_before={0: asyncio.Event()})
    chain = FallbackGenerator([Link(late, first_piece_seconds=0.01), FixedGenerator("Sorry.")])
    assert await text_of(chain) == "fixed:Sorry."
    assert late.abandoned == 1
    assert late.pieces_said == 0


async def test_the_next_one_answers_when_one_has_nothing_to_say() -> None:
    chain = FallbackGenerator([ScriptedGenerator([""]), FixedGenerator("Sorry.")])
    assert await text_of(chain) == "fixed:Sorry."


async def test_after_the_first_piece_an_error_is_the_callers() -> None:
    broken = ScriptedGenerator(["one two three"], error=GeneratorUnavailable("gone"), error_after=2)
    chain = FallbackGenerator([broken, FixedGenerator("Sorry.")])
    pieces = chain.stream(ASK)
    assert [(await anext(pieces)).text for _ in range(2)] == ["one ", "two "]
    with pytest.raises(GeneratorUnavailable, match="gone"):
        await anext(pieces)


async def test_the_last_link_answers_even_when_no_time_is_left() -> None:
    chain = FallbackGenerator([ScriptedGenerator(["no"]), FixedGenerator("Sorry.")])
    assert await text_of(chain, seconds=0) == "fixed:Sorry."


async def test_a_link_that_is_late_leaves_time_for_those_behind_it() -> None:
    late = ScriptedGenerator(["too late"], name="late", wait_before={0: asyncio.Event()})
    spare = ScriptedGenerator(["Here."], name="spare")
    chain = FallbackGenerator([late, spare, FixedGenerator("Sorry.")])
    assert await text_of(chain, seconds=1) == "spare:Here."
    assert 0 < spare.calls[0].limits.seconds <= 0.5


async def test_the_error_names_every_link_when_none_answers() -> None:
    chain = FallbackGenerator(
        [
            ScriptedGenerator([], name="a", error=GeneratorOverloaded("full")),
            ScriptedGenerator([], name="b", error=ZeroDivisionError("secret")),
        ]
    )
    with pytest.raises(
        GeneratorUnavailable, match=r"a: generator_overloaded; b: ZeroDivisionError$"
    ):
        await text_of(chain)


async def test_closing_the_stream_stops_the_link_that_speaks() -> None:
    speaking = ScriptedGenerator(["one two"], wait_before={1: asyncio.Event()})
    chain = FallbackGenerator([speaking])
    pieces = chain.stream(ASK)
    await anext(pieces)
    await pieces.aclose()
    assert speaking.abandoned == 1


class Loading(ScriptedGenerator):
    """Has something to load; `fault` is why it cannot."""

    def __init__(self, name: str, fault: Exception | None = None) -> None:
        super().__init__(["a"], name=name)
        self.started = False
        self._fault = fault

    async def start(self) -> None:
        if self._fault is not None:
            raise self._fault
        self.started = True


async def test_a_link_that_cannot_be_started_is_told_of_and_the_others_start() -> None:
    broken = Loading("broken", GeneratorUnavailable("no weights; fetch them"))
    whole = Loading("whole")
    told: list[tuple[str, str]] = []
    chain = FallbackGenerator(
        [broken, ScriptedGenerator(["b"]), whole],
        on_start_failure=lambda name, error: told.append((name, str(error))),
    )
    await chain.start()
    assert told == [("broken", "no weights; fetch them")]
    assert whole.started


async def test_closing_the_chain_closes_every_link() -> None:
    links = [ScriptedGenerator(["a"]), ScriptedGenerator(["b"])]
    await FallbackGenerator(links).aclose()
    assert all(link.closed for link in links)


async def test_a_scripted_generator_says_its_lines_in_order_and_remembers_what_it_heard() -> None:
    scripted = ScriptedGenerator(["first  line\n", "second"])
    said = ["".join(p.text for p in await collect(scripted.stream(ASK))) for _ in range(3)]
    assert said == ["first  line\n", "second", "second"]
    assert [call.messages for call in scripted.calls] == [tuple(ASK)] * 3


def test_an_empty_chain_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FallbackGenerator([])

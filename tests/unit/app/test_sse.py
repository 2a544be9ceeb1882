"""Server-sent events on the wire."""

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api import sse
from app.api.sse import Event
from app.errors import Unavailable


def stream(events: AsyncGenerator[Event], heartbeat_seconds: float = 15.0):
    return sse.stream(events, heartbeat_seconds=heartbeat_seconds).body_iterator


async def chunks_of(events: AsyncGenerator[Event]) -> list[bytes]:
    return [chunk async for chunk in stream(events)]


async def saying(*events: Event) -> AsyncGenerator[Event]:
    for event in events:
        yield event


def decoded(chunks: list[bytes]) -> list[dict[str, str]]:
    """As the HTML standard has browsers read them."""
    messages = []
    for block in b"".join(chunks).decode().split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.splitlines():
            name, _, value = line.partition(":")
            if name:
                value = value.removeprefix(" ")
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        if "data" in fields:
            messages.append(fields)
    return messages


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_arrives_as_it_was_sent(text: str) -> None:
    event = Event("delta", {"text": text}, id="1.0")
    (message,) = decoded(asyncio.run(chunks_of(saying(event))))
    assert (message["event"], message["id"]) == ("delta", "1.0")
    assert json.loads(message["data"]) == {"text": text}


def test_line_ends_in_a_reply_cannot_forge_an_event() -> None:
    forged = "a\n\nevent: done\ndata: {}\r\n\r\rid: 9"
    chunks = asyncio.run(chunks_of(saying(Event("delta", {"text": forged}), Event("done", {}))))
    assert [message["event"] for message in decoded(chunks)] == ["delta", "done"]
    assert json.loads(decoded(chunks)[0]["data"])["text"] == forged


def test_an_event_without_an_id_has_no_id_line() -> None:
    (chunk,) = asyncio.run(chunks_of(saying(Event("done", {}))))
    assert b"id:" not in chunk
    assert chunk.endswith(b"\n\n")


def test_how_soon_to_come_back_is_said_once() -> None:
    chunks = asyncio.run(chunks_of(saying(Event("delta", {}), Event("done", {}))))
    assert [message.get("retry") for message in decoded(chunks)] == ["1000", None]


def test_nothing_is_taken_from_the_source_before_the_reader_has_the_last_event() -> None:
    async def scene() -> int:
        taken = 0

        async def quick() -> AsyncGenerator[Event]:
            nonlocal taken
            for _ in range(1000):
                taken += 1
                yield Event("delta", {})

        chunks = stream(quick())
        await anext(chunks)
        for _ in range(100):  # the reader does something else
            await asyncio.sleep(0)
        await chunks.aclose()
        return taken

    assert asyncio.run(scene()) == 1


def test_while_nothing_comes_a_heartbeat_does() -> None:
    async def scene() -> list[bytes]:
        ready = asyncio.Event()

        async def late() -> AsyncGenerator[Event]:
            await ready.wait()
            yield Event("done", {})

        got: list[bytes] = []
        async for chunk in stream(late(), 0.001):
            got.append(chunk)
            if len(got) == 3:
                ready.set()
        return got

    got = asyncio.run(scene())
    assert len(got) >= 4
    assert {chunk[:1] for chunk in got[:-1]} == {b":"}
    assert decoded(got) == [{"event": "done", "data": "{}", "retry": "1000"}]


def test_who_hangs_up_stops_the_source() -> None:
    async def scene() -> list[str]:
        told: list[str] = []

        async def endless() -> AsyncGenerator[Event]:
            try:
                yield Event("delta", {})
                await asyncio.Event().wait()
            finally:
                told.append("stopped")

        chunks = stream(endless())
        await anext(chunks)
        waiting = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(0)  # it is waiting for the next event now
        waiting.cancel()
        await asyncio.wait({waiting})
        return told

    assert asyncio.run(scene()) == ["stopped"]


def test_an_error_of_the_source_ends_the_stream_with_it() -> None:
    async def broken() -> AsyncGenerator[Event]:
        yield Event("delta", {})
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        asyncio.run(chunks_of(broken()))


def test_when_the_database_goes_away_a_stream_ends_between_two_events() -> None:
    async def cut() -> AsyncGenerator[Event]:
        yield Event("delta", {})
        raise Unavailable("the database does not answer")

    chunks = asyncio.run(chunks_of(cut()))
    assert [message["event"] for message in decoded(chunks)] == ["delta"]
    assert chunks[-1].endswith(b"\n\n")

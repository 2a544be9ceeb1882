"""Server-sent events on the wire."""

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api import sse
from app.api.sse import Event


async def chunks_of(events: AsyncGenerator[Event]) -> list[bytes]:
    return [chunk async for chunk in sse.stream(events).body_iterator]


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


def test_while_nothing_comes_a_heartbeat_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.001)

    async def scene() -> list[bytes]:
        ready = asyncio.Event()

        async def late() -> AsyncGenerator[Event]:
            await ready.wait()
            yield Event("done", {})

        got: list[bytes] = []
        async for chunk in sse.stream(late()).body_iterator:
            got.append(chunk)
            if len(got) == 3:
                ready.set()
        return got

    got = asyncio.run(scene())
    assert len(got) >= 4
    assert {chunk[:1] for chunk in got[:-1]} == {b":"}
    assert decoded(got) == [{"event": "done", "data": "{}"}]


def test_who_hangs_up_stops_the_source() -> None:
    async def scene() -> list[str]:
        told: list[str] = []

        async def endless() -> AsyncGenerator[Event]:
            try:
                yield Event("delta", {})
                await asyncio.Event().wait()
            finally:
                told.append("stopped")

        chunks = sse.stream(endless()).body_iterator
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

"""Server-sent events from anything that yields them, with a heartbeat while nothing comes.

An event is taken from its source when the one before it is sent: nothing piles up for a slow
reader. The source may end without a last word; the client then asks again.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel

from app.errors import TwofoldError

RECONNECT_MS = 1000


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    data: BaseModel | dict[str, Any]
    id: str | None = None


def stream(events: AsyncGenerator[Event], *, heartbeat_seconds: float) -> EventSourceResponse:
    return EventSourceResponse(
        _encoded(events, heartbeat_seconds),
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _encoded(events: AsyncGenerator[Event], heartbeat_seconds: float) -> AsyncIterator[bytes]:
    async with aclosing(events):
        hint: int | None = RECONNECT_MS
        upcoming: asyncio.Task[Event] | None = None
        try:
            while True:
                upcoming = upcoming or asyncio.ensure_future(anext(events))
                done, _ = await asyncio.wait({upcoming}, timeout=heartbeat_seconds)
                if not done:
                    yield format_sse_event(comment="still here")
                    continue
                try:
                    event = upcoming.result()
                except (StopAsyncIteration, TwofoldError):
                    # The response has begun: to end it, between two events, is all that can
                    # be said. Who comes back with Last-Event-ID hears what it was.
                    return
                upcoming = None
                yield format_sse_event(
                    data_str=_json(event.data), event=event.name, id=event.id, retry=hint
                )
                hint = None  # it holds for the whole stream
        finally:
            if upcoming is not None:
                upcoming.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration, TwofoldError):
                    await upcoming


def _json(data: BaseModel | dict[str, Any]) -> str:
    return data.model_dump_json() if isinstance(data, BaseModel) else json.dumps(data)

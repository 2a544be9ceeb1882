"""Server-sent events from anything that yields them, with a heartbeat while nothing comes."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel

HEARTBEAT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    data: BaseModel | dict[str, Any]
    id: str | None = None


def stream(events: AsyncGenerator[Event]) -> EventSourceResponse:
    return EventSourceResponse(
        _encoded(events),
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _encoded(events: AsyncGenerator[Event]) -> AsyncIterator[bytes]:
    async with aclosing(events):
        upcoming: asyncio.Task[Event] | None = None
        try:
            while True:
                upcoming = upcoming or asyncio.ensure_future(anext(events))
                done, _ = await asyncio.wait({upcoming}, timeout=HEARTBEAT_SECONDS)
                if not done:
                    yield b": still here\n\n"
                    continue
                try:
                    event = upcoming.result()
                except StopAsyncIteration:
                    return
                upcoming = None
                yield format_sse_event(data_str=_json(event.data), event=event.name, id=event.id)
        finally:
            if upcoming is not None:
                upcoming.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    await upcoming


def _json(data: BaseModel | dict[str, Any]) -> str:
    return data.model_dump_json() if isinstance(data, BaseModel) else json.dumps(data)

"""Fifty posts at once with one Idempotency-Key."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.proof import http
from tests.proof.bench import Bench, Kind, OnProgress, Result
from tests.proof.checks import read_rows

ROUNDS = 10


async def one_key(bench: Bench, kind: Kind, count: int, progress: OnProgress) -> Result:
    """On two replicas, and on SQLite, where there can be only one, on one."""
    place = bench.place(kind)
    places = (0, 1) if kind == "postgresql" else (0,)
    doors = place.doors(*places)
    key = next(iter(doors.users.values()))
    result = Result("one key", kind, "")
    async with AsyncExitStack() as stack:
        for one in places:
            await stack.enter_async_context(place.serving(place=one))
        for number in range(ROUNDS):
            progress(number, ROUNDS, f"{count} posts at once with one key")
            text = f"hello {number}" if number % 2 else f"say 20 at 0.02 {number}"
            port = doors.ports[0]
            _, made = await http.call(port, "POST", "/v1/conversations", key=key, body={})
            path, headers = (
                f"/v1/conversations/{made['id']}/turns",
                {"Idempotency-Key": f"proof-{uuid4().hex}"},
            )
            replies = await asyncio.gather(
                *(
                    _post(doors.ports[client % len(doors.ports)], path, key, text, headers)
                    for client in range(count)
                )
            )
            ids = {one.turn.get("id") for one in replies}
            texts = {one.turn.get("reply") for one in replies}
            made_it = sum(not one.replayed for one in replies)
            refused = {one.status for one in replies} - {200, 201}
            result.require(len(ids) == 1, f"{len(ids)} different turns")
            result.require(len(texts) == 1, f"{len(texts)} different replies")
            result.require(made_it == 1, f"{made_it} replies say that they made the turn")
            result.require(not refused, f"refused: {sorted(refused)}")
    turns = len(read_rows(place.url)["turns"])
    result.require(turns == ROUNDS, f"{turns} turns are stored")
    result.done = (
        f"{ROUNDS} times {count} posts at once with one key on "
        f"{'two replicas' if len(places) == 2 else 'the one server'}: {turns} turns"
    )
    result.counts = {"keys": ROUNDS, "posts": ROUNDS * count, "turns": turns}
    return result


@dataclass(frozen=True)
class _Reply:
    status: int
    replayed: bool
    turn: Mapping[str, Any]


async def _post(port: int, path: str, key: str, text: str, headers: Mapping[str, str]) -> _Reply:
    async with http.request(
        port, "POST", path, key=key, body={"text": text}, headers=headers
    ) as response:
        replayed = response.headers.get("idempotency-replayed") == "true"
        return _Reply(response.status, replayed, await response.json())

"""Fifty posts at once with one Idempotency-Key."""

import asyncio
from contextlib import AsyncExitStack
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
            replies: list[tuple[int, Any]] = await asyncio.gather(
                *(
                    http.call(
                        doors.ports[client % len(doors.ports)],
                        "POST",
                        path,
                        key=key,
                        body={"text": text},
                        headers=headers,
                    )
                    for client in range(count)
                )
            )
            ids = {body.get("id") for _, body in replies}
            texts = {body.get("reply") for _, body in replies}
            created = sum(status == 201 for status, _ in replies)
            refused = [status for status, _ in replies if status not in (200, 201)]
            result.require(len(ids) == 1, f"{len(ids)} different turns")
            result.require(len(texts) == 1, f"{len(texts)} different replies")
            result.require(created == 1, f"{created} replies say that they made the turn")
            result.require(not refused, f"refused: {sorted(set(refused))}")
    turns = len(read_rows(place.url)["turns"])
    result.require(turns == ROUNDS, f"{turns} turns are stored")
    result.done = (
        f"{ROUNDS} times {count} posts at once with one key on "
        f"{'two replicas' if len(places) == 2 else 'the one server'}: {turns} turns"
    )
    result.counts = {"keys": ROUNDS, "posts": ROUNDS * count, "turns": turns}
    return result

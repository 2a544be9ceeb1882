"""A worker that is stopped, as by a debugger or a machine that swaps, and wakes after its lease."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from tests.proof import http
from tests.proof.bench import Bench, Kind, OnProgress, Place, Result
from tests.proof.load import FINAL
from tests.proof.plan import Beats
from tests.proof.stand_ins import start_in

STREAMS = 20
BEATS = Beats(lease=1.0)
# Half the turns grow all the time; the others have their last word before them when they wake.
UTTERANCES = ("say 50 at 0.03 {}", "say 2 at 0.8 {}")
PATIENCE_SECONDS = 30.0


@dataclass
class Outcome:
    attempted: int = 0
    """Writes that the woken worker tried on turns that were no longer its own."""
    accepted: int = 0
    """Turns that took one."""
    turns: int = 0
    differ: int = 0
    """Turns whose stored reply is not what was streamed by the worker that owned them."""


async def late_writes(bench: Bench, kind: Kind, count: int, progress: OnProgress) -> Result:
    outcome, rounds = Outcome(), 0
    while outcome.attempted < count and rounds < 12:
        progress(outcome.attempted, count, "a worker is stopped, and wakes after its lease")
        await _round(bench.place(kind), outcome, None, wakes_late=rounds % 2 == 1)
        rounds += 1
    result = Result(
        "stopped worker",
        kind,
        f"stopped {rounds} times with up to {STREAMS} open turns, woken after the lease: "
        f"{outcome.accepted} late writes accepted of {outcome.attempted}",
        {
            "late writes tried": outcome.attempted,
            "accepted": outcome.accepted,
            "streams that differ": outcome.differ,
        },
    )
    result.require(outcome.attempted >= count, f"only {outcome.attempted} late writes were tried")
    result.require(outcome.accepted == 0, f"{outcome.accepted} turns took a late write")
    result.require(outcome.differ == 0, f"{outcome.differ} streams are not the stored reply")
    return result


async def stopped_worker(
    bench: Bench, kind: Kind, *, rounds: int, fault: str | None = None
) -> Outcome:
    outcome = Outcome()
    for number in range(rounds):
        await _round(bench.place(kind), outcome, fault, wakes_late=number % 2 == 1)
    return outcome


async def _round(place: Place, outcome: Outcome, fault: str | None, *, wakes_late: bool) -> None:
    """`wakes_late`: after its successor has ended every turn, else while it writes them."""
    watch = Watch(place.url)
    options = {"beats": BEATS, "fault": fault, "tells_writes": True}
    first = await place.start(place=0, **options)
    await first.until_started()
    turns = await _begin_turns(place)
    await watch.until(lambda rows: all(row["reply"] for row in rows), turns)
    await _stop_outside_a_transaction(first.pid, first.send, place)
    await asyncio.sleep(BEATS.lease)  # SQLite's next server would not wait for it
    # On a busy machine some have ended before it was stopped.
    rows = [row for row in await watch.rows(turns) if row["status"] not in FINAL]
    turns = [row["id"] for row in rows]
    stale = {row["id"]: start_in(row["reply"]) for row in rows}
    async with place.serving(place=1, **options):
        await watch.until(lambda rows: all(row["fence"] > 1 for row in rows), turns)
        heard = asyncio.gather(*(_listen(place, turn) for turn in turns))
        if wakes_late:
            await watch.until(lambda rows: all(row["status"] in FINAL for row in rows), turns)
        else:
            await watch.until(
                lambda rows: all(row["reply"] for row in rows[: len(rows) // 2]), turns
            )
        woken_at = time.monotonic()
        first.send(signal.SIGCONT)
        took: set[str] = set()
        deadline = woken_at + PATIENCE_SECONDS
        quiet_until = woken_at + 1.5
        while time.monotonic() < deadline:
            rows = await watch.rows(turns)
            took |= {row["id"] for row in rows if start_in(row["reply"]) == stale[row["id"]]}
            if all(row["status"] in FINAL for row in rows) and time.monotonic() > quiet_until:
                break
            await asyncio.sleep(0.01)
        streamed = await asyncio.wait_for(heard, PATIENCE_SECONDS)
    await first.end()
    rows = await watch.rows(turns)
    watch.close()
    outcome.turns += len(turns)
    outcome.attempted += sum(at > woken_at and fence == 1 for at, _, fence in first.wrote)
    outcome.accepted += len(took)
    outcome.differ += sum(row["reply"] != streamed[turns.index(row["id"])] for row in rows)


async def _begin_turns(place: Place) -> list[str]:
    """In a conversation each; returns when all are accepted, and leaves."""
    doors = place.doors(0)
    key = next(iter(doors.users.values()))

    async def begin(number: int) -> str:
        _, made = await http.call(doors.ports[0], "POST", "/v1/conversations", key=key, body={})
        utterance = UTTERANCES[number * len(UTTERANCES) // STREAMS].format(number)
        async with http.request(
            doors.ports[0],
            "POST",
            f"/v1/conversations/{made['id']}/turns",
            key=key,
            body={"text": utterance},
            headers={"Accept": "text/event-stream"},
        ) as response:
            async for _, _, data in response.events():
                return str(data["id"])
        raise RuntimeError("a stream without an event")

    return list(await asyncio.gather(*(begin(number) for number in range(STREAMS))))


async def _listen(place: Place, turn: str) -> str:
    doors = place.doors(1)
    key = next(iter(doors.users.values()))
    heard = ""
    async with http.request(doors.ports[0], "GET", f"/v1/turns/{turn}/events", key=key) as response:
        async for name, _, data in response.events():
            if name == "reset":
                heard = ""
            elif name == "delta":
                heard = heard[: data["offset"]] + data["text"]
    return heard


async def _stop_outside_a_transaction(pid: int, send: Any, place: Place) -> None:
    """SQLite has one write lock: a stopped holder would stop its successor, not test it."""
    while True:
        send(signal.SIGSTOP)
        await asyncio.sleep(0.05)  # its threads stop one after another
        if place.kind != "sqlite" or await asyncio.to_thread(_can_write, place.url):
            return
        send(signal.SIGCONT)
        await asyncio.sleep(0.01)


def _can_write(url: str) -> bool:
    engine = create_engine(url, connect_args={"timeout": 0.2, "isolation_level": None})
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            connection.exec_driver_sql("ROLLBACK")
    except OperationalError:
        return False
    finally:
        engine.dispose()
    return True


class Watch:
    """Rows of turns as the database has them, read beside the servers."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))

    async def rows(self, turns: Sequence[str]) -> list[Mapping[str, Any]]:
        return await asyncio.to_thread(self._rows, turns)

    async def until(self, holds: Any, turns: Sequence[str]) -> None:
        """Raises with what the rows are like instead, when that takes too long."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not holds(rows := await self.rows(turns)):
            if time.monotonic() > end:
                states = Counter((row["status"], row["fence"], bool(row["reply"])) for row in rows)
                raise TimeoutError(f"(status, fence, has text): {dict(states)}")
            await asyncio.sleep(0.01)

    def close(self) -> None:
        self._engine.dispose()

    def _rows(self, turns: Sequence[str]) -> list[Mapping[str, Any]]:
        names = {f"t{number}": turn for number, turn in enumerate(turns)}
        query = text(
            "SELECT id, fence, status, reply, worker FROM turns WHERE id IN "
            f"({', '.join(f':{name}' for name in names)})"
        )
        with self._engine.connect() as connection:
            found = {row.id: dict(row._mapping) for row in connection.execute(query, names)}
        return [found[turn] for turn in turns if turn in found]

"""Two replicas on PostgreSQL that die at any moment, and a PostgreSQL that does, too."""

import asyncio
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import create_engine, text

from tests.proof import http
from tests.proof.bench import Bench, Kind, OnProgress, Result
from tests.proof.checks import counted
from tests.proof.fleet import Process
from tests.proof.http import Broken
from tests.proof.kills import in_time
from tests.proof.load import Talkers
from tests.proof.plan import Beats

BEATS = Beats(lease=2.0, renew=0.5, recover=0.5)
PRODUCTS_LEASE_SECONDS = 15.0
GRACE_SECONDS = 5.0
HEAD_SECONDS = 3.0
PATIENCE_SECONDS = 60.0


async def replica_kills(bench: Bench, kind: Kind, count: int, progress: OnProgress) -> Result:
    place = bench.place(kind)
    draw = random.Random(f"{bench.seed} replicas")
    talkers = Talkers(
        place.doors(0, 1, head_seconds=HEAD_SECONDS), place.truth, bench.seed, words=60
    )
    servers = [await place.start(place=one, beats=BEATS) for one in (0, 1)]
    talkers.start()
    watch = RecoveryWatch(place.url)
    for number in range(count):
        progress(number, count, "kill -9 of one of two replicas")
        await asyncio.sleep(draw.uniform(0.05, 0.5))
        dies = draw.randrange(2)
        await servers[dies].until_started()
        await servers[dies].end()
        await watch.orphaned_by(servers[dies])
        servers[dies] = await place.start(place=dies, beats=BEATS)
    progress(count, count, "everybody ends what they have begun")
    broken = await in_time(talkers.stop(), watch.finish())
    for server in servers:
        await server.end()
    findings = broken + await place.findings()
    slowest = max(watch.seconds, default=0.0)
    said = sum(one.turn is not None for one in place.truth.said)
    result = Result(
        "replicas",
        kind,
        f"two replicas under load, {count} random kills; {said} turns acknowledged, "
        f"{len(watch.seconds)} taken over within {slowest:.1f} s (lease {BEATS.lease:g} s)",
        counted(findings) | {"kills": count, "taken over": len(watch.seconds)},
    )
    result.counts["slowest recovery, s"] = round(slowest, 2)
    result.blame(findings)
    result.require(bool(watch.seconds), "no kill met an open turn")
    result.require(
        slowest <= BEATS.lease + GRACE_SECONDS, f"a turn waited {slowest:.1f} s for its recovery"
    )
    return result


async def restarts(bench: Bench, kind: Kind, count: int, progress: OnProgress) -> Result:
    """PostgreSQL is killed or shut down "immediately", and started again."""
    assert bench.postgresql is not None
    place = bench.place(kind)
    draw = random.Random(f"{bench.seed} restarts")
    doors = place.doors(0, 1, head_seconds=10.0)
    talkers = Talkers(doors, place.truth, bench.seed, words=30)
    servers = [await place.start(place=one, beats=BEATS) for one in (0, 1)]
    for server in servers:
        await server.until_started()
    talkers.start()
    slowest = 0.0
    for number in range(count):
        progress(number, count, "PostgreSQL is restarted hard")
        await asyncio.sleep(draw.uniform(0.2, 0.8))
        how = signal.SIGKILL if number % 2 else signal.SIGQUIT
        await asyncio.to_thread(bench.postgresql.stop_hard, how)
        await asyncio.to_thread(bench.postgresql.start)
        began = time.monotonic()
        for port in doors.ports:
            await _until_ready(port, doors.admin)
        slowest = max(slowest, time.monotonic() - began)
    progress(count, count, "everybody ends what they have begun")
    ended = await in_time(talkers.stop())
    died = [one for one in servers if one.exited.is_set()]
    for server in servers:
        await server.end()
    findings = ended + await place.findings()
    said = sum(one.turn is not None for one in place.truth.said)
    result = Result(
        "restarts",
        kind,
        f"PostgreSQL restarted hard {count} times under two replicas; {said} turns acknowledged, "
        f"serving again within {slowest:.1f} s",
        counted(findings) | {"restarts": count, "refused": place.truth.refused},
    )
    result.counts["slowest recovery, s"] = round(slowest, 2)
    result.blame(findings)
    result.require(not died, "a server ended with its database")
    result.require(
        slowest <= BEATS.lease + GRACE_SECONDS, f"a replica took {slowest:.1f} s to serve again"
    )
    return result


async def own_lease(bench: Bench, kind: Kind, count: int, progress: OnProgress) -> Result:
    """With the beats that the product has, and no restart of what was killed."""
    place = bench.place(kind)
    dies = await place.start(place=0, beats=None)
    await dies.until_started()
    async with place.serving(place=1, beats=None):
        talkers = Talkers(place.doors(0), place.truth, bench.seed, count=count, words=400)
        talkers.start()
        await asyncio.sleep(2.0)
        stopping = asyncio.create_task(talkers.stop())
        watch = RecoveryWatch(place.url)
        await dies.end()
        await watch.orphaned_by(dies)
        progress(0, 1, "a replica is killed for good; its turns wait for their lease")
        # Whoever talked to the dead one asks the other.
        talkers.move(place.doors(1))
        await asyncio.wait_for(watch.finish(), PATIENCE_SECONDS)
        ended = await in_time(_done(stopping))
    findings = ended + await place.findings()
    slowest = max(watch.seconds, default=0.0)
    result = Result(
        "own lease",
        kind,
        f"one of two replicas killed for good: {len(watch.seconds)} open turns taken over "
        f"within {slowest:.1f} s (lease {PRODUCTS_LEASE_SECONDS:g} s)",
        counted(findings) | {"taken over": len(watch.seconds)},
    )
    result.counts["slowest recovery, s"] = round(slowest, 2)
    result.blame(findings)
    result.require(bool(watch.seconds), "the kill met no open turn")
    limit = PRODUCTS_LEASE_SECONDS + GRACE_SECONDS
    result.require(slowest <= limit, f"a turn waited {slowest:.1f} s for its recovery")
    return result


async def _done(task: asyncio.Task[None]) -> None:
    await task


async def _until_ready(port: int, key: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(Broken):
                status, _ = await http.call(port, "GET", "/readyz", key=key, seconds=10.0)
                if status == 200:
                    return
            await asyncio.sleep(0.02)


class RecoveryWatch:
    """How long the open turns of a dead worker wait until somebody takes them over."""

    def __init__(self, url: str) -> None:
        self.seconds: list[float] = []
        self._engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        self._tasks: list[asyncio.Task[None]] = []

    async def orphaned_by(self, dead: Process) -> None:
        died_at = time.monotonic()
        turns = await asyncio.to_thread(self._open_turns, dead.worker)
        if turns:
            self._tasks.append(asyncio.create_task(self._follow(dead.worker, turns, died_at)))

    async def finish(self) -> None:
        await asyncio.gather(*self._tasks)
        self._engine.dispose()

    async def _follow(self, dead: str | None, turns: Sequence[str], died_at: float) -> None:
        left = set(turns)
        while left:
            await asyncio.sleep(0.1)
            still = set(await asyncio.to_thread(self._open_turns, dead)) & left
            self.seconds += [time.monotonic() - died_at] * len(left - still)
            left = still

    def _open_turns(self, worker: str | None) -> list[str]:
        query = text(
            "SELECT id FROM turns WHERE worker = :worker AND status IN ('accepted', 'generating')"
        )
        with self._engine.connect() as connection:
            return list(connection.scalars(query, {"worker": worker}))

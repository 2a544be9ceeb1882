"""Every n-th write fails because the disk is full; then there is room again."""

import asyncio
import signal
import time

from tests.proof.bench import Bench, Kind, OnProgress, Result
from tests.proof.checks import counted
from tests.proof.kills import in_time
from tests.proof.load import Operator, Talkers
from tests.proof.plan import Full

# Accepting writes three or four times: with 11 about every third turn is refused.
FULL = (
    Full("accept", 11),
    Full("append", 2),
    Full("finish", 2),
    Full("add version", 2),
    Full("commit", 7),
)
CALM_SECONDS = 3.0
PATIENCE_SECONDS = 30.0


async def full_disk(bench: Bench, kind: Kind, count: int, progress: OnProgress) -> Result:
    """Until `count` writes of each kind have failed, or the patience is at its end."""
    place = bench.place(kind)
    full = FULL + ((Full("pages", 1),) if kind == "sqlite" else ())
    server = await place.start(trains=True, full=full)
    await server.until_started()
    talkers = Talkers(place.doors(0), place.truth, bench.seed, words=40)
    operator = Operator(place.doors(0), place.truth, bench.seed)
    talkers.start()
    operator.start()
    await asyncio.sleep(1.0)
    began = time.monotonic()
    failed: dict[str, int] = {}
    server.send(signal.SIGUSR1)
    while time.monotonic() - began < PATIENCE_SECONDS:
        await asyncio.sleep(0.5)
        server.send(signal.SIGUSR2)
        await asyncio.sleep(0.05)
        failed = server.disk_failures or {}
        least = min(failed.values(), default=0)
        progress(
            min(least, count), count, f"the disk is full: {sum(failed.values())} writes failed"
        )
        if least >= count:
            break
    server.send(signal.SIGUSR1)
    await asyncio.sleep(CALM_SECONDS)
    refused, answered = place.truth.refused, _answered(place.truth.said)
    await asyncio.sleep(CALM_SECONDS)
    late_refusals = place.truth.refused - refused
    healed = _answered(place.truth.said) - answered
    ended = await in_time(talkers.stop(), operator.stop())
    alive = not server.exited.is_set()
    await server.end()
    findings = ended + await place.findings()
    jobs = [one for one in place.truth.jobs.values() if one is not None]
    result = Result(
        "full disk",
        kind,
        f"every n-th write failed: {', '.join(f'{one} {n}' for one, n in failed.items())}; "
        f"{healed} turns answered in {CALM_SECONDS:g} s after it, without a restart",
        counted(findings)
        | {
            "failed writes": failed,
            "refused": refused,
            "refused after": late_refusals,
            "answered after": healed,
            "jobs": len(jobs),
        },
    )
    result.blame(findings)
    for name, number in failed.items():
        result.require(number > 0, f"no write of {name!r} failed: nothing was tried")
    result.require(alive, "the server ended")
    result.require(healed > 0, "nothing is answered after the disk has room again")
    result.require(late_refusals == 0, f"{late_refusals} refusals after the disk has room again")
    return result


def _answered(said: object) -> int:
    assert isinstance(said, list)
    return sum(one.final is not None for one in said)

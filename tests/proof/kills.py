"""kill -9 at every named point of a turn, of training and of promotion."""

import asyncio
import random
import signal
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence

from tests.proof.bench import Bench, Kind, OnProgress, Result
from tests.proof.checks import Finding, counted
from tests.proof.load import Operator, Talkers
from tests.proof.plan import Kill
from tests.proof.points import PROMOTION_POINTS, TRAINING_POINTS, TURN_POINTS

POINT_SECONDS = 8.0
"""A server that has not come to its point by then is killed where it is."""
END_SECONDS = 120.0
MOST_MISSES = 3
"""So often a point that no server came to in time is tried again."""
TRAINING_SHARE = 0.14
PROMOTION_SHARE = 0.10
"""Of the kills; the others meet turns."""


async def kills(bench: Bench, kind: Kind, count: int, progress: OnProgress) -> Result:
    schedule = scheduled(count, bench.seed)
    missed: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    findings, said, refused = await storm(bench, kind, schedule, reached, missed, progress)
    total = reached.total()
    result = Result(
        "kill -9",
        kind,
        f"{total} kills at {len(reached)} points of a turn, of training and of promotion; "
        f"{said} turns acknowledged",
        counted(findings) | {"kills": total, "points": len(reached), "refused": refused},
    )
    result.require(
        total >= len(schedule), f"only {total} of {len(schedule)} kills came to their point"
    )
    result.counts["kills by point"] = dict(sorted(reached.items()))
    result.blame(findings)
    for point in sorted({one.point for one in schedule} - set(reached)):
        result.broken.append(f"no server ever came to {point!r} ({missed[point]} tries)")
    return result


async def storm(
    bench: Bench,
    kind: Kind,
    schedule: Sequence[Kill],
    reached: "Counter[str]",
    missed: "Counter[str]",
    progress: OnProgress,
    *,
    fault: str | None = None,
    prepare: Callable[[str], None] | None = None,
    hasty: float = 0.3,
) -> tuple[list[Finding], int, int]:
    """Servers come up and are killed under a steady load; returns what is wrong afterwards,
    how many turns were acknowledged, and how often a client was refused."""
    place = bench.place(kind)
    if prepare is not None:
        await asyncio.to_thread(prepare, place.url)
    doors = place.doors(0)
    talkers = Talkers(doors, place.truth, bench.seed, hasty=hasty)
    operator = Operator(doors, place.truth, bench.seed)
    options = {"trains": True, "fault": fault}
    talkers.start()
    operator.start()
    waiting = deque(schedule)
    while waiting:
        kill = waiting.popleft()
        progress(reached.total(), len(schedule), kill.point)
        server = await place.start(kill=kill, **options)
        try:
            await asyncio.wait_for(server.exited.wait(), POINT_SECONDS)
        except TimeoutError:
            await server.end()
        if server.killed_at is not None:
            reached[server.killed_at] += 1
        elif server.status == -signal.SIGKILL:
            missed[kill.point] += 1
            if missed[kill.point] <= MOST_MISSES:
                waiting.append(kill)
        else:
            raise RuntimeError(f"a server ended by itself with status {server.status}")
    progress(len(schedule), len(schedule), "everybody ends what they have begun")
    async with place.serving(**options):
        ended = await in_time(talkers.stop(), operator.stop())
    acknowledged = sum(one.turn is not None for one in place.truth.said)
    return ended + await place.findings(), acknowledged, place.truth.refused


async def in_time(*endings: Awaitable[None]) -> list[Finding]:
    """Lets clients end what they have begun; a finding when they cannot."""
    try:
        async with asyncio.timeout(END_SECONDS):
            await asyncio.gather(*endings)
    except TimeoutError:
        return [Finding("other", f"clients wait for their replies after {END_SECONDS:g} s")]
    return []


def scheduled(count: int, seed: int) -> list[Kill]:
    """Every point at least once where `count` allows it, in a drawn order."""
    draw = random.Random(f"{seed} kills")
    training = max(1, round(count * TRAINING_SHARE))
    promotion = max(1, round(count * PROMOTION_SHARE))
    wanted = (
        (TURN_POINTS, count - training - promotion),
        (TRAINING_POINTS, training),
        (PROMOTION_POINTS, promotion),
    )
    schedule: list[Kill] = []
    for points, kills_wanted in wanted:
        names = list(points)
        draw.shuffle(names)
        for number in range(kills_wanted):
            name = names[number % len(names)]
            schedule.append(Kill(name, draw.randint(1, points[name])))
    draw.shuffle(schedule)
    return schedule

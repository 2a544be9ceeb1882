"""The same run with faults planted: a proof that would not see them proves nothing."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.proof.bench import Bench, Kind, OnProgress, Result
from tests.proof.faults import unguard
from tests.proof.kills import storm
from tests.proof.late import stopped_worker
from tests.proof.plan import Kill
from tests.proof.points import TURN_POINTS


@dataclass(frozen=True)
class Trap:
    points: Sequence[str]
    """Where to kill, so that the fault shows soon."""
    shows_as: Sequence[str]
    """The checks that may catch it; another one's alarm is not accepted."""


TRAPS: Mapping[str, Trap] = {
    "acknowledge before commit": Trap(
        ("accept: before commit", "finish: before commit"), ("lost",)
    ),
    "no idempotency": Trap(
        ("accept: after commit", "finish: after commit", "stream: accepted sent"), ("doubled",)
    ),
    "no order guard": Trap(
        ("generator: first piece", "stream: delta sent"), ("wrong history", "out of order")
    ),
}
KILLS = 20
TRIES = 3
"""So many runs may pass before a fault shows: whether two clients meet in it is luck."""


async def planted(bench: Bench, kind: Kind, kills: int, progress: OnProgress) -> Result:
    result = Result("planted faults", kind, "")
    faults = [*TRAPS, "no fence"]
    for number, fault in enumerate(faults):
        progress(number, len(faults), fault)
        caught: dict[str, int] = {}
        runs = 0
        while not caught and runs < TRIES:
            runs += 1
            caught = await (
                _fence(bench, kind)
                if fault == "no fence"
                else trap(bench, kind, fault, kills, run=runs)
            )
        result.counts[fault] = caught | {"runs": runs} if caught else "not caught"
        result.require(bool(caught), f"the planted fault {fault!r} was not caught")
    found = sum(one != "not caught" for one in result.counts.values())
    result.done = f"the same run with {len(faults)} planted faults: {found} caught"
    return result


async def trap(bench: Bench, kind: Kind, fault: str, kills: int, *, run: int = 1) -> dict[str, int]:
    trap = TRAPS[fault]
    draw = random.Random(f"{bench.seed} {fault} {run}")
    schedule = [
        Kill(point, draw.randint(1, min(3, TURN_POINTS[point])))
        for point in draw.choices(trap.points, k=kills)
    ]
    disorderly = fault == "no order guard"
    findings, _, _ = await storm(
        bench,
        kind,
        schedule,
        Counter(),
        Counter(),
        lambda *_: None,
        fault=fault,
        prepare=unguard if disorderly else None,
        hasty=0.9 if disorderly else 0.3,
    )
    found = Counter(one.kind for one in findings)
    return {kind: found[kind] for kind in trap.shows_as if found[kind]}


async def _fence(bench: Bench, kind: Kind) -> dict[str, int]:
    outcome = await stopped_worker(bench, kind, rounds=1, fault="no fence")
    accepted = outcome.accepted
    return {"late writes accepted": accepted} if accepted else {}

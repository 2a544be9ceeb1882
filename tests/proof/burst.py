"""Ten times what the generators can do, then calm."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from statistics import median, quantiles
from typing import Any

import psutil

from app.settings import Settings
from tests.proof import http
from tests.proof.bench import Bench, Kind, OnProgress, Result
from tests.proof.http import Broken
from tests.proof.load import Doors

PLACES = 8
"""Turns that may be generated at once; each takes 0.4 s, so that sleep, not this machine's
processor, is what the capacity is made of."""
UTTERANCE = "say 4 at 0.1 {}"
CALM_SECONDS = 4.0
BURST_SECONDS = 6.0
TIMES = 10
INSTANT_A_SECOND = 5


@dataclass
class Heard:
    done_at: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    instant: list[int] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


async def burst(bench: Bench, kind: Kind, count: int, progress: OnProgress) -> Result:
    place = bench.place(kind)
    fields = Settings.model_fields
    limit = "max_generating_turns" if "max_generating_turns" in fields else "max_open_turns"
    async with place.serving(settings={limit: PLACES}) as server:
        doors = place.doors(0)
        conversations = await _conversations(doors, 200)
        progress(0, 3, "capacity: everybody waits for a reply before the next utterance")
        capacity, calm_ms = await _capacity(doors, conversations[:PLACES])
        process = psutil.Process(server.pid)
        before_mb = process.memory_info().rss / 1e6
        progress(1, 3, f"{TIMES * capacity:.0f} turns a second where {capacity:.0f} are possible")
        heard, peak_mb = await _burst(doors, conversations, TIMES * capacity, process)
        progress(2, 3, "calm again")
        normal_after = await _until_normal(doors, conversations[0], calm_ms)
        after_mb = process.memory_info().rss / 1e6
    goodput = len(heard.done_at) / BURST_SECONDS
    slow = quantiles(heard.refused_ms, n=100)[98] if len(heard.refused_ms) > 1 else 0.0
    flowing = sum(status in (200, 201) for status in heard.instant)
    result = Result(
        "overload",
        kind,
        f"{TIMES}× burst for {BURST_SECONDS:g} s: goodput {goodput / capacity:.0%} of "
        f"{capacity:.1f} turns/s, {len(heard.refused_ms)} refusals, 99 % of them within "
        f"{slow:.0f} ms; {flowing} of {len(heard.instant)} instant turns answered; memory "
        f"{before_mb:.0f} → {peak_mb:.0f} MB; normal after {normal_after:.1f} s",
        {
            "capacity a second": round(capacity, 1),
            "goodput": round(goodput / capacity, 3),
            "refusals": len(heard.refused_ms),
            "refusal ms, median": round(median(heard.refused_ms or [0.0]), 1),
            "refusal ms, 99 %": round(slow, 1),
            "instant": f"{flowing}/{len(heard.instant)}",
            "memory MB before, peak, after": [
                round(before_mb, 1),
                round(peak_mb, 1),
                round(after_mb, 1),
            ],
            "normal after s": round(normal_after, 2),
        },
    )
    result.require(goodput >= 0.9 * capacity, f"goodput is {goodput / capacity:.0%} of capacity")
    result.require(bool(heard.refused_ms), "nothing was refused: that was no burst")
    result.require(slow < 50, f"a refusal in a hundred takes {slow:.0f} ms or more")
    result.require(
        flowing == len(heard.instant),
        f"{len(heard.instant) - flowing} instant turns were refused while the generators were full",
    )
    result.require(
        peak_mb <= 1.2 * before_mb, f"memory grew from {before_mb:.0f} to {peak_mb:.0f} MB"
    )
    result.require(normal_after <= 10, f"normal only after {normal_after:.1f} s")
    result.require(not heard.other, f"other replies: {sorted(set(heard.other))}")
    return result


async def _conversations(doors: Doors, count: int) -> list[tuple[str, str]]:
    """(id, key), of all users in turn."""
    keys = cycle(doors.users.values())
    made = []
    for _ in range(count):
        key = next(keys)
        _, body = await http.call(doors.ports[0], "POST", "/v1/conversations", key=key, body={})
        made.append((body["id"], key))
    return made


async def _post(doors: Doors, conversation: tuple[str, str], text: str) -> tuple[int, Any, float]:
    """Status, body, milliseconds."""
    began = time.monotonic()
    status, body = await http.call(
        doors.ports[0],
        "POST",
        f"/v1/conversations/{conversation[0]}/turns",
        key=conversation[1],
        body={"text": text},
    )
    return status, body, (time.monotonic() - began) * 1000


async def _capacity(doors: Doors, conversations: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """Turns a second when all places are taken and nobody is refused, and their median ms."""
    end = time.monotonic() + CALM_SECONDS
    took: list[float] = []

    async def talk(conversation: tuple[str, str]) -> None:
        while time.monotonic() < end:
            status, _, milliseconds = await _post(doors, conversation, UTTERANCE.format(len(took)))
            if status == 201:
                took.append(milliseconds)

    await asyncio.gather(*(talk(one) for one in conversations))
    return len(took) / CALM_SECONDS, median(took)


async def _burst(
    doors: Doors, conversations: Sequence[tuple[str, str]], rate: float, process: psutil.Process
) -> tuple[Heard, float]:
    heard = Heard()
    began = time.monotonic()
    end = began + BURST_SECONDS
    visits: set[asyncio.Task[None]] = set()
    peak_mb = 0.0

    async def visit(conversation: tuple[str, str], text: str) -> None:
        try:
            status, body, milliseconds = await _post(doors, conversation, text)
        except Broken:
            heard.other.append("broken off")
            return
        if text.startswith("hello "):
            heard.instant.append(status)
        elif status == 201:
            if time.monotonic() <= end:
                heard.done_at.append(time.monotonic())
        elif status in (429, 503):
            heard.refused_ms.append(milliseconds)
        else:
            heard.other.append(f"{status} {body.get('code')}")

    instants = 0
    for sent, conversation in enumerate(cycle(conversations[:-PLACES]), start=1):
        now = time.monotonic()
        if now >= end:
            break
        text = UTTERANCE.format(sent)
        visits.add(asyncio.create_task(visit(conversation, text)))
        if (now - began) * INSTANT_A_SECOND >= instants:
            instants += 1
            quiet = conversations[-1 - instants % PLACES]
            visits.add(asyncio.create_task(visit(quiet, f"hello {instants}")))
            peak_mb = max(peak_mb, process.memory_info().rss / 1e6)
        # Those that are late because this process is come at once, as in real life.
        await asyncio.sleep(max(0.0, began + sent / rate - time.monotonic()))
    await asyncio.gather(*visits)
    return heard, max(peak_mb, process.memory_info().rss / 1e6)


async def _until_normal(doors: Doors, conversation: tuple[str, str], calm_ms: float) -> float:
    """Seconds until a turn is answered as fast as before the burst, or nearly so."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < 60:
        with suppress(Broken):
            status, _, milliseconds = await _post(doors, conversation, UTTERANCE.format("again"))
            if status == 201 and milliseconds <= 1.5 * calm_ms:
                return waited
        await asyncio.sleep(0.1)
    return waited

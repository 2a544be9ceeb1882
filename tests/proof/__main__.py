"""`python -m tests.proof`: breaks real servers, and prints what that cost; see `--help`."""

import asyncio
import json
import platform
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.postgresql import PostgreSQL
from tests.proof import suites
from tests.proof.bench import Bench, Kind, OnProgress, Result
from tests.proof.burst import burst
from tests.proof.disk import full_disk
from tests.proof.fleet import Fleet
from tests.proof.kills import kills
from tests.proof.late import late_writes
from tests.proof.one_key import one_key
from tests.proof.planted import planted
from tests.proof.replicas import own_lease, replica_kills, restarts

RunRow = Callable[[Bench, Kind, int, OnProgress], Awaitable[Result]]


@dataclass(frozen=True)
class Row:
    run: RunRow
    count: int
    """Kills, restarts, writes, posts: whatever the row counts."""
    kinds: Sequence[Kind] = ("sqlite", "postgresql")


REPLICATED: Sequence[Kind] = ("postgresql",)
ROWS: dict[str, Row] = {
    "kills": Row(kills, 510),
    "planted": Row(planted, 20),
    "replicas": Row(replica_kills, 60, REPLICATED),
    "restarts": Row(restarts, 20, REPLICATED),
    "lease": Row(own_lease, 8, REPLICATED),
    "late": Row(late_writes, 100),
    "disk": Row(full_disk, 5),
    "key": Row(one_key, 50),
    "overload": Row(burst, 1),
}
OTHERS = ("speed", *suites.SUITES)
TELL_SECONDS = 10.0
"""Where there is no terminal to draw bars on, a line in a while says how far it is."""
console = Console(highlight=False)


def main(
    rows: Annotated[
        str, typer.Option(help=f"Comma-separated, of: {', '.join((*ROWS, *OTHERS))}.")
    ] = "",
    databases: Annotated[str, typer.Option(help="sqlite, postgresql, or both.")] = "both",
    count: Annotated[
        list[str] | None,
        typer.Option(help="How much of a row, as in --count kills=50; repeatable."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Draws the same run again, as far as processes allow; else a new one."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the results there.")
    ] = None,
) -> None:
    """Breaks running servers in every way we know, and counts what that cost. Ends with 1 when
    a promise is broken."""
    known = (*ROWS, *OTHERS)
    chosen = [one.strip() for one in rows.split(",") if one.strip()] or list(known)
    if unknown := set(chosen) - set(known):
        raise typer.BadParameter(f"there is no row {', '.join(sorted(unknown))}")
    kinds = ("sqlite", "postgresql") if databases == "both" else (databases,)
    if not set(kinds) <= {"sqlite", "postgresql"}:
        raise typer.BadParameter("--databases takes sqlite, postgresql or both")
    counts = {name: row.count for name, row in ROWS.items()} | _counts(count or ())
    seed = random.randrange(10**6) if seed is None else seed
    console.print(f"Seed {seed}: `--seed {seed}` draws this run again.")
    began = time.monotonic()
    results = asyncio.run(prove(chosen, kinds, counts, seed, console))
    seconds = time.monotonic() - began
    console.print(table(results))
    for result in results:
        for promise in result.broken:
            console.print(f"{result.row}, {result.database}: {promise}", markup=False, style="red")
    broken = [one for one in results if one.broken]
    skipped = [one for one in results if one.skipped]
    console.print(
        f"{len(results) - len(broken) - len(skipped)} kept, {len(broken)} broken, "
        f"{len(skipped)} skipped, in {seconds:.0f} s"
    )
    if json_file is not None:
        json_file.write_text(json.dumps(report(results, seed, seconds), indent=2) + "\n")
    raise typer.Exit(1 if broken else 0)


async def prove(
    chosen: Sequence[str],
    kinds: Sequence[Kind],
    counts: dict[str, int],
    seed: int,
    shown_on: Console,
) -> list[Result]:
    results: list[Result] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twofold-proof-")))
        postgresql = (
            stack.enter_context(PostgreSQL(durable=True)) if "postgresql" in kinds else None
        )
        bar = stack.enter_context(
            Progress(
                TextColumn("{task.description:28}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[doing]}"),
                console=shown_on,
            )
        )
        async with Fleet(folder) as fleet:
            bench = Bench(folder, fleet, seed, postgresql)
            for name, kind in _of_databases(chosen, kinds):
                run = partial(ROWS[name].run, bench, kind, counts[name])
                results.append(await _timed(bar, f"{name}, {kind}", run))
                await fleet.end_all()
            for name in (one for one in OTHERS if one in chosen):
                run = partial(suites.speed if name == "speed" else suites.suite, bench, name)
                results.append(await _timed(bar, name, run))
    return results


def _of_databases(chosen: Sequence[str], kinds: Sequence[Kind]) -> list[tuple[str, Kind]]:
    """Each row with each of its databases."""
    return [
        (name, kind)
        for name, row in ROWS.items()
        if name in chosen
        for kind in kinds
        if kind in row.kinds
    ]


async def _timed(
    bar: Progress, title: str, run: Callable[[OnProgress], Awaitable[Result]]
) -> Result:
    task = bar.add_task(title, total=1, doing="")

    began = told_at = time.monotonic()

    def tell(done: int, of: int, doing: str) -> None:
        nonlocal told_at
        bar.update(task, completed=done, total=of, doing=doing)
        if not bar.console.is_terminal and time.monotonic() - told_at > TELL_SECONDS:
            told_at = time.monotonic()
            bar.console.print(f"{title}: {done} of {of}, {doing}")

    try:
        result = await run(tell)
    except Exception as error:
        # One row that cannot be run must not hide the others; it is broken, and says why.
        name, _, kind = title.partition(", ")
        result = Result(name, kind or "both", "could not be run")
        result.broken.append(f"{type(error).__name__}: {error}")
        if sys.stderr.isatty():
            bar.console.print_exception()
    result.seconds = round(time.monotonic() - began, 1)
    bar.update(task, completed=bar.tasks[task].total, doing=result.verdict)
    if not bar.console.is_terminal:
        bar.console.print(f"{title}: {result.verdict} in {result.seconds:.0f} s; {result.done}")
        for promise in result.broken:
            bar.console.print(f"  {promise}", markup=False)
    return result


def table(results: Sequence[Result]) -> Table:
    shown = Table(title="Turns that survive anything", title_justify="left")
    for name in ("", "database", "what was done", "counts", "verdict"):
        shown.add_column(name)
    for one in results:
        colour = {"kept": "green", "broken": "red", "skipped": "yellow"}[one.verdict]
        what = f"{one.done} – {one.skipped}" if one.skipped else one.done
        counts = ", ".join(
            f"{name} {value}"
            for name, value in one.counts.items()
            if not isinstance(value, dict) and name != "output"
        )
        shown.add_row(
            one.row, one.database, what, counts, f"[{colour}]{one.verdict}[/] {one.seconds:.0f} s"
        )
    return shown


def report(results: Sequence[Result], seed: int, seconds: float) -> dict[str, object]:
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "rows": [asdict(one) | {"verdict": one.verdict} for one in results],
    }


def _counts(given: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in given:
        name, _, number = one.partition("=")
        if name not in ROWS or not number.isdigit():
            raise typer.BadParameter(f"--count takes ROW=NUMBER with a row of {', '.join(ROWS)}")
        counts[name] = int(number)
    return counts


if __name__ == "__main__":
    typer.run(main)

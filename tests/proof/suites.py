"""Rows that other programs of this repository measure: test files, and a benchmark."""

import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.proof.bench import Bench, OnProgress, Result
from tests.proof.fleet import ROOT

SUITE_SECONDS = 600.0
LEAST_SHARE = 0.25
AIM = 0.5
MOST_LATENCY_RATIO = 1.2


@dataclass(frozen=True)
class Suite:
    row: str
    what: str
    files: Sequence[str]
    """Those that are there are run."""


SUITES: Mapping[str, Suite] = {
    "authorisation": Suite(
        "authorisation",
        "every route × principals, from the OpenAPI document; foreign = absent",
        ("test_authorization_matrix.py", "test_authorisation.py", "test_door.py"),
    ),
    "hostile": Suite(
        "hostile payloads",
        "hostile payloads × every POST route; generated calls",
        ("test_hostile_payloads.py", "test_many_calls.py"),
    ),
    "secrets": Suite(
        "secrets",
        "dump, logs and errors searched for every secret and every message",
        ("test_secrets.py",),
    ),
    "holes": Suite(
        "published holes",
        "a test for each published hole of a peer",
        (
            "test_published_holes.py",
            "test_published_holes_of_access.py",
            "test_holes_of_peers.py",
        ),
    ),
    "generator": Suite(
        "killed generators",
        "the local generator's process killed while it writes, TWOFOLD_GENERATOR_KILLS times",
        ("test_generator_kills.py",),
    ),
}


async def suite(bench: Bench, name: str, progress: OnProgress) -> Result:
    chosen = SUITES[name]
    folder = ROOT / "tests" / "integration"
    files = [str(folder / one) for one in chosen.files if (folder / one).exists()]
    if not files:
        missing = f"no test file of this row is here ({', '.join(chosen.files)})"
        return Result(chosen.row, "both", chosen.what, skipped=missing)
    report = bench.folder / f"{name}.xml"
    progress(0, 1, "pytest")
    status, said = await _run(
        ("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", *files)
    )
    counts = _counts(report)
    failed = counts["failures"] + counts["errors"]
    result = Result(
        chosen.row,
        "both",
        f"{chosen.what}: {counts['tests']} tests, {failed} failed, {counts['skipped']} skipped",
        counts,
    )
    result.require(status == 0 and not failed, f"pytest ended with {status}: {said[-1500:]}")
    result.require(counts["tests"] > counts["skipped"], "no test ran")
    return result


async def speed(bench: Bench, _name: str, progress: OnProgress) -> Result:
    row = "instant turns"
    if not (ROOT / "benchmarks" / "turns.py").exists():
        return Result(row, "both", "turns a second", skipped="benchmarks/turns.py is not here")
    progress(0, 1, "benchmarks.turns")
    databases = ["sqlite"] + (["postgresql"] if bench.postgresql is not None else [])
    status, said = await _run(
        ("-m", "benchmarks.turns", "--rounds", "3", "--seconds", "3", "--databases", *databases)
    )
    shares = {name: _number(rf"^{name} +\d+ +([\d.]+)", said) for name in databases}
    ratios = {name: _number(rf"^{name}: .* takes ([\d.]+) times", said) for name in databases}
    shown = "; ".join(
        f"{name}: {shares[name]} of the bare route, behind 20,000 turns {ratios[name]}×"
        for name in databases
    )
    result = Result(row, "both", shown, {"share": shares, "latency ratio": ratios, "output": said})
    result.require(status == 0, f"the benchmark ended with {status}: {said[-1500:]}")
    for name in databases:
        share, ratio = shares[name], ratios[name]
        result.require(
            share is not None and share >= LEAST_SHARE,
            f"{name}: {share} of the bare route; at least {LEAST_SHARE}, aim at {AIM}",
        )
        result.require(
            ratio is not None and ratio <= MOST_LATENCY_RATIO,
            f"{name}: a turn behind 20,000 takes {ratio} times as long",
        )
    return result


async def _run(arguments: Sequence[str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"COLUMNS": "200"},
    )
    try:
        async with asyncio.timeout(SUITE_SECONDS):
            said, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, said.decode(errors="replace")


def _counts(report: Path) -> dict[str, int]:
    names = ("tests", "failures", "errors", "skipped")
    if not report.exists():
        return dict.fromkeys(names, 0)
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    totals = dict.fromkeys(names, 0)
    for one in suites:
        for name in names:
            totals[name] += int(one.get(name, 0))
    return totals


def _number(pattern: str, said: str) -> float | None:
    found = re.search(pattern, said, re.MULTILINE)
    return float(found[1]) if found else None

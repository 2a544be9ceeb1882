"""python -m generator bench: how fast a generator is, alone and for many at once."""

import argparse
import asyncio
import json
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from generator.closing import close
from generator.engine_options import add_engine_options, check_engine_options, engine_of
from generator.interface import ChatMessage, Generator, GeneratorError, Limits, TokensBy
from generator.local.generator import Ended, LocalGenerator, Ready
from generator.local.random_network import MOST_WEIGHTS, write_random_network

CONCURRENCY = (1, 4, 16)
CANCELS = 20
SECONDS = 3600.0
WORDS = (
    "the parcel arrives on monday and the driver calls before noon you can return boots within "
    "sixty days of delivery if they are not worn and the refund takes a week"
).split()


@dataclass(frozen=True, slots=True)
class Request:
    text: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    pieces: int
    first_piece_seconds: float
    tokens: int | None
    """As its engine counted them; None where it did not."""


@dataclass(frozen=True, slots=True)
class Row:
    """`concurrent` requests at a time until all have been answered."""

    engine: str
    concurrent: int
    requests: int
    made: int
    """Of all replies together, what `counted` says."""
    per_second: float
    counted: Literal["tokens", "pieces"]
    """Pieces, where an engine does not say how many tokens it made; most send one a piece."""
    first_piece_p50_ms: float
    first_piece_p95_ms: float
    times_as_fast: float | None = None
    """As the first row."""
    identical: int | None = None
    """Replies that are, to the letter, those of the first row."""


@dataclass(slots=True)
class Report:
    generator: str
    precision: str
    ready: Ready | None = None
    rows: list[Row] = field(default_factory=list)
    cancel_p50_ms: float | None = None
    cancel_worst_ms: float | None = None


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    bench = commands.add_parser("bench", help="measure a generator, alone and for many at once")
    engine = bench.add_mutually_exclusive_group()
    engine.add_argument("--model", help="a Hugging Face causal LM: a folder, or a hub name")
    engine.add_argument(
        "--random", metavar="SIZE", help="a network of random weights, for example 30m"
    )
    add_engine_options(bench, engine)
    bench.add_argument(
        "--precision",
        choices=["float32", "bfloat16", "int8"],
        default="bfloat16",
        help="not of --url",
    )
    bench.add_argument("--threads", type=int, default=1, help="not of --url")
    bench.add_argument("--requests", type=int, default=16)
    bench.add_argument("--max-tokens", type=int, default=96)
    bench.add_argument("--rounds", type=int, default=1, help="repeat; the medians count")
    bench.add_argument("--json", action="store_true")
    bench.set_defaults(parser=bench)


def run(options: argparse.Namespace) -> int:
    parser: argparse.ArgumentParser = options.parser
    if not (options.model or options.url or options.random):
        parser.error("give --model (a folder or a hub name), --url or --random (a size, as in 30m)")
    check_engine_options(options, parser)
    with tempfile.TemporaryDirectory() as folder:
        if options.random:
            weights = size_of(options.random)
            if weights is None:
                parser.error(f"--random takes a size up to {MOST_WEIGHTS:,}, as in 30m")
            write_random_network(Path(folder), weights)
            options.model = folder
        try:
            report = asyncio.run(
                _measure_remote(options, parser) if options.url else _measure_local(options)
            )
        except GeneratorError as error:
            print(f"{error.code}: {error}", file=sys.stderr)
            return 1
    if options.random:
        report.generator = f"random weights, {options.random}"
    if options.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        _show(report)
    return 0


def size_of(text: str) -> int | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([km])", text.lower())
    if not found:
        return None
    weights = int(float(found[1]) * {"k": 1_000, "m": 1_000_000}[found[2]])
    return weights if 0 < weights <= MOST_WEIGHTS else None


async def _measure_local(options: argparse.Namespace) -> Report:
    requests = mixed_requests(options.requests, options.max_tokens)
    report = Report(options.model, options.precision)
    async with _local(options, 1) as plain, _local(options, max(CONCURRENCY)) as batching:
        report.ready = batching.ready
        arms = [Arm("generate", plain.generator, 1, plain.ended)]
        arms += [Arm("in batches", batching.generator, n, batching.ended) for n in CONCURRENCY]
        report.rows = await _answer_in_rounds(arms, requests, options.rounds)
        waits = [await _cancel_ms(batching, requests) for _ in range(CANCELS)]
    known = [one for one in waits if one is not None]
    if known:
        report.cancel_p50_ms, report.cancel_worst_ms = statistics.median(known), max(known)
    return report


async def _measure_remote(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Report:
    """Asked as a turn asks it, with more patience."""
    from generator.remote import RemoteLimits

    requests = mixed_requests(options.requests, options.max_tokens)
    report = Report(f"{options.engine_model} at {options.url}", "")
    most = max(CONCURRENCY)
    patience = RemoteLimits(first_piece_seconds=SECONDS, gap_seconds=SECONDS, running=most)
    engine = engine_of(options, parser, patience)
    try:
        # Not counted: some engines load a network when they are first asked.
        await _answer(engine, requests[0])
        arms = [Arm("remote", engine, concurrent) for concurrent in CONCURRENCY]
        report.rows = await _answer_in_rounds(arms, requests, options.rounds)
    finally:
        await engine.aclose()
    return report


def mixed_requests(count: int, max_tokens: int) -> list[Request]:
    """Questions of 3 to 100 words, replies of a quarter of `max_tokens` up to all of it."""
    choice = random.Random(1)
    return [
        Request(
            " ".join(choice.choices(WORDS, k=choice.randrange(3, 100))),
            choice.randrange(max(1, max_tokens // 4), max_tokens + 1),
        )
        for _ in range(count)
    ]


@dataclass(slots=True)
class Local:
    generator: LocalGenerator
    ready: Ready
    ended: list[Ended]
    news: asyncio.Event

    async def wait_for_ends(self, count: int) -> None:
        while len(self.ended) < count:
            self.news.clear()
            await self.news.wait()


@asynccontextmanager
async def _local(options: argparse.Namespace, most_running: int) -> AsyncIterator[Local]:
    ready: list[Ready] = []
    ended: list[Ended] = []
    news = asyncio.Event()

    def note(one: Ended) -> None:
        ended.append(one)
        news.set()

    generator = LocalGenerator(
        options.model,
        precision=options.precision,
        threads=options.threads,
        most_running=most_running,
        waiting=options.requests,
        plain_chat=True,
        on_ready=ready.append,
        on_ended=note,
    )
    try:
        await generator.start()
        yield Local(generator, ready[0], ended, news)
    finally:
        await generator.aclose()


@dataclass(frozen=True, slots=True)
class Arm:
    engine: str
    generator: Generator
    concurrent: int
    ended: Sequence[Ended] | None = None
    """Where a local engine notes what it made; another may count in its stream."""


@dataclass(frozen=True, slots=True)
class Run:
    seconds: float
    replies: list[Reply]
    made: int
    counted: Literal["tokens", "pieces"]

    def row(self, arm: Arm, baseline: "Run | None" = None) -> Row:
        firsts = sorted(1000 * reply.first_piece_seconds for reply in self.replies)
        row = Row(
            arm.engine,
            arm.concurrent,
            len(self.replies),
            self.made,
            self.made / self.seconds,
            self.counted,
            statistics.median(firsts),
            firsts[min(len(firsts) - 1, int(0.95 * len(firsts)))],
        )
        if baseline is None:
            return row
        pairs = zip(self.replies, baseline.replies, strict=True)
        return replace(
            row,
            times_as_fast=baseline.seconds / self.seconds,
            identical=sum(one.text == other.text for one, other in pairs),
        )


async def _answer_in_rounds(
    arms: Sequence[Arm], requests: Sequence[Request], rounds: int
) -> list[Row]:
    """All arms in each round, so that what else the machine does falls on all alike; the others
    are compared with the first, one request after another."""
    found: list[list[Row]] = []
    for _ in range(rounds):
        one_by_one = await _answer_all(arms[0], requests)
        rows = [one_by_one.row(arms[0])]
        rows += [(await _answer_all(arm, requests)).row(arm, one_by_one) for arm in arms[1:]]
        found.append(rows)
    return [_median(same) for same in zip(*found, strict=True)]


async def _answer_all(arm: Arm, requests: Sequence[Request]) -> Run:
    places = asyncio.Semaphore(arm.concurrent)
    ended_before = len(arm.ended or ())

    async def answer(request: Request) -> Reply:
        async with places:
            return await _answer(arm.generator, request)

    start = time.perf_counter()
    replies = list(await asyncio.gather(*map(answer, requests)))
    seconds = time.perf_counter() - start
    if arm.ended is not None:
        return Run(seconds, replies, sum(one.tokens for one in arm.ended[ended_before:]), "tokens")
    counts = [reply.tokens for reply in replies if reply.tokens is not None]
    if len(counts) == len(replies):
        return Run(seconds, replies, sum(counts), "tokens")
    return Run(seconds, replies, sum(reply.pieces for reply in replies), "pieces")


async def _answer(generator: Generator, request: Request) -> Reply:
    start = time.perf_counter()
    first: float | None = None
    texts: list[str] = []
    tokens: int | None = None
    limits = Limits(max_tokens=request.max_tokens, seconds=SECONDS)
    async for piece in generator.stream([ChatMessage("user", request.text)], limits=limits):
        if piece.text:
            first = first or time.perf_counter() - start
            texts.append(piece.text)
        if piece.usage is not None and piece.usage.tokens_by is TokensBy.ENGINE:
            tokens = piece.usage.reply_tokens
    return Reply("".join(texts), len(texts), first or time.perf_counter() - start, tokens)


async def _cancel_ms(local: Local, requests: Sequence[Request]) -> float | None:
    """From the moment a reader leaves a full batch to the news that the engine has dropped it;
    None where the reply had ended by itself."""
    limits = Limits(max_tokens=1000, seconds=SECONDS)
    ended_before = len(local.ended)
    streams = [
        local.generator.stream([ChatMessage("user", request.text)], limits=limits)
        for request in requests[: max(CONCURRENCY)]
    ]
    pieces = [await anext(stream, None) for stream in streams]
    ended_already = len(local.ended)
    left = time.perf_counter()
    await close(streams[-1])
    if pieces[-1] is not None:
        await local.wait_for_ends(ended_already + 1)
    waited = time.perf_counter() - left
    was_cancelled = any(one.cancelled for one in local.ended[ended_already:])
    for stream in streams:
        await close(stream)
    await local.wait_for_ends(ended_before + len(streams))
    return 1000 * waited if was_cancelled else None


def _median(rows: Sequence[Row]) -> Row:
    def middle(name: str) -> float:
        return float(statistics.median(getattr(row, name) for row in rows))

    first = rows[0]
    compared = first.times_as_fast is not None
    return replace(
        first,
        per_second=middle("per_second"),
        first_piece_p50_ms=middle("first_piece_p50_ms"),
        first_piece_p95_ms=middle("first_piece_p95_ms"),
        times_as_fast=middle("times_as_fast") if compared else None,
        identical=min(row.identical or 0 for row in rows) if compared else None,
    )


def _show(report: Report) -> None:
    table = Table(title=f"{report.generator} {report.precision}".strip())
    counted = " and ".join(sorted({row.counted for row in report.rows}))
    for heading in ("", "at once", f"{counted}/s", "first p50", "p95", "faster", "same"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in report.rows:
        table.add_row(
            row.engine,
            str(row.concurrent),
            f"{row.per_second:.0f}",
            f"{row.first_piece_p50_ms:.0f} ms",
            f"{row.first_piece_p95_ms:.0f} ms",
            "" if row.times_as_fast is None else f"{row.times_as_fast:.1f}×",
            "" if row.identical is None else f"{row.identical} of {row.requests}",
        )
    console = Console()
    console.print(table)
    console.print("first: the first piece of a reply; faster, same: than and as the first row")
    if "pieces" in counted:
        console.print("pieces: the engine does not count its tokens; most send one a piece")
    if report.ready is not None and not report.ready.batches:
        console.print(f"no batches: {report.ready.reason}")
    if report.cancel_p50_ms is not None:
        console.print(
            f"a reader leaves a batch of {max(CONCURRENCY)}: the engine has stopped within "
            f"{report.cancel_p50_ms:.0f} ms (median of {CANCELS}), "
            f"{report.cancel_worst_ms:.0f} ms at worst"
        )

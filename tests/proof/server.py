"""Starts servers that break where they are told to, fast: each is forked from a process that
has imported everything already. Run by `tests.proof.fleet`, which talks to it line by line.

Told `start {plan}`, it forks a server that listens on the plan's inherited socket. It tells
events as JSON lines: `started`, `killed`, `adopted`, `wrote`, `disk`, and `exited`.
"""

import functools
import gc
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from app import turn_runner
from app.database import accepting, database, leases, training_jobs, turn_rows, turns
from app.main import create_app
from app.settings import Settings
from tests.proof import faults, points
from tests.proof.plan import Beats, Plan
from tests.proof.points import (
    ObservedResponses,
    Points,
    Statements,
    Transactions,
    replace_constant,
    replace_in_statements,
    wrap,
)
from tests.proof.stand_ins import ByFirstWord, EchoGenerator

SECRET = "a pepper for the proof, of no use elsewhere"
QUICK_TRAINING = Path(__file__).with_name("quick_training.py")


def serve(plan: Plan, listener: socket.socket) -> None:
    tell = functools.partial(_tell, os.getpid())
    transactions = Transactions()
    statements = Statements()
    statements.listen()
    passing = Points(plan.kill, tell)
    if plan.beats is not None:
        _set_beats(plan.beats)
    if plan.trains:
        wrap(points.training_runner, "_start", _quick_training)
    points.install(passing, transactions, statements)
    if plan.fault is not None:
        faults.plant(plan.fault, transactions, statements)
    if plan.full:
        faults.fill_disk(plan.full, plan.url, transactions, statements, tell)
    _tell_adoptions(tell)
    if plan.tells_writes:
        _tell_writes(tell)
    settings = Settings(
        _env_file=None,
        database_url=plan.url,
        data_dir=Path(plan.data_dir),
        secret=SECRET,
        embedded_worker=plan.trains,
        proof_share=0,  # nobody else asks the generator
        **plan.settings,
    )
    app = create_app(
        settings, generator=EchoGenerator(passing), load=lambda artifact: ByFirstWord()
    )
    config = uvicorn.Config(
        ObservedResponses(app, passing),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=8,
    )
    _Server(config, tell).run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, tell: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__(config)
        self._tell = tell

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._tell({"event": "started"})


def _set_beats(beats: Beats) -> None:
    for module in (accepting, leases, turns):
        replace_in_statements(module, turn_rows.LEASE_SECONDS, beats.lease)
        replace_constant(module, "LEASE_SECONDS", beats.lease)
    replace_constant(turn_runner, "GROW_SECONDS", beats.grow)
    replace_constant(turn_runner, "RENEW_SECONDS", beats.renew)
    replace_constant(turn_runner, "RECOVER_SECONDS", beats.recover)
    replace_constant(turn_runner, "POLL_SECONDS", beats.poll)
    replace_constant(training_jobs, "LEASE_SECONDS", beats.lease)
    if hasattr(database, "STALLED_SECONDS"):  # else some rows wait as long as the product does
        replace_constant(database, "STALLED_SECONDS", beats.stalled)
    replace_constant(points.training_runner, "POLL_SECONDS", beats.poll)
    replace_constant(points.training_runner, "REPORT_SECONDS", beats.grow)


def _tell_adoptions(tell: Callable[[Mapping[str, Any]], None]) -> None:
    named = False

    def telling(adopt: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(adopt)
        def observed(connection: Any, worker: str, **options: Any) -> Any:
            nonlocal named
            if not named:
                named = True
                tell({"event": "worker", "worker": worker})
            return adopt(connection, worker, **options)

        return observed

    wrap(leases, "adopt_orphans", telling)


def _tell_writes(tell: Callable[[Mapping[str, Any]], None]) -> None:
    def appends(grow: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(grow)
        def observed(connection: Any, replies: Any) -> Any:
            tell({"event": "wrote", "turns": [list(one) for one in replies]})
            return grow(connection, replies)

        return observed

    def finishes(finish: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(finish)
        def observed(connection: Any, turn_id: str, fence: int, *args: Any) -> Any:
            tell({"event": "wrote", "turns": [[turn_id, fence]]})
            return finish(connection, turn_id, fence, *args)

        return observed

    wrap(turns, "grow", appends)
    wrap(turns, "finish", finishes)
    wrap(turns, "fail", finishes)


def _quick_training(start: Callable[..., Any]) -> Callable[..., Any]:
    """The same child process with the same pipes and files, but one that learns nothing."""

    async def observed(data: Path, artifact: Path, *, threads: int) -> Any:
        import asyncio

        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(QUICK_TRAINING), str(data), str(artifact)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )

    return observed


# --- The process that forks ---


def main(descriptors: list[str]) -> None:
    listeners = [socket.socket(fileno=int(one)) for one in descriptors]
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(50),  # critical
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    _warm_up()
    gc.collect()
    gc.freeze()
    children: set[int] = set()
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides when we end
    _tell(0, {"event": "ready"})
    waiting = selectors.DefaultSelector()
    waiting.register(0, selectors.EVENT_READ)
    waiting.register(read, selectors.EVENT_READ)
    said = b""
    try:
        while True:
            ready = {key.fd for key, _ in waiting.select()}
            if read in ready:
                os.read(read, 4096)
                _bury(children)
            if 0 in ready:
                if not (more := os.read(0, 65536)):
                    return
                *lines, said = (said + more).split(b"\n")
                for line in lines:
                    children.add(_fork(Plan.from_json(line.decode()), listeners))
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def _fork(plan: Plan, listeners: list[socket.socket]) -> int:
    child = os.fork()
    if child:
        _tell(child, {"event": "forked"})
        return child
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(0)
        os.open(os.devnull, os.O_RDONLY)
        serve(plan, listeners[plan.place])
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _bury(children: set[int]) -> None:
    while children:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        children.discard(child)
        _tell(child, {"event": "exited", "status": os.waitstatus_to_exitcode(status)})


def _warm_up() -> None:
    """One whole life of a server, so that its forks find every module imported and compiled."""
    import asyncio
    import tempfile

    async def live(app: Any) -> None:
        async with app.router.lifespan_context(app):
            pass

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            _env_file=None, data_dir=Path(folder), secret=SECRET, embedded_worker=False
        )
        app = create_app(settings, generator=EchoGenerator(), load=lambda _: ByFirstWord())
        asyncio.run(live(app))
    import psycopg  # noqa: F401
    import uvloop  # noqa: F401


def _tell(process: int, event: Mapping[str, Any]) -> None:
    """One write of one short line: whole, even from several processes, even just before an end."""
    os.write(1, json.dumps({"pid": process, **event}).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])

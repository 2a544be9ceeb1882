"""Starts the server: one process on SQLite, the demo prepared, its address told."""

import asyncio
import ctypes
import fcntl
import logging
import math
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import make_url
from structlog.typing import EventDict

from app import demo as demo_assistant
from app.api.dependencies import Services
from app.connections import patient_protocol
from app.database import api_keys, assistant, model_versions, training_jobs
from app.database.api_keys import ADMIN, Scope
from app.database.database import Database
from app.errors import ConfigurationError, TwofoldError
from app.main import create_app, open_database, training_runner
from app.secret import load_secret
from app.settings import Settings

log = structlog.get_logger(__name__)

_M_ARENA_MAX = -8  # mallopt(3)


def serve(settings: Settings, *, demo: bool = False) -> None:
    """Until SIGTERM or SIGINT."""
    set_up_logging(settings)
    _share_heaps()
    console = Console(highlight=False)
    with _alone(settings), _listening(settings) as listener:
        key = asyncio.run(_prepare_demo(settings, console)) if demo else None
        app = create_app(settings)
        server = _Server(
            app,
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=patient_protocol(settings),
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=8,
                timeout_keep_alive=30,
                lifespan="on",  # a server that could not start does not serve
                limit_concurrency=settings.max_connections,
                forwarded_allow_ips=settings.trusted_proxies,
            ),
            lambda url: console.print(_banner(url, key, demo=demo, settings=settings)),
        )
        server.run(sockets=[listener])


def set_up_logging(settings: Settings) -> None:
    """Lines for people on a terminal, JSON for machines; never the text of a message."""
    level = getattr(logging, settings.log_level.upper())
    renderer: Any = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _traceback_without_words,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler()
    handler.setFormatter(WordlessFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler])


def _traceback_without_words(_: Any, __: str, event: EventDict) -> EventDict:
    """Where it went wrong, and with which kind of error. What an error says is left out, unless
    it is one of ours: a library's may quote what somebody wrote."""
    told = event.pop("exc_info", None)
    error = sys.exc_info()[1] if told is True else told[1] if isinstance(told, tuple) else told
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_described(error))
    return event


class WordlessFormatter(logging.Formatter):
    """The same for what libraries log: uvicorn tells every defect once more."""

    def formatException(self, ei: Any) -> str:
        return "\n".join(_described(ei[1])) if ei[1] is not None else ""


def _described(error: BaseException) -> Iterator[str]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        said = f": {one.message}" if isinstance(one, TwofoldError) else ""
        yield f"{type(one).__module__}.{type(one).__qualname__}{said}"
        for frame in traceback.extract_tb(one.__traceback__):
            yield f"  {frame.filename}:{frame.lineno} in {frame.name}"
        one = one.__cause__ or one.__context__


def _share_heaps() -> None:
    """glibc gives each thread a heap of its own; a dozen threads that mostly wait need one.
    Elsewhere this does nothing."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Holds the locks of the data folder and of the SQLite file, wherever that lies: SQLite is
    for one server. Writes the process id for doctor."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        for guarded, path in _locks(settings).items():
            file = files.enter_context(path.open("a+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if settings.is_sqlite:
                    raise ConfigurationError(
                        f"another server uses {guarded} already; stop it, or set "
                        "TWOFOLD_DATABASE_URL to a PostgreSQL database to run several"
                    ) from None
            else:
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
        yield


def _locks(settings: Settings) -> dict[Path, Path]:
    """What is for one server, and the file that is locked for it."""
    locks = {settings.data_dir: settings.process_file}
    if settings.is_sqlite and (file := make_url(settings.url).database):
        locks[Path(file)] = Path(f"{file}.lock")
    return locks


async def _prepare_demo(settings: Settings, console: Console) -> str | None:
    """Loads and trains the demo where that is still to do; returns the admin key if it is new."""
    database = open_database(settings)
    try:
        loaded = await database.write(demo_assistant.load)
        if loaded is not None:
            console.print(
                f"Loaded the demo: {loaded.intents} intents, {loaded.examples} examples, "
                f"{loaded.documents} documents."
            )
        if (await database.read(model_versions.live)).model_version is None:
            await _train_first_version(database, settings, console)
        known = await database.read(api_keys.everything)
        if any(Scope.ADMIN_WRITE in one.scopes for one in known):
            return None
        pepper = load_secret(settings)
        _, key = await database.write(
            lambda c: api_keys.create(c, "demo admin", ADMIN, pepper=pepper)
        )
        return key
    finally:
        await asyncio.to_thread(database.close)


async def _train_first_version(database: Database, settings: Settings, console: Console) -> None:
    await database.write(lambda c: training_jobs.create(c, max_waiting=1))
    runner = training_runner(database, settings)
    columns = (
        TextColumn("Training the intent network"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} epochs  {task.fields[said]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=1, said="")

        def show(epoch: Mapping[str, Any]) -> None:
            accuracy = epoch["valid_accuracy"]
            said = "" if accuracy is None else f"held-out accuracy {accuracy:.0%}"
            progress.update(task, completed=epoch["number"], total=epoch["of"], said=said)

        job = await runner.run_next(show)
    if job is None or job.model_version is None:
        reason = job.error.message if job and job.error else "no job ran"
        raise ConfigurationError(f"the demo's network could not be trained: {reason}")
    number = job.model_version
    await database.write(lambda c: model_versions.promote(c, number, by="demo"))
    console.print(f"Model version {number} is live.")


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """Bound before anything slow is done: an address in use is told at once."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        bound = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; "
            "choose another with --port"
        ) from error
    with bound:
        yield bound


def _banner(url: str, key: str | None, *, demo: bool, settings: Settings) -> Panel:
    lines = [f"Chat    {url}/", f"Admin   {url}/admin", f"API     {url}/openapi.json"]
    if key is not None:
        lines += ["", f"Admin key, shown this once:  [bold]{key}[/bold]"]
    elif demo:
        lines += ["", "Admin key: shown at the first start; `twofold keys create` makes another."]
    if demo:
        lines += ["", "Try:", *(f"  • {text}" for text in _things_to_try(settings))]
    return Panel("\n".join(lines), title="Twofold is listening", expand=False, padding=(1, 2))


def _things_to_try(settings: Settings) -> tuple[str, ...]:
    database = Database(settings.url)
    try:
        return database.read_now(assistant.get).suggestions[:3]
    finally:
        database.close()


class _Server(uvicorn.Server):
    """Tells its address once it listens (port 0 is only known then), and goes in peace."""

    def __init__(self, app: FastAPI, config: uvicorn.Config, tell: Any) -> None:
        super().__init__(config)
        self._app = app
        self._tell = tell

    async def main_loop(self) -> None:
        """Until a signal; then so that no client needs to see that this replica went.

        It says that it is not ready and serves on, until load balancers know; takes no new
        turns and lets the open ones end; hands over what is left. Only then are connections
        closed: every stream has ended by itself. A second signal says that somebody is in a
        hurry: nothing is waited for, and nothing is lost either."""
        await super().main_loop()
        services: Services = self._app.state.services
        settings = services.settings
        services.turns.drain()
        if signal.SIGTERM in self._captured_signals and not settings.is_sqlite:
            # Whoever keeps a connection open opens the next one elsewhere.
            self.config.encoded_headers.append((b"connection", b"close"))
            await self._serve_on(lambda: False, settings.drain_seconds)
        closing = asyncio.create_task(services.turns.close(settings.finish_seconds))
        await self._serve_on(closing.done)
        services.turns.hurry()
        try:
            await closing
        except Exception:  # a defect of ours; connections must be closed all the same
            log.exception("turns were not handed over")

    async def _serve_on(self, done: Callable[[], bool], seconds: float = math.inf) -> None:
        """Until it is done, the time is over, or a second signal comes."""
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end and len(self._captured_signals) < 2:
            await self.on_tick(0)
            await asyncio.sleep(0.1)

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            assert sockets is not None
            host, port = sockets[0].getsockname()[:2]
            host = "localhost" if host in ("0.0.0.0", "::") else host  # noqa: S104
            self._tell(f"http://{f'[{host}]' if ':' in host else host}:{port}")

"""Starts the server: one process on SQLite, the demo prepared, its address told."""

import asyncio
import ctypes
import fcntl
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import structlog
import uvicorn
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app import demo as demo_assistant
from app.connections import patient_protocol
from app.database import api_keys, assistant, model_versions, training_jobs
from app.database.api_keys import Scope
from app.database.database import Database
from app.errors import ConfigurationError
from app.main import create_app, open_database, training_runner
from app.secret import load_secret
from app.settings import Settings

_M_ARENA_MAX = -8  # mallopt(3)


def serve(settings: Settings, *, demo: bool = False) -> None:
    """Until SIGTERM or SIGINT."""
    set_up_logging(settings)
    _share_heaps()
    console = Console(highlight=False)
    with _alone(settings), _listening(settings) as listener:
        key = asyncio.run(_prepare_demo(settings, console)) if demo else None
        server = _Server(
            uvicorn.Config(
                create_app(settings),
                host=settings.host,
                port=settings.port,
                http=patient_protocol(settings),
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=8,
                timeout_keep_alive=30,
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
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=max(level, logging.WARNING), format="%(levelname)s %(message)s")


def _share_heaps() -> None:
    """glibc gives each thread a heap of its own; a dozen threads that mostly wait need one.
    Elsewhere this does nothing."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Holds the data folder's lock: SQLite is for one server. Writes the process id for doctor."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with settings.process_file.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if settings.is_sqlite:
                raise ConfigurationError(
                    f"another server uses {settings.data_dir} already; stop it, or set "
                    "TWOFOLD_DATABASE_URL to a PostgreSQL database to run several"
                ) from None
        else:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield


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
        if any(one.scope is Scope.ADMIN for one in await database.read(api_keys.everything)):
            return None
        pepper = load_secret(settings)
        _, key = await database.write(
            lambda c: api_keys.create(c, "demo admin", Scope.ADMIN, pepper=pepper)
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
    """Tells its address once it listens; port 0 is only known then."""

    def __init__(self, config: uvicorn.Config, tell: Any) -> None:
        super().__init__(config)
        self._tell = tell

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            assert sockets is not None
            host, port = sockets[0].getsockname()[:2]
            host = "localhost" if host in ("0.0.0.0", "::") else host  # noqa: S104
            self._tell(f"http://{f'[{host}]' if ':' in host else host}:{port}")

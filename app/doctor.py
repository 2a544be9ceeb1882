"""Looks at an installation and at the server that runs on it."""

import asyncio
import importlib.metadata
import platform
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from app.database import intents, model_versions
from app.database.database import Database, sqlite_has_wal_reset_bug
from app.database.migration import current, newest
from app.errors import TwofoldError
from app.main import configured_generators
from app.secret import FILE_NAME
from app.settings import Settings
from generator.closing import close
from generator.interface import ChatMessage, Generator, GeneratorError, Limits
from generator.remote import RemoteGenerator

CPU_SAMPLE_SECONDS = 2.0
SERVER_MEMORY_MB = 450


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    detail: str
    fine: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine(settings: Settings) -> list[Finding]:
    checks: list[Callable[[Settings], Finding]] = [
        _python, _torch, _sqlite, _database, _secret, _disk, _generators, _server,
    ]  # fmt: skip
    return [check(settings) for check in checks]


def _python(_: Settings) -> Finding:
    return Finding("python", platform.python_version(), _at_least(platform.python_version()))


def _at_least(version: str) -> bool:
    return tuple(map(int, version.split(".")[:2])) >= (3, 11)


def _torch(_: Settings) -> Finding:
    try:
        return Finding("torch", importlib.metadata.version("torch"))
    except importlib.metadata.PackageNotFoundError:
        return Finding("torch", "not installed; `./run setup` installs it", fine=False)


def _sqlite(settings: Settings) -> Finding:
    said = sqlite3.sqlite_version
    if settings.is_sqlite and sqlite_has_wal_reset_bug():
        said += ", has the WAL-reset bug: we write through one connection"
    return Finding("sqlite", said)


def _database(settings: Settings) -> Finding:
    kind = "SQLite" if settings.is_sqlite else "PostgreSQL"
    if not settings.database_url and not (settings.data_dir / "twofold.db").exists():
        return Finding("database", "SQLite, not there yet; the first start makes it")
    try:
        database = Database(settings.url)
        try:
            found, wanted = database.read_now(current), newest()
            if found != wanted:
                return Finding("database", f"{kind}, tables {found}; the next start migrates")
            live = database.read_now(model_versions.live).model_version
            count = len(database.read_now(intents.everything))
        finally:
            database.close()
    except TwofoldError as error:
        return Finding("database", f"{kind}: {error.message}", fine=False)
    version = f"model version {live} live" if live else "no model version live"
    return Finding("database", f"{kind}, tables {found}, {count} intents, {version}")


def _secret(settings: Settings) -> Finding:
    if settings.secret is not None:
        return Finding("secret", "TWOFOLD_SECRET")
    path = settings.data_dir / FILE_NAME
    if not path.exists():
        return Finding("secret", "not there yet; the first start makes it")
    mode = path.stat().st_mode & 0o777
    private = mode & 0o077 == 0
    return Finding(
        "secret", f"{path}, mode {mode:o}" + ("" if private else "; make it 600"), private
    )


def _disk(settings: Settings) -> Finding:
    folder = settings.data_dir if settings.data_dir.exists() else settings.data_dir.parent
    free = shutil.disk_usage(folder.absolute()).free / 1e9
    return Finding("disk", f"{free:.1f} GB free", free > 0.5)


def _generators(settings: Settings) -> Finding:
    """A remote engine is asked for the beginning of a reply: where that comes, its address, the
    key and the name of the network are right."""
    try:
        chain = configured_generators(settings)
    except TwofoldError as error:
        return Finding("generators", error.message, fine=False)
    said = ", ".join(one.name for one in chain) or "none: every open-ended turn gets an apology"
    limits = Limits(settings.generation_tokens, settings.first_piece_seconds)
    for remote in (one for one in chain if isinstance(one, RemoteGenerator)):
        try:
            asyncio.run(_first_piece(remote, limits))
        except GeneratorError as error:
            return Finding("generators", f"{said}; {remote.name}: {error}", fine=False)
        said += f"; {remote.name} answers"
    return Finding("generators", said)


async def _first_piece(generator: Generator, limits: Limits) -> None:
    pieces = generator.stream([ChatMessage("user", "hello")], limits=limits)
    try:
        await anext(pieces)
    finally:
        await close(pieces)
        await generator.aclose()


def _server(settings: Settings) -> Finding:
    """Memory of the server with all its children, and what it burns while nobody asks."""
    try:
        process = psutil.Process(int(settings.process_file.read_text()))
        family = [process, *process.children(recursive=True)]
        before = sum(_cpu_seconds(one) for one in family)
        time.sleep(CPU_SAMPLE_SECONDS)
        burnt = (sum(_cpu_seconds(one) for one in family) - before) / CPU_SAMPLE_SECONDS
        memory = sum(one.memory_info().rss for one in family) / 1e6
    except (OSError, ValueError, psutil.Error):
        return Finding("server", "not running")
    return Finding(
        "server",
        f"process {process.pid} and {len(family) - 1} children: {memory:.0f} MB "
        f"(at most {SERVER_MEMORY_MB}), {burnt:.1%} of one core",
        memory <= SERVER_MEMORY_MB or bool(settings.local_model),
    )


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system

"""A real server in its own process for the benchmark of the hybrid, and what it costs to ask it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil

from app.database import api_keys, intents, model_versions
from app.database.database import Database
from app.database.migration import migrate
from app.dialogue.responses import readable
from intent.artifact import load

ROOT = Path(__file__).parents[2]
SECRET = "a secret of the benchmark, nobody else's"
START_SECONDS = 300
PATIENCE_SECONDS = 600
GENERATOR = "generator.local.process"


@dataclass(frozen=True, slots=True)
class Answer:
    seconds: float
    content: Any


class Client:
    """One kept connection. Plain, so that the client is not what is measured."""

    def __init__(self, port: int, key: str = "") -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        return self._ask("POST", path, json.dumps(body).encode())

    def get(self, path: str) -> Answer:
        return self._ask("GET", path, None)

    def _ask(self, method: str, path: str, body: bytes | None) -> Answer:
        start = time.perf_counter()
        self._connection.request(method, path, body, self._headers)
        response = self._connection.getresponse()
        content = response.read()
        seconds = time.perf_counter() - start
        if response.status not in (200, 201):
            raise RuntimeError(f"{method} {path}: {response.status} {content[:300]!r}")
        return Answer(seconds, json.loads(content))

    def conversation(self) -> str:
        return str(self.post("/v1/conversations", {}).content["id"])

    def turn(self, conversation: str, text: str) -> Answer:
        return self.post(f"/v1/conversations/{conversation}/turns", {"text": text})

    def stream_turn(self, conversation: str, text: str, begun: Callable[[], None]) -> None:
        """`begun` is called once the turn is stored and is being answered."""
        headers = {**self._headers, "Accept": "text/event-stream"}
        path = f"/v1/conversations/{conversation}/turns"
        self._connection.request("POST", path, json.dumps({"text": text}).encode(), headers)
        response = self._connection.getresponse()
        begun()
        response.read()

    def close(self) -> None:
        self._connection.close()


@dataclass(slots=True)
class Service:
    port: int
    key: str
    _process: psutil.Process
    _generators: list[psutil.Process] = field(default_factory=list)

    @classmethod
    def started(
        cls, command: Sequence[str], port: int, stack: ExitStack, *, key: str = "",
        environment: Mapping[str, str] = {}, folder: Path = ROOT, ready: str = "/readyz",
    ) -> "Service":  # fmt: skip
        """Raises RuntimeError with what it said where it ends instead."""
        kept = {name: value for name, value in os.environ.items() if name[:8] != "TWOFOLD_"}
        log = stack.enter_context((folder / f"{port}.log").open("w+"))
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**kept, "PYTHONPATH": str(ROOT), **environment},
            cwd=folder,  # where no .env lies
            stdout=log,
            stderr=log,
        )
        stack.callback(_stop, process)
        started = cls(port, key, psutil.Process(process.pid))
        until = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < until:
            with suppress(OSError):
                client = Client(port)
                client.get(ready)
                client.close()
                return started
            time.sleep(0.1)
        log.seek(0)
        raise RuntimeError(f"{command[0]} did not start: {log.read()[-1000:]}")

    def client(self) -> Client:
        return Client(self.port, self.key)

    def find_generator(self) -> None:
        """Once a network is loaded: its process counts from then on."""
        children = self._process.children(recursive=True)
        self._generators = [one for one in children if GENERATOR in one.cmdline()]

    def cpu_seconds(self) -> float:
        times = [one.cpu_times() for one in (self._process, *self._generators)]
        return float(sum(one.user + one.system for one in times))


def twofold(folder: Path, artifact: Path, settings: Mapping[str, str], stack: ExitStack) -> Service:
    """A server on SQLite. The version of `artifact` is there and not promoted: everything is
    generated until `promote`."""
    folder.mkdir()
    key = _prepare(f"sqlite:///{folder / 'twofold.db'}", artifact)
    port = free_port()
    return Service.started(
        ["app.cli", "serve", "--port", str(port)],
        port,
        stack,
        key=key,
        environment={
            "TWOFOLD_DATA_DIR": str(folder),
            "TWOFOLD_SECRET": SECRET,
            "TWOFOLD_EMBEDDED_WORKER": "false",
            "TWOFOLD_LOG_LEVEL": "warning",
            "TWOFOLD_TURNS_PER_MINUTE_PER_KEY": "10000000",
            **settings,
        },
        folder=folder,
    )


def promote(service: Service) -> None:
    client = service.client()
    client.post("/admin/model-versions/1/promote", {})
    client.close()


def _prepare(url: str, artifact: Path) -> str:
    """An assistant whose intents have a reply each; returns a key."""
    database = Database(url)
    database.write_now(migrate)
    known = load(artifact)
    for name in known.intents:
        reply = f"Here is what you need to know about this: {readable(name)}."
        database.write_now(partial(intents.create, name=name, replies=[reply]))
    database.write_now(
        lambda c: model_versions.add(
            c, artifact.read_bytes(), data_hash=known.card["data_hash"],
            intents=len(known.intents), examples=sum(known.card["intents"].values()),
            evaluation={}, training_job_id=None,
        )
    )  # fmt: skip
    _, key = database.write_now(
        lambda c: api_keys.create(c, "benchmark", api_keys.ADMIN, pepper=SECRET.encode())
    )
    database.close()
    return key


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

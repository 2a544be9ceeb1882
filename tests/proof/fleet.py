"""Server processes, as the driver holds them: started in a moment, killed, stopped and woken."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.proof.plan import Plan

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
LOG_NAME = "servers.log"


class Process:
    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self._log = log
        self.started = asyncio.Event()
        self.exited = asyncio.Event()
        self.killed_at: str | None = None
        """The named point at which it ended itself."""
        self.worker: str | None = None
        self.wrote: list[tuple[float, str, int]] = []
        """(monotonic time, turn, fence) of each write to a turn under way."""
        self.disk_failures: dict[str, int] | None = None
        self.status: int | None = None

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def end(self, number: int = signal.SIGKILL) -> None:
        self.send(number)
        await self.exited.wait()

    async def until_started(self) -> None:
        """Raises when it ends instead."""
        ends = asyncio.ensure_future(self.exited.wait())
        starts = asyncio.ensure_future(self.started.wait())
        try:
            await asyncio.wait(
                {ends, starts}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if not self.started.is_set():
                lines = self._log.read_text().strip().splitlines()
                said = [one for one in lines if one[:1].isalpha() and ":" in one][-3:]
                raise RuntimeError(f"a server did not start (status {self.status}): {said}")
        finally:
            ends.cancel()
            starts.cancel()

    def hear(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "started":
                self.started.set()
            case "killed":
                self.killed_at = event["point"]
            case "worker":
                self.worker = event["worker"]
            case "wrote":
                now = time.monotonic()
                self.wrote += [(now, turn, fence) for turn, fence in event["turns"]]
            case "disk":
                self.disk_failures = event["failed"]
            case "exited":
                self.status = event["status"]
                self.exited.set()


class Fleet:
    """The zygote and its listening sockets, one per place; they outlive every server, so that
    a client that comes while none runs waits for the next one, as behind a load balancer."""

    def __init__(self, folder: Path, *, places: int = 2) -> None:
        self._folder = folder
        self._listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(places)]
        self.ports: Sequence[int] = [one.getsockname()[1] for one in self._listeners]
        self._processes: dict[int, Process] = {}
        self._starting: deque[asyncio.Future[Process]] = deque()
        self._ready = asyncio.Event()

    async def __aenter__(self) -> Self:
        numbers = [one.fileno() for one in self._listeners]
        known = ("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV")
        self._log = (self._folder / LOG_NAME).open("ab")
        self._zygote = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.proof.server", *map(str, numbers)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
            pass_fds=numbers,
            limit=1 << 20,
            env={name: os.environ[name] for name in known if name in os.environ}
            | {
                "TMPDIR": str(self._folder),
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
                "PYTHONWARNINGS": "ignore",
            },
        )
        self._hearing = asyncio.create_task(self._hear())
        await asyncio.wait_for(self._ready.wait(), START_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._zygote.stdin is not None
        self._zygote.stdin.close()  # it kills whom it has started, and ends
        await self._zygote.wait()
        await self._hearing
        for one in self._listeners:
            one.close()
        self._log.close()

    async def start(self, plan: Plan) -> Process:
        """Does not wait until it listens: see `until_started`."""
        assert self._zygote.stdin is not None
        self._starting.append(asyncio.get_running_loop().create_future())
        future = self._starting[-1]
        self._zygote.stdin.write(plan.to_json().encode() + b"\n")
        await self._zygote.stdin.drain()
        return await future

    async def end_all(self) -> None:
        """So that nobody of a row that went wrong answers for the next one."""
        for process in list(self._processes.values()):
            await process.end()

    async def _hear(self) -> None:
        assert self._zygote.stdout is not None
        async for line in self._zygote.stdout:
            event = json.loads(line)
            pid = event["pid"]
            match event["event"]:
                case "ready":
                    self._ready.set()
                case "forked":
                    self._starting.popleft().set_result(self._process(pid))
                case "exited":
                    self._process(pid).hear(event)
                    del self._processes[pid]
                case _:
                    self._process(pid).hear(event)
        for future in self._starting:
            future.set_exception(RuntimeError("the zygote has ended"))

    def _process(self, pid: int) -> Process:
        """Known from whichever of its lines comes first."""
        if pid not in self._processes:
            self._processes[pid] = Process(pid, self._folder / LOG_NAME)
        return self._processes[pid]

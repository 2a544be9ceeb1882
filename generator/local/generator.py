"""Any Hugging Face causal language network, in its own process, many requests at once.

A crash or an out-of-memory there never takes the chat down. One LocalGenerator belongs to one
event loop.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from generator.admission import Admission
from generator.interface import (
    ChatMessage,
    GeneratorError,
    GeneratorTimeout,
    GeneratorUnavailable,
    Limits,
    Passage,
    Piece,
    TokensBy,
    Usage,
)
from generator.prompt import INSTRUCTIONS, PromptTooLong

ERRORS = {error.code: error for error in (GeneratorError, GeneratorUnavailable, PromptTooLong)}
MOST_BACKOFF_SECONDS = 30.0
LINE_BYTES = 1024 * 1024
PACKAGE_ROOT = str(Path(__file__).resolve().parent.parent)

Precision = Literal["float32", "bfloat16", "int8"]


@dataclass(frozen=True, slots=True)
class Ready:
    """What the process says when the network is loaded."""

    batches: bool
    reason: str
    """Why it does not batch; empty where it does."""
    context_tokens: int
    device: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The process works on a request no longer. `tokens`: how many it made for it."""

    tokens: int
    cancelled: bool


class LocalGenerator:
    def __init__(
        self,
        model: str | Path,
        *,
        name: str = "local",
        precision: Precision = "float32",
        device: str | None = None,
        threads: int | None = None,
        context_tokens: int | None = None,
        most_running: int = 16,
        waiting: int = 48,
        cache_mb: int = 1024,
        plain_chat: bool = False,
        instructions: str = INSTRUCTIONS,
        on_ready: Callable[[Ready], None] = lambda _: None,
        on_ended: Callable[[Ended], None] = lambda _: None,
    ) -> None:
        """`model`: a folder written by save_pretrained, or a name on the hub.

        The process starts with the first call, or with `start()`. `device`: CUDA when there
        is one. `context_tokens` lowers what the network says it can read. `most_running` requests
        are worked on in one batch, where the architecture can do that, and `waiting` more may
        wait; `cache_mb` bounds the memory for their attention keys and values. `plain_chat`
        writes "User: …" lines for a network without a chat template, which is refused otherwise.
        """
        self._name = name
        self._config = {
            "network": {
                "model": str(model),
                "precision": precision,
                "device": device,
                "threads": threads,
                "context_tokens": context_tokens,
                "plain_chat": plain_chat,
                "instructions": instructions,
            },
            "most_running": most_running,
            "cache_mb": cache_mb,
        }
        self._admission = Admission(running=most_running, waiting=waiting)
        self._on_ready = on_ready
        self._on_ended = on_ended
        self._worker: _Worker | None = None
        self._starting: asyncio.Task[_Worker] | None = None
        self._failures = 0
        self._not_before = 0.0
        self._reason = ""
        self._closed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def process_id(self) -> int | None:
        """None while no process is running."""
        return self._worker.process_id if self._worker and self._worker.alive else None

    async def start(self) -> None:
        """Loads the network now, so that the first user does not wait for it."""
        await self._ready_worker()

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        passages: Sequence[Passage] = (),
        limits: Limits = Limits(),  # noqa: B008 - frozen, safe to share
    ) -> AsyncIterator[Piece]:
        deadline = asyncio.get_running_loop().time() + limits.seconds
        async with self._admission.place(deadline):
            try:
                async with asyncio.timeout_at(deadline):
                    worker = await self._ready_worker()
            except TimeoutError as error:
                raise GeneratorTimeout("the network was not loaded in time") from error
            request = worker.ask(messages, passages, limits)
            try:
                complete = False
                while not complete:
                    said = await worker.next_said(request, deadline)
                    yield Piece(said.text, self._name, usage=said.usage)
                    complete = said.complete
                self._failures = 0
            finally:
                worker.forget(request)

    async def _ready_worker(self) -> "_Worker":
        if self._closed:
            raise GeneratorUnavailable("this generator was closed")
        if self._worker is not None and self._worker.alive:
            return self._worker
        if self._starting is None:
            if self._worker is not None and self._worker.died:
                self._worker.died = False
                self._note_failure("the process of the local generator died again and again")
            if asyncio.get_running_loop().time() < self._not_before:
                raise GeneratorUnavailable(self._reason)
            self._starting = asyncio.create_task(self._start_worker())
            self._starting.add_done_callback(_retrieve)
        # Shielded: a caller whose time is over leaves, and the next one finds it loaded.
        return await asyncio.shield(self._starting)

    async def _start_worker(self) -> "_Worker":
        try:
            if self._worker is not None:
                await self._worker.end()
            worker = self._worker = await _Worker.spawn(self._config, self._on_ended)
            ready = await worker.wait_until_ready()
        except GeneratorUnavailable as error:
            await worker.end()
            self._worker = None
            self._failures = max(self._failures, 1)
            self._note_failure(str(error))
            raise
        else:
            self._on_ready(ready)
            return worker
        finally:
            self._starting = None

    def _note_failure(self, reason: str) -> None:
        """The first death of a process that had been working is forgiven at once; from then
        on each failure doubles the time in which calls are refused with its reason."""
        self._failures += 1
        wait = (
            0.0 if self._failures == 1 else min(2.0 ** (self._failures - 2), MOST_BACKOFF_SECONDS)
        )
        self._not_before = asyncio.get_running_loop().time() + wait
        self._reason = reason

    async def aclose(self) -> None:
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            with suppress(asyncio.CancelledError, GeneratorError):
                await self._starting
        if self._worker is not None:
            await self._worker.end()


def _retrieve(starting: "asyncio.Task[_Worker]") -> None:
    """Whoever waited for it may have left; an error that nobody reads would be a warning."""
    if not starting.cancelled():
        starting.exception()


@dataclass(frozen=True, slots=True)
class _Said:
    text: str
    usage: Usage
    complete: bool


class _Worker:
    """One process and the line protocol with it."""

    def __init__(
        self, process: asyncio.subprocess.Process, on_ended: Callable[[Ended], None]
    ) -> None:
        self.alive = True
        self.died = False
        self._process = process
        self._on_ended = on_ended
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._answers: dict[int, asyncio.Queue[dict[str, Any]]] = {}
        self._last_id = 0
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def spawn(cls, config: dict[str, Any], on_ended: Callable[[Ended], None]) -> "_Worker":
        # The child must find this package even where it is not installed.
        search_path = os.pathsep.join(filter(None, [PACKAGE_ROOT, os.environ.get("PYTHONPATH")]))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "generator.local.process",
            json.dumps(config),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search_path, "TOKENIZERS_PARALLELISM": "false"},
            limit=LINE_BYTES,
            # Ctrl-C in a terminal is for the parent; this one ends with its input.
            start_new_session=True,
        )
        return cls(process, on_ended)

    @property
    def process_id(self) -> int:
        return self._process.pid

    async def wait_until_ready(self) -> Ready:
        return await asyncio.shield(self._ready)

    def ask(
        self, messages: Sequence[ChatMessage], passages: Sequence[Passage], limits: Limits
    ) -> int:
        self._last_id += 1
        self._answers[self._last_id] = asyncio.Queue()
        self._send(
            {
                "id": self._last_id,
                "messages": [asdict(message) for message in messages],
                "passages": [asdict(passage) for passage in passages],
                "limits": asdict(limits),
            }
        )
        return self._last_id

    async def next_said(self, request: int, deadline: float) -> _Said:
        try:
            async with asyncio.timeout_at(deadline):
                answer = await self._answers[request].get()
        except TimeoutError as error:
            raise GeneratorTimeout("the reply was not finished in time") from error
        if "error" in answer:
            raise ERRORS.get(answer["code"], GeneratorError)(answer["error"])
        usage = Usage(**answer["usage"], tokens_by=TokensBy.NETWORK)
        return _Said(answer.get("text", ""), usage, "done" in answer)

    def forget(self, request: int) -> None:
        """Stops the work on a request that is still running."""
        del self._answers[request]
        self._send({"cancel": request})

    def _send(self, message: dict[str, Any]) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        if self.alive and not stdin.is_closing():
            stdin.write(json.dumps(message, default=str).encode() + b"\n")

    async def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        try:
            while line := await stdout.readline():
                message = json.loads(line)
                if "ready" in message:
                    self._ready.set_result(Ready(**message["ready"]))
                    continue
                if "failed" in message:
                    self.alive = False
                    self._ready.set_exception(GeneratorUnavailable(message["failed"]))
                    continue
                if "tokens" in message:
                    self._on_ended(Ended(message["tokens"], "cancelled" in message))
                if message["id"] in self._answers:
                    self._answers[message["id"]].put_nowait(message)
        finally:
            self.alive = False
            self.died = True
            gone = "the process of the local generator died; the next call starts it again"
            lost = {"error": gone, "code": GeneratorUnavailable.code}
            for answers in self._answers.values():
                answers.put_nowait(lost)
            if not self._ready.done():
                self._ready.set_exception(GeneratorUnavailable(gone))
            # Nobody may be waiting any more; an unread exception would be a warning.
            self._ready.exception()

    async def end(self) -> None:
        """The process leaves when its input closes, unless it is deep in a computation."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.close()
        try:
            async with asyncio.timeout(2.0):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await self._reader
        with suppress(OSError):
            await stdin.wait_closed()

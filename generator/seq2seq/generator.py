"""The trained encoder-decoder as a `Generator`: a thread of this process, and no torch in it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from generator.admission import Admission
from generator.interface import (
    ChatMessage,
    GeneratorError,
    GeneratorTimeout,
    GeneratorUnavailable,
    Limits,
    Passage,
    Piece,
    Usage,
)
from generator.spoken_text import SpokenText

if TYPE_CHECKING:  # NumPy and the tokenizer are loaded with the network
    from generator.seq2seq.artifact import Seq2Seq
    from generator.seq2seq.search import Array, Decoding


class Seq2SeqGenerator:
    """Reads the last turns, as many as the network was trained to; passages and system messages
    it does not read. At temperature 0 it searches for the best reply with a beam, and says a
    word as soon as all that could still win agree on it; above, it draws."""

    def __init__(
        self,
        folder: str | Path,
        *,
        name: str = "seq2seq",
        beam_width: int = 4,
        waiting: int = 32,
    ) -> None:
        """`folder`: written by `python -m generator train`; read at the first call, or with
        `start()`. One reply is worked on at a time and `waiting` more may wait."""
        self._folder = Path(folder)
        self._name = name
        self._beam_width = beam_width
        self._admission = Admission(running=1, waiting=waiting)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._network: Seq2Seq | None = None
        self._cancelled: set[threading.Event] = set()
        self._closed = False

    @property
    def name(self) -> str:
        return self._name

    async def start(self) -> None:
        """Loads the network now, so that the first user does not wait for it."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        passages: Sequence[Passage] = (),
        limits: Limits = Limits(),  # noqa: B008 - frozen, safe to share
    ) -> AsyncIterator[Piece]:
        if not messages or messages[-1].role != "user":
            raise GeneratorError("the last message must be the user's")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limits.seconds
        async with self._admission.place(deadline):
            if self._closed:
                raise GeneratorUnavailable("this generator was closed")
            pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
            cancelled = threading.Event()

            def say(text: str, cpu_seconds: float) -> None:
                piece = Piece(text, self._name, usage=Usage(cpu_seconds=cpu_seconds))
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

            def end(work: asyncio.Future[None]) -> None:
                work.exception()  # where the reader has left, nobody else asks for it
                pieces.put_nowait(None)

            self._cancelled.add(cancelled)
            work = loop.run_in_executor(
                self._thread, self._reply, list(messages), limits, say, cancelled
            )
            work.add_done_callback(end)
            try:
                while (piece := await _next(pieces, deadline)) is not None:
                    yield piece
                await work
            finally:
                cancelled.set()
                self._cancelled.discard(cancelled)

    def _reply(
        self,
        messages: Sequence[ChatMessage],
        limits: Limits,
        say: Callable[[str, float], None],
        cancelled: threading.Event,
    ) -> None:
        network = self._load()
        start = time.thread_time()

        def say_so_far(text: str) -> None:
            say(text, time.thread_time() - start)

        spoken = SpokenText(network.tokens.decode, say_so_far, limits.stop)
        ids = network.say(
            _Cancellable(network.read(messages), cancelled),
            most_tokens=limits.max_tokens,
            temperature=limits.temperature,
            seed=limits.seed,
            beam_width=self._beam_width,
        )
        try:
            for one in ids:
                spoken.add([one])
                if spoken.stopped:
                    return
            spoken.finish()
            say_so_far("")
        except _Cancelled:
            return

    def _load(self) -> "Seq2Seq":
        """Raises GeneratorUnavailable, every time anew: the folder may have been put right."""
        if self._network is None:
            from generator.seq2seq.artifact import load

            self._network = load(self._folder)
        return self._network

    async def aclose(self) -> None:
        self._closed = True
        for cancelled in self._cancelled:
            cancelled.set()
        await asyncio.to_thread(self._thread.shutdown)


class _Cancelled(Exception):
    pass


@dataclass(frozen=True)
class _Cancellable:
    """Stops a search at its next step: a beam may take many before it says anything."""

    decoding: "Decoding"
    cancelled: threading.Event

    def step(self, tokens: Sequence[int], parents: Sequence[int]) -> "Array":
        if self.cancelled.is_set():
            raise _Cancelled
        return self.decoding.step(tokens, parents)


async def _next(pieces: "asyncio.Queue[Piece | None]", deadline: float) -> Piece | None:
    """None when the reply is complete."""
    try:
        async with asyncio.timeout_at(deadline):
            return await pieces.get()
    except TimeoutError as error:
        raise GeneratorTimeout("the reply was not finished in time") from error

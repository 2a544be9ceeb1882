"""RemoteGenerator against a real server on this machine, kind and hostile."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from generator.interface import (
    ChatMessage,
    GeneratorError,
    GeneratorOverloaded,
    GeneratorRefused,
    GeneratorTimeout,
    GeneratorUnavailable,
    Limits,
    Passage,
)
from generator.remote import RemoteGenerator, RemoteLimits

from .conftest import collect

pytestmark = pytest.mark.anyio

ASK = [ChatMessage("user", "when does it arrive?")]
KEY = "sk-very-secret"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"
Say = Callable[["Server", asyncio.StreamWriter], Awaitable[None]]


def delta(text: str, **choice: object) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, **choice}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@dataclass
class Server:
    answers: list[bytes | Say]
    """One per request, the last one again when they run out."""
    url: str = ""
    requests: list[tuple[str, dict[str, str], dict]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    client_left: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *lines = head.strip().split("\r\n")
            headers = {k.lower(): v for k, v in (each.split(": ", 1) for each in lines)}
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            self.requests.append((line, headers, body))
            self.asked.set()
            answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                watch = asyncio.create_task(self.watch(reader))
                await answer(self, writer)
                watch.cancel()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.client_left.set()
        finally:
            writer.close()

    async def watch(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            await reader.read(1)
        self.client_left.set()


@asynccontextmanager
async def engine(*answers: bytes | Say) -> AsyncIterator[Server]:
    server = Server(list(answers))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    server.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield server
    finally:
        server.go_on.set()
        listening.close()
        await listening.wait_closed()


async def ask(server: Server, *, limits: Limits | None = None, **remote_limits: float) -> str:
    generator = RemoteGenerator(
        server.url, "tiny", KEY, remote_limits=RemoteLimits(**remote_limits)
    )
    try:
        pieces = await collect(generator.stream(ASK, limits=limits or Limits(seconds=20)))
    finally:
        await generator.aclose()
    assert all(piece.generator == "remote" for piece in pieces)
    return "".join(piece.text for piece in pieces)


async def test_a_reply_is_streamed_piece_by_piece() -> None:
    usage = b'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n'
    role = b'data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}\r\n\r\n'
    async with engine(
        STREAM + b": hello\n\n" + role + delta("On ") + delta("Mönday.") + usage + DONE + b"junk"
    ) as server:
        limits = Limits(max_tokens=9, temperature=0.5, seed=4, stop=("\n",))
        assert await ask(server, limits=limits) == "On Mönday."
    line, headers, body = server.requests[0]
    assert line == "POST /v1/chat/completions HTTP/1.1"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body["messages"][-1] == {"role": "user", "content": "when does it arrive?"}
    assert {key: body[key] for key in ("model", "max_tokens", "temperature", "seed", "stop")} == {
        "model": "tiny",
        "max_tokens": 9,
        "temperature": 0.5,
        "seed": 4,
        "stop": ["\n"],
    }


async def test_passages_travel_with_the_question() -> None:
    async with engine(STREAM + delta("ok") + DONE) as server:
        generator = RemoteGenerator(server.url, "tiny")
        passage = Passage("1", "Delivery", "It takes 3 days.", "d.md")
        await collect(generator.stream(ASK, [passage]))
        await generator.aclose()
    assert "It takes 3 days." in server.requests[0][2]["messages"][-1]["content"]
    assert "authorization" not in server.requests[0][1]


def status(code: int, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {code} X", *headers, "Content-Length: 2", "Connection: close", "", "no"]
    return "\r\n".join(lines).encode()


async def trickle_without_newline(server: Server, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM)
    while not server.client_left.is_set():
        writer.write(b"data: " + b"x" * 4096)
        await writer.drain()


async def drown_in_small_talk(server: Server, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM)
    while not server.client_left.is_set():
        writer.write(b": still here\n\n" * 400)
        await writer.drain()


GARBAGE = b"data: not json\n\n"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (STREAM + b"data: \xff\xfe\n\n", GeneratorError, "not UTF-8"),
        (trickle_without_newline, GeneratorError, "a line over"),
        (drown_in_small_talk, GeneratorError, "more than"),
        (STREAM + delta("half"), GeneratorError, "before the reply was complete"),
        (STREAM + DONE, GeneratorError, "empty"),
        (STREAM + GARBAGE, GeneratorError, "not JSON"),
        (STREAM + b"data: " + b"[" * 100_000 + b"\n\n", GeneratorError, "not JSON"),
        (STREAM + b'data: {"choices": 3}\n\n', GeneratorError, "no chat completion chunk"),
        (STREAM + b'data: {"error": {"message": "boo"}}\n\n', GeneratorError, "reported an error"),
        (status(302, "Location: http://127.0.0.1:9/"), GeneratorUnavailable, "redirects"),
        (status(401), GeneratorUnavailable, "refused the key"),
        (status(404), GeneratorUnavailable, "404"),
        (status(422), GeneratorRefused, "rejected"),
        (status(500), GeneratorUnavailable, "failed"),
        (status(200, "Content-Type: text/html"), GeneratorUnavailable, "does not stream"),
        (status(429), GeneratorOverloaded, "full"),
        (status(503, "Retry-After: 9999"), GeneratorOverloaded, "full"),
        (b"nonsense\r\n\r\n", GeneratorUnavailable, "broke"),
        (b"", GeneratorUnavailable, "broke"),
    ],
)
async def test_a_hostile_engine_gets_a_clear_error(
    answer: bytes | Say, error: type[GeneratorError], message: str
) -> None:
    async with engine(answer) as server:
        with pytest.raises(error, match=message) as caught:
            await ask(server, total_bytes=400_000)
    assert type(caught.value) is error
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value.__cause__)


async def test_a_full_engine_is_asked_once_more() -> None:
    async with engine(
        status(429, "Retry-After: 0"), STREAM + delta("now") + delta("", finish_reason="stop")
    ) as server:
        assert await ask(server) == "now"
        assert len(server.requests) == 2
    async with engine(status(503, "Retry-After: 60"), STREAM + delta("now") + DONE) as server:
        with pytest.raises(GeneratorOverloaded):
            await ask(server)
        assert len(server.requests) == 1


async def test_an_engine_that_keeps_failing_is_left_alone() -> None:
    async with engine(status(500)) as server:
        limits = RemoteLimits(failures_in_a_row=3, rest_seconds=3600)
        generator = RemoteGenerator(server.url, "tiny", remote_limits=limits)
        for _ in range(3):
            with pytest.raises(GeneratorUnavailable, match="failed"):
                await collect(generator.stream(ASK))
        with pytest.raises(GeneratorUnavailable, match="3 times in a row"):
            await collect(generator.stream(ASK))
        assert len(server.requests) == 3
        await generator.aclose()


async def test_an_engine_that_works_again_is_found() -> None:
    good = STREAM + delta("back") + DONE
    async with engine(status(500), status(500), good) as server:
        limits = RemoteLimits(failures_in_a_row=1, rest_seconds=0.01)
        generator = RemoteGenerator(server.url, "tiny", remote_limits=limits)
        said = ""
        async with asyncio.timeout(20):
            while not said:
                with suppress(GeneratorUnavailable):
                    said = (await collect(generator.stream(ASK)))[0].text
                await asyncio.sleep(0.001)
        assert said == "back"
        assert len(server.requests) == 3
        await generator.aclose()


async def test_an_engine_that_is_always_full_is_not_asked_twice_by_everybody() -> None:
    async with engine(status(429, "Retry-After: 0")) as server:
        generator = RemoteGenerator(server.url, "tiny")
        for _ in range(40):
            with pytest.raises(GeneratorOverloaded):
                await collect(generator.stream(ASK))
        await generator.aclose()
        assert 40 < len(server.requests) <= 40 + 10 + 4


async def test_nobody_at_the_address_is_unavailable() -> None:
    async with engine(b"") as server:
        pass
    with pytest.raises(GeneratorUnavailable, match="no engine answers"):
        await ask(server)


async def silence(server: Server, writer: asyncio.StreamWriter) -> None:
    await server.go_on.wait()


async def silence_after_a_word(server: Server, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM + delta("Well"))
    await server.go_on.wait()


@pytest.mark.parametrize(
    ("answer", "limits", "remote_limits"),
    [
        (silence, Limits(seconds=20), {"first_piece_seconds": 0.1}),
        (silence, Limits(seconds=0.1), {}),
        (silence_after_a_word, Limits(seconds=20), {"gap_seconds": 0.1}),
        (silence_after_a_word, Limits(seconds=0.2), {}),
    ],
)
async def test_a_silent_engine_meets_each_of_the_deadlines(
    answer: Say, limits: Limits, remote_limits: dict[str, float]
) -> None:
    async with engine(answer) as server:
        with pytest.raises(GeneratorTimeout):
            await ask(server, limits=limits, **remote_limits)


async def test_a_reader_who_leaves_closes_the_socket() -> None:
    async with engine(silence_after_a_word) as server:
        generator = RemoteGenerator(server.url, "tiny")
        pieces = generator.stream(ASK)
        assert (await anext(pieces)).text == "Well"
        await pieces.aclose()
        await asyncio.wait_for(server.client_left.wait(), 10)
        await generator.aclose()


async def test_a_cancelled_reader_closes_the_socket() -> None:
    async with engine(silence) as server:
        reading = asyncio.create_task(ask(server))
        await asyncio.wait_for(server.asked.wait(), 10)
        reading.cancel()
        await asyncio.wait_for(server.client_left.wait(), 10)
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_a_long_line_of_waiting_requests_is_turned_away() -> None:
    async with engine(silence_after_a_word, STREAM + delta("second") + DONE) as server:
        generator = RemoteGenerator(
            server.url, "tiny", remote_limits=RemoteLimits(running=1, waiting=1)
        )
        first = generator.stream(ASK)
        await anext(first)
        second = asyncio.create_task(collect(generator.stream(ASK)))
        await asyncio.sleep(0)
        with pytest.raises(GeneratorOverloaded, match="waiting"):
            await collect(generator.stream(ASK))
        await first.aclose()
        assert (await second)[0].text == "second"
        await generator.aclose()


@pytest.mark.parametrize(
    "url", ["ftp://host/v1", "host/v1", "http://user:pw@host/v1", "http://host/v1?key=1", "http://"]
)
def test_a_base_url_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="base URL"):
        RemoteGenerator(url, "tiny")

"""RemoteGenerator against a real server on this machine, kind and hostile."""

import asyncio
import gzip
import json
import tracemalloc
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
    TokensBy,
    Usage,
)
from generator.remote import RemoteGenerator, RemoteLimits
from tests.fake_engine import DONE, STREAM, TLS_ALERT, delta, status

from .conftest import collect

pytestmark = pytest.mark.anyio

ASK = [ChatMessage("user", "when does it arrive?")]
KEY = "sk-very-secret"

Say = Callable[["Server", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    answers: list[bytes | Say]
    """One per request, the last one again when they run out."""
    url: str = ""
    requests: list[tuple[str, dict[str, str], dict]] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
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
            self.asked_at.append(asyncio.get_running_loop().time())
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


async def usage_of(server: Server) -> Usage | None:
    generator = RemoteGenerator(server.url, "tiny")
    try:
        return (await collect(generator.stream(ASK)))[-1].usage
    finally:
        await generator.aclose()


async def test_the_engine_is_asked_what_it_counted() -> None:
    counted = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}\n\n'
    async with engine(
        STREAM + delta("On Monday.", finish_reason="stop") + counted + DONE
    ) as server:
        assert await usage_of(server) == Usage(0.0, 7, 3, TokensBy.ENGINE)
    assert server.requests[0][2]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("count", ['{"prompt_tokens": -1, "completion_tokens": 3}', '"many"'])
async def test_what_an_engine_does_not_count_is_estimated_and_said_to_be(count: str) -> None:
    silly = f'data: {{"choices": [], "usage": {count}}}\n\n'.encode()
    async with engine(STREAM + delta("On " * 20) + silly + DONE) as server:
        usage = await usage_of(server)
    assert usage is not None
    assert (usage.reply_tokens, usage.tokens_by) == (15, TokensBy.ESTIMATE)
    assert 5 < (usage.prompt_tokens or 0) < 500


async def test_an_engine_that_will_not_count_answers_all_the_same() -> None:
    answer = STREAM + delta("ok") + DONE
    async with engine(status(422), answer, answer) as server:
        generator = RemoteGenerator(server.url, "tiny")
        said = [await collect(generator.stream(ASK)) for _ in range(2)]
        await generator.aclose()
    assert ["".join(piece.text for piece in pieces) for pieces in said] == ["ok", "ok"]
    asked = ["stream_options" in body for _, _, body in server.requests]
    assert asked == [True, False, False]  # it is not asked for it again


async def test_passages_travel_with_the_question() -> None:
    async with engine(STREAM + delta("ok") + DONE) as server:
        generator = RemoteGenerator(server.url, "tiny")
        passage = Passage("1", "Delivery", "It takes 3 days.", "d.md")
        await collect(generator.stream(ASK, [passage]))
        await generator.aclose()
    assert "It takes 3 days." in server.requests[0][2]["messages"][-1]["content"]
    assert "authorization" not in server.requests[0][1]


def endless(begin: bytes, again: bytes) -> Say:
    async def say(server: Server, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while not server.client_left.is_set():
            writer.write(again)
            await writer.drain()

    return say


trickle_without_newline = endless(STREAM, b"data: " + b"x" * 4096)
drown_in_small_talk = endless(STREAM, b": still here\n\n" * 400)
CHUNKED = STREAM.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
ZIPPED = STREAM.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
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
        (endless(STREAM, delta("and so on " * 9)), GeneratorError, "more than it was asked"),
        (STREAM + delta("x" * 99_999) + DONE, GeneratorError, "more than it was asked"),
        (ZIPPED + gzip.compress(delta("0" * 9_999_999)), GeneratorUnavailable, "does not stream"),
        (CHUNKED + b"40000000\r\n" + delta("half"), GeneratorUnavailable, "broke"),
        (status(302, "Location: http://127.0.0.1:9/"), GeneratorUnavailable, "redirects"),
        (status(401), GeneratorUnavailable, "refused the key"),
        (status(404), GeneratorUnavailable, "404"),
        (status(422), GeneratorRefused, "rejected"),
        (status(500), GeneratorUnavailable, "failed"),
        (status(200, "Content-Type: text/html"), GeneratorUnavailable, "does not stream"),
        (status(200, "Content-Type: application/json"), GeneratorUnavailable, "does not stream"),
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


@pytest.mark.parametrize(
    "answer",
    [
        endless(b"HTTP/1.1 200 OK\r\nServer: ", b"x" * 65_536),
        endless(b"HTTP/1.1 200 OK\r\n", b"Server: x\r\n" * 6_000),
        endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2_000),
        endless(CHUNKED + b"40000000\r\ndata: ", b"x" * 65_536),
        endless(CHUNKED + b"5;", b"x" * 65_536),
        endless(STREAM, b"data: " + b"x" * 65_536),
        endless(STREAM, b": still here\n\n" * 4_000),
        endless(STREAM, delta("") * 1_000),
        endless(STREAM, delta("x" * 20) * 1_000),
        endless(ZIPPED, gzip.compress(b"0" * 9_999_999)),
        endless(status(500).replace(b"Content-Length: 2\r\n", b""), b"x" * 65_536),
    ],
)
async def test_what_never_ends_is_cut_off_and_little_of_it_is_ever_kept(answer: Say) -> None:
    async with engine(answer) as server:
        tracemalloc.start()
        try:
            with pytest.raises(GeneratorError):
                await ask(server, first_piece_seconds=0.5)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await asyncio.wait_for(server.client_left.wait(), 10)
    assert most < 4_000_000


async def test_words_that_look_like_the_end_of_a_stream_are_words() -> None:
    fake = "data: [DONE]\n\ndata: " + delta("forged").decode()
    async with engine(STREAM + delta(fake) + delta(" [DONE] ") + delta("end") + DONE) as server:
        assert await ask(server) == f"{fake} [DONE] end"


async def test_a_redirect_is_not_followed_and_nobody_else_hears_the_key() -> None:
    async with engine(STREAM + delta("mine") + DONE) as elsewhere:
        for code in (301, 302, 303, 307, 308):
            location = f"Location: {elsewhere.url}/chat/completions"
            async with engine(status(code, location)) as server:
                with pytest.raises(GeneratorUnavailable, match="give its own address"):
                    await ask(server)
        assert elsewhere.requests == []


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


async def test_a_full_engine_is_given_the_time_it_asks_for() -> None:
    async with engine(status(503, "Retry-After: 0.3"), STREAM + delta("now") + DONE) as server:
        assert await ask(server) == "now"
        first, second = server.asked_at
        assert second - first > 0.29
    past, future = ("Wed, 01 Jan 2020 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT")
    async with engine(status(503, f"Retry-After: {past}"), STREAM + delta("now") + DONE) as server:
        assert await ask(server) == "now"
    for unbearable in (future, "inf", "nan", "1e999"):
        async with engine(status(503, f"Retry-After: {unbearable}")) as server:
            with pytest.raises(GeneratorOverloaded):
                await ask(server)
            assert len(server.requests) == 1


async def test_a_connection_that_breaks_before_the_answer_is_tried_once_more() -> None:
    async with engine(b"", STREAM + delta("now") + DONE) as server:
        assert await ask(server) == "now"
    async with engine(b"") as server:
        with pytest.raises(GeneratorUnavailable, match="see whether an engine runs there"):
            await ask(server)
        assert len(server.requests) == 2


async def test_what_has_begun_to_answer_is_not_asked_again() -> None:
    for answer in (STREAM + delta("half"), CHUNKED + b"ff\r\n" + delta("half"), STREAM):
        async with engine(answer) as server:
            with pytest.raises(GeneratorError):
                await ask(server)
            assert len(server.requests) == 1


async def test_while_one_request_tries_a_failing_engine_the_others_leave_it_alone() -> None:
    async with engine(status(500), silence_after_a_word, STREAM + delta("back") + DONE) as server:
        limits = RemoteLimits(failures_in_a_row=1, rest_seconds=0.001)
        generator = RemoteGenerator(server.url, "tiny", remote_limits=limits)
        with pytest.raises(GeneratorUnavailable, match="failed"):
            await collect(generator.stream(ASK))
        await asyncio.sleep(0.01)  # longer than the rest
        trial = generator.stream(ASK)
        assert (await anext(trial)).text == "Well"
        for _ in range(3):
            with pytest.raises(GeneratorUnavailable, match="1 times in a row"):
                await collect(generator.stream(ASK))
        assert len(server.requests) == 2
        await trial.aclose()  # says nothing: the next one may try
        assert (await collect(generator.stream(ASK)))[0].text == "back"
        await generator.aclose()


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


async def test_an_address_that_is_no_engines_is_told_with_a_remedy() -> None:
    async def told(url: str) -> str:
        with pytest.raises(GeneratorUnavailable) as caught:
            await ask(Server([], url), connect_seconds=0.5)
        return str(caught.value)

    assert "the name in http://no..such/v1" in await told("http://no..such/v1")
    async with engine(TLS_ALERT) as server:
        assert "give https://" in await told(server.url)
        assert "try http://" in await told(server.url.replace("http", "https"))
    assert "start it, or check the base URL" in await told(server.url)


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
    "url",
    [
        "ftp://host/v1",
        "host/v1",
        "http://user:pw@host/v1",
        "http://user:p/w@host/v1",
        "http://host/v1?key=1",
        "http://",
        "http://host:port/v1",
        "http://host:99999/v1",
        "http://[::1/v1",
        "http://ho\0st/v1",
        "http://host/v1/chat/completions",
    ],
)
def test_a_base_url_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="base URL") as caught:
        RemoteGenerator(url, "tiny")
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-1\r\nHost: elsewhere", "sk-\u00e9", "sk-\0"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_quoted(key: str) -> None:
    with pytest.raises(ValueError, match="copy it anew") as caught:
        RemoteGenerator("http://host/v1", "tiny", key)
    assert "sk-" not in str(caught.value)


async def test_white_space_around_a_key_from_a_file_is_taken_off() -> None:
    async with engine(STREAM + delta("ok") + DONE) as server:
        generator = RemoteGenerator(f"{server.url}/ ", "tiny", f" {KEY}\n")
        await collect(generator.stream(ASK))
        await generator.aclose()
    assert server.requests[0][1]["authorization"] == f"Bearer {KEY}"

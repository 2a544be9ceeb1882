"""Any OpenAI-compatible engine (vLLM, llama.cpp, Ollama, TGI), streamed."""

import asyncio
import json
import math
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx2

from generator.admission import Admission
from generator.breaker import Breaker, RetryBudget
from generator.interface import (
    ChatMessage,
    GeneratorError,
    GeneratorOverloaded,
    GeneratorRefused,
    GeneratorTimeout,
    GeneratorUnavailable,
    Limits,
    Passage,
    Piece,
    TokensBy,
    Usage,
)
from generator.prompt import INSTRUCTIONS, CountTokens, build_prompt
from generator.trust import trust_in, why_distrusted

MOST_CHARACTERS_PER_TOKEN = 64
"""A token of English has four or five; only runs of blanks or dashes have more than this."""
USUAL_CHARACTERS_PER_TOKEN = 4
"""What is counted by, as long as the engine has given no count."""
MOST_TOKENS = 2**31
"""No reply takes so many; a table's number holds no more."""


@dataclass(frozen=True, slots=True)
class RemoteLimits:
    """What one engine may take of us. Exceeding a size is a GeneratorError."""

    connect_seconds: float = 5.0
    first_piece_seconds: float = 20.0
    gap_seconds: float = 15.0
    """Between two pieces."""
    line_bytes: int = 256 * 1024
    total_bytes: int = 8 * 1024 * 1024
    running: int = 8
    waiting: int = 32
    retry_after_seconds: float = 2.0
    """A Retry-After of up to this long is waited for, once; a longer one is passed on."""
    failures_in_a_row: int = 5
    """After so many it is left alone for a while."""
    rest_seconds: float = 10.0


class RemoteGenerator:
    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        name: str = "remote",
        ca_file: Path | None = None,
        remote_limits: RemoteLimits = RemoteLimits(),
        context_tokens: int = 8192,
        count_tokens: CountTokens | None = None,
        instructions: str = INSTRUCTIONS,
    ) -> None:
        """`base_url` ends before /chat/completions: http://127.0.0.1:8080/v1. Raises ValueError
        where it, the key or the CA file cannot be one.

        With a `ca_file`, certificates of its CAs are trusted and no others; without one, those
        that the system trusts. It is read now, and never again.

        Without `count_tokens`, tokens are estimated as a third of the characters, which is
        more than English needs.
        """
        self._url = _completions_url(base_url)
        if ca_file is not None and self._url.scheme != "https":
            raise ValueError("a CA file is for an engine whose base URL begins with https://")
        self._engine_model = model
        self._headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {_checked_key(api_key)}"
        self._name = name
        self._limits = remote_limits
        self._context_tokens = context_tokens
        self._count_tokens = count_tokens or _estimate_tokens
        self._instructions = instructions
        self._admission = Admission(running=remote_limits.running, waiting=remote_limits.waiting)
        self._breaker = Breaker(
            failures=remote_limits.failures_in_a_row, rest_seconds=remote_limits.rest_seconds
        )
        self._retries = RetryBudget()
        self._asks_for_usage = True
        # trust_env=False: a proxy variable must not send the key somewhere else.
        self._client = httpx2.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            verify=True if ca_file is None else trust_in(ca_file),
            timeout=httpx2.Timeout(None, connect=remote_limits.connect_seconds),
            limits=httpx2.Limits(max_connections=remote_limits.running),
        )

    @property
    def name(self) -> str:
        return self._name

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        passages: Sequence[Passage] = (),
        limits: Limits = Limits(),  # noqa: B008 - frozen, safe to share
    ) -> AsyncIterator[Piece]:
        deadline = asyncio.get_running_loop().time() + limits.seconds
        body = self._body(messages, passages, limits)
        self._breaker.check()  # nobody waits in line for an engine that is left alone
        async with self._admission.place(deadline):
            with self._breaker.request(deadline):
                most = limits.max_tokens * MOST_CHARACTERS_PER_TOKEN
                async with aclosing(self._pieces(body, deadline, most)) as pieces:
                    async for piece in pieces:
                        yield piece

    async def _pieces(
        self, body: dict[str, Any], deadline: float, most_characters: int
    ) -> AsyncGenerator[Piece]:
        clock = asyncio.get_running_loop().time
        piece_deadline = min(deadline, clock() + self._limits.first_piece_seconds)
        response = await self._open(body, piece_deadline)
        asked = sum(len(message["content"]) for message in body["messages"])
        usage: Usage | None = None
        said = 0
        try:
            async with aclosing(_data_lines(response, self._limits)) as lines:
                finished = False
                while True:
                    data = await _before(piece_deadline, lines)
                    if data is None or data == "[DONE]":
                        break
                    chunk = _read_chunk(data)
                    finished = finished or chunk.is_last
                    usage = chunk.usage or usage
                    if chunk.text:
                        said += len(chunk.text)
                        if said > most_characters:
                            raise GeneratorError("the engine says more than it was asked for")
                    if chunk.text or chunk.usage:
                        yield Piece(chunk.text, self._name, usage=usage or _estimated(asked, said))
                        piece_deadline = min(deadline, clock() + self._limits.gap_seconds)
        finally:
            await response.aclose()
        if data is None and not finished:
            raise GeneratorError("the engine ended its stream before the reply was complete")
        if not said:
            raise GeneratorError("the engine's reply was empty")

    def _body(
        self, messages: Sequence[ChatMessage], passages: Sequence[Passage], limits: Limits
    ) -> dict[str, Any]:
        prompt = build_prompt(
            messages,
            passages,
            count_tokens=self._count_tokens,
            budget=self._context_tokens - limits.max_tokens,
            instructions=self._instructions,
        )
        body: dict[str, Any] = {
            "model": self._engine_model,
            "messages": [{"role": m.role, "content": m.text} for m in prompt],
            "stream": True,
            "max_tokens": limits.max_tokens,
            "temperature": limits.temperature,
        }
        if limits.seed is not None:
            body["seed"] = limits.seed
        if limits.stop:
            body["stop"] = list(limits.stop)
        return body

    async def _open(self, body: dict[str, Any], deadline: float) -> httpx2.Response:
        """A response that streams events. An engine that refuses to be asked how many tokens it
        took is asked without that, and from then on always."""
        self._retries.earn()
        if self._asks_for_usage:
            try:
                with_usage = {**body, "stream_options": {"include_usage": True}}
                return await self._answer(with_usage, deadline)
            except GeneratorRefused:
                response = await self._answer(body, deadline)
                self._asks_for_usage = False
                return response
        return await self._answer(body, deadline)

    async def _answer(self, body: dict[str, Any], deadline: float) -> httpx2.Response:
        """One retry, as nothing has been said yet, and where
        not too many were needed of late. It also helps where the engine closes an idle
        connection at the moment we write on it."""
        request = self._client.build_request("POST", self._url, json=body, headers=self._headers)
        for attempts_left in (1, 0):
            try:
                async with asyncio.timeout_at(deadline):
                    response = await self._client.send(request, stream=True)
            except TimeoutError as error:
                raise GeneratorTimeout("the engine did not answer in time") from error
            except httpx2.TransportError as error:
                if not attempts_left or not self._retries.spend():
                    raise GeneratorUnavailable(_why_unreachable(error, self._url)) from error
                pause = 0.1
            else:
                if response.status_code == 200 and _is_event_stream(response):
                    return response
                await response.aclose()
                wait = _retry_after(response)
                retriable = (
                    response.status_code in {429, 503}
                    and attempts_left
                    and wait <= self._limits.retry_after_seconds
                )
                if not retriable or not self._retries.spend():
                    raise _refusal(response)
                pause = wait
            await _pause(pause, deadline)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def aclose(self) -> None:
        await self._client.aclose()


def _completions_url(base_url: str) -> httpx2.URL:
    try:
        url = httpx2.URL(base_url.strip())
    except httpx2.InvalidURL as error:
        raise ValueError("an engine's base URL looks like https://host/v1") from error
    if url.scheme not in {"http", "https"} or not url.host or not 0 < (url.port or 80) < 2**16:
        raise ValueError("an engine's base URL looks like https://host/v1")
    if url.userinfo or url.query or url.fragment:
        raise ValueError("an engine's base URL has no user, query or fragment; hand the key apart")
    path = url.path.rstrip("/")
    if path.endswith("/chat/completions"):
        raise ValueError("an engine's base URL ends before /chat/completions")
    return url.copy_with(path=f"{path}/chat/completions")


def _checked_key(key: str) -> str:
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("an engine's key consists of visible ASCII characters; copy it anew")
    return key


def _estimate_tokens(text: str) -> int:
    return len(text) // 3 + 1


def _is_event_stream(response: httpx2.Response) -> bool:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A compressed stream could unfold to any size behind our byte counts.
    plain = response.headers.get("content-encoding", "identity").lower() == "identity"
    return kind == "text/event-stream" and plain


UNREACHABLE: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLError, "what answers at {url} does not speak TLS; try http://"),
    (socket.gaierror, "the name in {url} is unknown; check the base URL"),
    (httpx2.ConnectError, "no engine answers at {url}; start it, or check the base URL"),
    (httpx2.ConnectTimeout, "no engine answers at {url}; check the base URL and firewalls"),
    (
        httpx2.RemoteProtocolError,
        "the connection broke: {url} gave no answer of HTTP; if it speaks TLS, give https://, "
        "else see whether an engine runs there",
    ),
)


def _why_unreachable(error: httpx2.TransportError, url: httpx2.URL) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return why_distrusted(cause, url)
    for kind, reason in UNREACHABLE:
        if any(isinstance(cause, kind) for cause in _causes(error)):
            return reason.format(url=url)
    return f"the connection to the engine broke ({type(error).__name__})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _retry_after(response: httpx2.Response) -> float:
    """Seconds; a short pause where the engine gives none."""
    given = response.headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(given).timestamp() - time.time()
        except ValueError:
            return 0.2
    return max(seconds, 0.0) if math.isfinite(seconds) else math.inf


REFUSALS: dict[int, tuple[type[GeneratorError], str]] = {
    200: (
        GeneratorUnavailable,
        "what answers there does not stream events; is the base URL an OpenAI-compatible one?",
    ),
    401: (GeneratorUnavailable, "the engine refused the key; check it"),
    403: (GeneratorUnavailable, "the engine refused the key; check its rights"),
    404: (GeneratorUnavailable, "the engine knows no such address or name; check both"),
    429: (GeneratorOverloaded, "the engine is full"),
    503: (GeneratorOverloaded, "the engine is full"),
}
REFUSAL_KINDS: dict[int, tuple[type[GeneratorError], str]] = {
    3: (GeneratorUnavailable, "the engine redirects, which is not followed; give its own address"),
    4: (
        GeneratorRefused,
        "the engine rejected the request; is the network's name right, and its context as long "
        "as ours?",
    ),
    5: (GeneratorUnavailable, "the engine failed"),
}


def _refusal(response: httpx2.Response) -> GeneratorError:
    """Names the status and a remedy, and nothing that the engine wrote."""
    status = response.status_code
    unknown = (GeneratorUnavailable, "the engine answered something else than events")
    error, reason = REFUSALS.get(status) or REFUSAL_KINDS.get(status // 100) or unknown
    return error(f"{reason} (status {status})")


async def _pause(seconds: float, deadline: float) -> None:
    if asyncio.get_running_loop().time() + seconds >= deadline:
        raise GeneratorTimeout("the engine was not ready in time")
    await asyncio.sleep(seconds)


async def _before(deadline: float, lines: AsyncIterator[str]) -> str | None:
    """The next line; None at the end of the stream."""
    try:
        async with asyncio.timeout_at(deadline):
            return await anext(lines, None)
    except TimeoutError as error:
        raise GeneratorTimeout("the engine stopped answering") from error


async def _data_lines(response: httpx2.Response, limits: RemoteLimits) -> AsyncGenerator[str, None]:
    """What stands behind `data:`. Engines write one JSON text per event, on one line."""
    total = 0
    rest = b""
    try:
        async with aclosing(response.aiter_raw()) as chunks:
            async for chunk in chunks:
                total += len(chunk)
                if total > limits.total_bytes:
                    raise GeneratorError(f"the engine sent more than {limits.total_bytes} bytes")
                *lines, rest = (rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
                if max(map(len, [*lines, rest])) > limits.line_bytes:
                    raise GeneratorError(f"the engine sent a line over {limits.line_bytes} bytes")
                for line in lines:
                    data = _data(line)
                    if data is not None:
                        yield data
    except httpx2.TransportError as error:
        raise GeneratorUnavailable(
            f"the connection to the engine broke ({type(error).__name__})"
        ) from error
    data = _data(rest)
    if data is not None:
        yield data


def _data(line: bytes) -> str | None:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise GeneratorError("the engine sent bytes that are not UTF-8") from error
    return text[len("data:") :].strip() if text.startswith("data:") else None


@dataclass(frozen=True, slots=True)
class _Chunk:
    text: str = ""
    is_last: bool = False
    """The engine calls the reply finished; a count of tokens may follow."""
    usage: Usage | None = None


def _read_chunk(data: str) -> _Chunk:
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise GeneratorError("the engine sent an event that is not JSON") from error
    if isinstance(chunk, dict) and chunk.get("error"):
        raise GeneratorError("the engine reported an error in its stream")
    match chunk:
        case {"choices": []}:
            return _Chunk(usage=_counted(chunk))
        case {"choices": [{"delta": {"content": str(text)}, **choice}, *_]}:
            return _Chunk(text, choice.get("finish_reason") is not None, _counted(chunk))
        case {"choices": [{"delta": dict(), **choice}, *_]}:
            return _Chunk("", choice.get("finish_reason") is not None, _counted(chunk))
    raise GeneratorError("the engine sent an event that is no chat completion chunk")


def _counted(chunk: dict[str, Any]) -> Usage | None:
    """Some engines count in the last event, some in each; what is no count is none."""
    match chunk.get("usage"):
        case {"prompt_tokens": int(asked), "completion_tokens": int(said)} if (
            0 <= asked < MOST_TOKENS and 0 <= said < MOST_TOKENS
        ):
            return Usage(0.0, asked, said, TokensBy.ENGINE)
    return None


def _estimated(asked: int, said: int) -> Usage:
    """From characters."""
    prompt_tokens, reply_tokens = (
        round(characters / USUAL_CHARACTERS_PER_TOKEN) for characters in (asked, said)
    )
    return Usage(0.0, prompt_tokens, reply_tokens, TokensBy.ESTIMATE)

"""What a connection may take of us before it has said what it wants, and after it has got it.

uvicorn waits for ever for the rest of a request, and keeps whatever it is sent of it. Here a
client that trickles is cut off, headers have a size, and only so many requests may be
unfinished at once: one too many cuts off the one that has taken longest. uvicorn also waits for
ever for a client to read; here one that reads nothing is cut off, too. No timer is set for a
request that arrives whole, nor for a response that is taken.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.settings import Settings

MOST_HEADERS = 100
MOST_HEADER_BYTES = 32 * 1024
MOST_ADDRESS_BYTES = 8 * 1024
SWEEP_SECONDS = 0.5
GRACE_SECONDS = 2.0
"""The application answers 408 when a body is late; the connection is closed a little later."""


@dataclass(frozen=True, slots=True)
class Patience:
    header_seconds: float
    body_seconds: float
    read_seconds: float
    """How long a client may take nothing of what waits for it."""
    most_unfinished: int


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    title: str
    code: str
    detail: str


_BAD_REQUEST = _Refusal(400, "Bad request", "bad_request", "this is not an HTTP request")
_LATE = _Refusal(408, "Request timeout", "request_timeout", "the request took too long to arrive")
_LONG_ADDRESS = _Refusal(414, "URI too long", "uri_too_long", "the address is too long")
_LARGE_HEADERS = _Refusal(
    431,
    "Request header fields too large",
    "headers_too_large",
    f"at most {MOST_HEADERS} headers and {MOST_HEADER_BYTES} bytes of them",
)


def patient_protocol(settings: Settings) -> type[HttpToolsProtocol]:
    """For `uvicorn.Config(http=…)`."""
    allowed = Patience(
        header_seconds=settings.header_seconds,
        body_seconds=settings.body_seconds,
        read_seconds=settings.read_seconds,
        most_unfinished=settings.max_unfinished_requests,
    )

    class Protocol(PatientProtocol):
        patience = allowed
        speaking = _WaitingRoom(PatientProtocol.cut_off, most=allowed.most_unfinished)
        listening = _WaitingRoom(PatientProtocol.give_up, most=settings.max_connections)

    return Protocol


class _WaitingRoom:
    """Connections that we wait for, and until when; whoever is late, or the first of too many,
    is cut off."""

    def __init__(self, cut_off: Callable[["PatientProtocol"], None], *, most: int) -> None:
        self._cut_off = cut_off
        self._most = most
        self._until: dict[PatientProtocol, float] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def hold(self, protocol: "PatientProtocol", seconds: float) -> None:
        loop = protocol.loop
        self._until.pop(protocol, None)  # a later deadline goes to the end of the line
        self._until[protocol] = loop.time() + seconds
        if len(self._until) > self._most:
            self._end(next(iter(self._until)))
        if self._sweep is None:
            self._sweep = loop.call_later(SWEEP_SECONDS, self._look, loop)

    def holds(self, protocol: "PatientProtocol") -> bool:
        return protocol in self._until

    def release(self, protocol: "PatientProtocol") -> None:
        self._until.pop(protocol, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for protocol in [one for one, until in self._until.items() if until <= now]:
            self._end(protocol)
        self._sweep = loop.call_later(SWEEP_SECONDS, self._look, loop) if self._until else None

    def _end(self, protocol: "PatientProtocol") -> None:
        self.release(protocol)
        self._cut_off(protocol)


class PatientProtocol(HttpToolsProtocol):
    patience: Patience
    speaking: _WaitingRoom
    """Those whose request is not whole yet."""
    listening: _WaitingRoom
    """Those for whom something waits that they do not read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heard_anything = False
        self._in_headers = False
        self._in_body = False
        self._header_count = 0
        self._header_bytes = 0
        self._earlier_bytes = 0
        """Of a request whose headers are not whole, in packets before this one."""
        self._refusal = _BAD_REQUEST

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.speaking.hold(self, self.patience.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self.speaking.release(self)
        self.listening.release(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """More waits for the client than the transport likes to keep."""
        super().pause_writing()
        self.listening.hold(self, self.patience.read_seconds)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.transport.is_closing():
            self._close()  # there is still something left, if not much
        else:
            self.listening.release(self)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._close()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._close()

    def _close(self) -> None:
        """What the client has not read yet is still sent, as long as it reads."""
        self.transport.close()
        self.listening.hold(self, self.patience.read_seconds)

    def give_up(self) -> None:
        """Nobody reads: what still waits is thrown away, by the kernel, too."""
        connection: socket.socket = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._heard_anything = True
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_headers:
            # The parser hands a header over when it is whole: until then nobody counts it.
            self._earlier_bytes += len(data)
            if self._earlier_bytes > MOST_HEADER_BYTES + MOST_ADDRESS_BYTES:
                self._refuse(_LARGE_HEADERS)
            elif not self.speaking.holds(self):
                self.speaking.hold(self, self.patience.header_seconds)
        elif not self._in_body:
            self.speaking.release(self)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True
        self._header_count = self._header_bytes = self._earlier_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MOST_ADDRESS_BYTES:
            self._refusal = _LONG_ADDRESS
            raise ValueError("refused")  # stops the parser, which calls send_400_response

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        self._header_bytes += len(name) + len(value)
        if self._header_count > MOST_HEADERS or self._header_bytes > MOST_HEADER_BYTES:
            self._refusal = _LARGE_HEADERS
            raise ValueError("refused")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_headers, self._in_body = False, True
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # what follows would be another protocol: we speak none
        self.speaking.hold(self, self.patience.body_seconds + GRACE_SECONDS)

    def on_message_complete(self) -> None:
        self._in_body = False
        self.speaking.release(self)
        super().on_message_complete()

    def cut_off(self) -> None:
        """Its time is over, or its place is needed."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            if self._in_headers:  # of a request behind the one that is being answered
                self.cycle.keep_alive = False
            else:
                self._close()
        elif self._heard_anything and self._in_headers:
            self._refuse(_LATE)
        else:
            self._close()  # a browser that connected in advance expects no words

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal)

    def _refuse(self, refusal: _Refusal) -> None:
        self.speaking.release(self)
        request_id = uuid4().hex
        content = json.dumps(
            {
                "type": "about:blank",
                "title": refusal.title,
                "status": refusal.status,
                "code": refusal.code,
                "detail": refusal.detail,
                "request_id": request_id,
            }
        ).encode()
        self.transport.write(
            b"".join(
                [
                    STATUS_LINE[refusal.status],
                    b"content-type: application/problem+json\r\n",
                    b"x-content-type-options: nosniff\r\n",
                    f"x-request-id: {request_id}\r\n".encode(),
                    f"content-length: {len(content)}\r\n".encode(),
                    b"connection: close\r\n\r\n",
                    content,
                ]
            )
        )
        self._close()

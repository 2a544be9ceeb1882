"""An OpenAI-compatible engine that does as it is told, in threads of its own."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"
TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x46"


def delta(text: str, **choice: object) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, **choice}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def status(code: int, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {code} X", *headers, "Content-Length: 2", "Connection: close", "", "no"]
    return "\r\n".join(lines).encode()


class FakeEngine(ThreadingTCPServer):
    """`answer` goes out whole after each request; then the connection is closed, or, where it
    `hangs`, kept until the client leaves or is let go. `bodies` is what was asked, `heard` and
    `left` count. With `tls` it speaks that."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self, answer: bytes, *, hangs: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.tls = tls
        self.answer = answer
        self.hangs = hangs
        self.bodies: list[dict[str, Any]] = []
        self.heard = threading.Semaphore(0)
        self.left = threading.Semaphore(0)
        self.connections: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.server_address[1]}/v1"

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.tls:  # whoever hangs in the handshake keeps nobody else waiting
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def let_go(self) -> None:
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Connection(StreamRequestHandler):
    server: FakeEngine

    def handle(self) -> None:
        self.server.connections.append(self.request)
        with suppress(OSError):  # a client may leave at any time
            self.answer_one()

    def answer_one(self) -> None:
        length = -1
        while line := self.rfile.readline().strip():
            name, _, value = line.lower().partition(b": ")
            length = int(value) if name == b"content-length" else length
        if length < 0:  # a client that does not trust us has left in the handshake
            return
        self.server.bodies.append(json.loads(self.rfile.read(length)))
        self.server.heard.release()
        self.wfile.write(self.server.answer)
        if self.server.hangs:
            self.request.recv(1)
            self.server.left.release()


@contextmanager
def fake_engine(
    answer: bytes, *, hangs: bool = False, tls: ssl.SSLContext | None = None
) -> Iterator[FakeEngine]:
    with FakeEngine(answer, hangs=hangs, tls=tls) as engine:
        serving = threading.Thread(target=engine.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield engine
        finally:
            engine.let_go()
            engine.shutdown()
            serving.join()


def url_of_nobody() -> str:
    with fake_engine(b"") as engine:
        return engine.url

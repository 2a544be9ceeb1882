"""An OpenAI-compatible engine that does as it is told, in threads of its own."""

import json
import socket
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
    `left` count."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer: bytes, *, hangs: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.answer = answer
        self.hangs = hangs
        self.bodies: list[dict[str, Any]] = []
        self.heard = threading.Semaphore(0)
        self.left = threading.Semaphore(0)
        self.connections: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def let_go(self) -> None:
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Connection(StreamRequestHandler):
    server: FakeEngine

    def handle(self) -> None:
        self.server.connections.append(self.request)
        length = 0
        while line := self.rfile.readline().strip():
            name, _, value = line.lower().partition(b": ")
            length = int(value) if name == b"content-length" else length
        self.server.bodies.append(json.loads(self.rfile.read(length)))
        self.server.heard.release()
        with suppress(OSError):
            self.wfile.write(self.server.answer)
            if self.server.hangs:
                self.request.recv(1)
                self.server.left.release()


@contextmanager
def fake_engine(answer: bytes, *, hangs: bool = False) -> Iterator[FakeEngine]:
    with FakeEngine(answer, hangs=hangs) as engine:
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

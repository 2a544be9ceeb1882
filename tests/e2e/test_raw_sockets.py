"""What a client may do on the wire to a real server process, byte by byte."""

import gzip
import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.e2e.conftest import Server

HEADER_SECONDS = BODY_SECONDS = READ_SECONDS = 2.0
MOST_UNFINISHED = 8
PATIENCE = 20.0
"""A busy machine may be late; a server that waits for ever is later."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("raw"),
        TWOFOLD_HEADER_SECONDS=str(HEADER_SECONDS),
        TWOFOLD_BODY_SECONDS=str(BODY_SECONDS),
        TWOFOLD_READ_SECONDS=str(READ_SECONDS),
        TWOFOLD_MAX_UNFINISHED_REQUESTS=str(MOST_UNFINISHED),
        TWOFOLD_MAX_BODY_BYTES="20000",
    )
    running.admin_key = running.command("keys", "create", "test", "--scope", "admin").strip()
    running.start()
    yield running
    running.kill()


def test_headers_that_trickle_are_cut_off_in_time(server: Server) -> None:
    with _connected(server) as wire:
        start = time.monotonic()
        _trickle(wire, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 10_000)
        assert _status(_everything_from(wire)) == 408
        assert HEADER_SECONDS * 0.9 < time.monotonic() - start < PATIENCE


def test_a_body_that_trickles_is_cut_off_in_time(server: Server) -> None:
    with _connected(server) as wire:
        start = time.monotonic()
        wire.sendall(_head(server, "Content-Length: 5000"))
        _trickle(wire, b'{"title": "' + b"a" * 4000)
        said = _everything_from(wire)
        assert _status(said) == 408
        assert _problem(said)["code"] == "request_timeout"
        assert time.monotonic() - start < PATIENCE


def test_a_body_that_trickles_behind_its_answer_is_cut_off_too(server: Server) -> None:
    with _connected(server) as wire:
        wire.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n")
        assert b" 404 " in wire.recv(65536)
        _trickle(wire, b"a" * 4000)
        _everything_from(wire)  # returns: the server has hung up


def test_a_connection_that_says_nothing_is_closed_without_a_word(server: Server) -> None:
    with _connected(server) as wire:
        assert _everything_from(wire) == b""


def test_a_second_request_on_a_connection_has_no_more_time_than_the_first(server: Server) -> None:
    with _connected(server) as wire:
        wire.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in wire.recv(65536)
        _trickle(wire, b"GET /livez HTTP/1.1\r\nX-Slow: " + b"a" * 10_000)
        assert _status(_everything_from(wire)) == 408


def test_clients_that_trickle_do_not_keep_others_out(server: Server) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(_connected(server)) for _ in range(5 * MOST_UNFINISHED)]
        for wire in slow:
            wire.sendall(b"GET /livez HTTP/1.1\r\n")
        with server.client() as client:
            assert client.get("/livez").status_code == 200
            # Those beyond the limit are gone before their time is over, the oldest first.
            for wire in slow[: -2 * MOST_UNFINISHED]:
                _everything_from(wire)
            hung_up, _, _ = select.select(slow[-MOST_UNFINISHED // 2 :], [], [], 0)
            assert hung_up == []
        for wire in slow:
            _everything_from(wire)


def test_a_body_that_comes_in_pieces_but_in_time_is_taken(server: Server) -> None:
    with _connected(server) as wire:
        body = b'{"title": "in pieces"}'
        wire.sendall(_head(server, f"Content-Length: {len(body)}"))
        for byte in body:
            wire.sendall(bytes([byte]))
        assert b" 201 " in wire.recv(65536)


@pytest.mark.parametrize(
    "headers",
    [
        b"".join(b"X-%d: a\r\n" % number for number in range(101)),
        b"X-Long: " + b"a" * 40_000 + b"\r\n",
        b"X-Long-Name-" + b"a" * 40_000 + b": b\r\n",
        b"Cookie: " + b"a=b; " * 10_000 + b"\r\n",
    ],
    ids=["many", "a long value", "a long name", "many cookies"],
)
def test_headers_have_a_number_and_a_size(server: Server, headers: bytes) -> None:
    with _connected(server) as wire:
        wire.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
        said = _everything_from(wire)
        assert _status(said) == 431
        assert _problem(said)["code"] == "headers_too_large"


def test_a_header_without_end_is_not_collected(server: Server) -> None:
    with _connected(server) as wire:
        wire.sendall(b"GET /livez HTTP/1.1\r\nX-Endless: ")
        sent = 0
        try:
            while sent < 50_000_000:
                sent += wire.send(b"a" * 65536)
        except OSError:
            pass
        assert sent < 50_000_000


def test_an_address_has_a_size(server: Server) -> None:
    with _connected(server) as wire:
        wire.sendall(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert _status(_everything_from(wire)) == 414


@pytest.mark.parametrize(
    "framing",
    [
        ("Content-Length: 10", "Content-Length: 2"),
        ("Content-Length: 2", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 2"),
        ("Content-Length: -1",),
        ("Content-Length: +2",),
        ("Content-Length: 0x2",),
        ("Content-Length: " + "9" * 40,),
        ("Content-Length: two",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding : chunked",),
    ],
)
def test_two_opinions_on_where_a_body_ends_are_no_request(
    server: Server, framing: tuple[str, ...]
) -> None:
    with _connected(server) as wire:
        wire.sendall(_head(server, *framing) + b"{}" + b"GET /livez HTTP/1.1\r\n\r\n")
        said = _everything_from(wire)
        assert _status(said) == 400
        assert said.count(b"HTTP/1.1 ") == 1  # what stands behind it is not a second request


def test_a_chunked_body_has_the_same_limit_as_any_other(server: Server) -> None:
    with _connected(server) as wire:
        chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
        head = _head(server, "Transfer-Encoding: chunked", "Connection: close")
        wire.sendall(head + chunk * 6 + b"0\r\n\r\n")
        said = _everything_from(wire)
        assert _status(said) == 413
        assert _problem(said)["code"] == "too_large"


def test_an_announced_body_that_is_too_large_is_refused_before_it_comes(server: Server) -> None:
    with _connected(server) as wire:
        wire.sendall(_head(server, "Content-Length: 20001"))
        assert _status(wire.recv(65536)) == 413


def test_a_body_that_ends_before_its_length_changes_nothing(server: Server) -> None:
    before = _conversations(server)
    with _connected(server) as wire:
        wire.sendall(_head(server, "Content-Length: 30") + b'{"title": "cut off"}')
        wire.shutdown(socket.SHUT_WR)
        assert b" 201 " not in _everything_from(wire)
    assert _conversations(server) == before


@pytest.mark.parametrize("encoding", ["gzip", "GZip", "deflate", "br", "gzip, identity", "x"])
def test_a_compressed_body_is_refused_and_never_unpacked(server: Server, encoding: str) -> None:
    bomb = gzip.compress(b'{"title": "' + b" " * 10_000_000 + b'"}')
    assert len(bomb) < 20_000
    with server.client() as client:
        refused = client.post(
            "/v1/conversations",
            content=bomb,
            headers={"Content-Encoding": encoding, "Content-Type": "application/json"},
        )
    assert refused.status_code == 415
    assert refused.headers["content-type"] == "application/problem+json"


def test_an_upgrade_to_another_protocol_is_not_taken(server: Server) -> None:
    with _connected(server) as wire:
        wire.sendall(
            b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert _status(_everything_from(wire)) == 200  # answered in HTTP, and closed


def test_a_client_that_reads_nothing_of_its_answers_is_cut_off(server: Server) -> None:
    with _connected(server, receive_buffer=4096) as wire:
        _ask_for_the_description(wire, 200)  # several megabytes of answers
        ended = select.poll()
        ended.register(wire, 0)  # errors and hang-ups alone
        assert ended.poll(PATIENCE * 1000)
        with pytest.raises(ConnectionResetError):
            list(iter(partial(wire.recv, 65536), b""))


def test_a_client_that_reads_slowly_gets_everything(server: Server) -> None:
    with _connected(server, receive_buffer=4096) as wire:
        _ask_for_the_description(wire, 20, b"Connection: close\r\n")
        said = b""
        start = time.monotonic()
        while piece := wire.recv(16384):
            said += piece
            if time.monotonic() - start < 2 * READ_SECONDS:
                time.sleep(0.05)
        assert said.count(b"HTTP/1.1 200 OK") == 20
        assert said.endswith(b"}")


def _ask_for_the_description(wire: socket.socket, times: int, last: bytes = b"") -> None:
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n"
    wire.sendall((request + b"\r\n") * (times - 1) + request + last + b"\r\n")


def test_the_server_is_well_after_all_that(server: Server) -> None:
    with server.client() as client:
        assert client.get("/readyz").status_code == 200
        assert client.post("/v1/conversations", json={}).status_code == 201


def _connected(server: Server, *, receive_buffer: int | None = None) -> socket.socket:
    address = urlsplit(server.url)
    wire = socket.socket()
    if receive_buffer is not None:  # only before it is connected does the window stay so small
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    wire.settimeout(PATIENCE)
    wire.connect((address.hostname, address.port))
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return wire


def _head(server: Server, *headers: str) -> bytes:
    lines = [
        "POST /v1/conversations HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        f"Authorization: Bearer {server.admin_key}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def _trickle(wire: socket.socket, data: bytes, *, every: float = 0.05) -> None:
    """One byte at a time, until the server hangs up."""
    wire.settimeout(every)
    said = b""
    try:
        for byte in data:
            wire.sendall(bytes([byte]))
            try:
                said = wire.recv(1, socket.MSG_PEEK)
                return
            except TimeoutError:
                continue
    except OSError:
        return
    finally:
        wire.settimeout(PATIENCE)
    raise AssertionError(f"the server took all of it and said {said!r}")


def _everything_from(wire: socket.socket) -> bytes:
    """Until the server hangs up; a TimeoutError if it does not."""
    said = b""
    try:
        while piece := wire.recv(65536):
            said += piece
    except ConnectionResetError:
        pass
    return said


def _status(said: bytes) -> int:
    return int(said.split(b" ", 2)[1])


def _problem(said: bytes) -> dict[str, object]:
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return json.loads(body)


def _conversations(server: Server) -> int:
    with httpx2.Client(base_url=server.url) as client:
        page = client.get(
            "/v1/conversations", headers={"Authorization": f"Bearer {server.admin_key}"}
        )
    return len(page.json()["items"])

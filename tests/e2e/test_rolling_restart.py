"""Two real servers on one PostgreSQL are restarted one after the other, under load."""

import hashlib
import itertools
import json
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from tests.e2e.conftest import Server

CLIENTS = 6
TURN_SECONDS = 60
HELD_UP = ("message 1", "message 2")
"""How the messages of the first two clients begin; each of them asks another server first."""
STREAM = {"Accept": "text/event-stream"}


class SlowEngine:
    """Answers "message 7000" with thirty words that name it, one each 20 ms. While it is `held_up`
    it ends no reply to the first two clients."""

    def __init__(self) -> None:
        self._go_on, self._all_held = threading.Event(), threading.Event()
        self._go_on.set()
        self._not_held: set[str] = set()
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                message = re.findall(r"message \d+", str(asked["messages"][-1]))[-1]
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                try:
                    for word in reply_to(message).split(" "):
                        self._send({"delta": {"content": f"{word} "}})
                        time.sleep(0.02)
                    engine._hold(message)
                    self._send({"delta": {}, "finish_reason": "stop"})
                    self.wfile.write(b"data: [DONE]\n\n")
                except OSError:
                    pass  # the server that asked has gone, or stopped listening

            def _send(self, choice: dict) -> None:
                chunk = json.dumps({"choices": [{"index": 0, **choice}]})
                self.wfile.write(f"data: {chunk}\n\n".encode())
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """Begins when a reply to each of the two is under way."""
        self._not_held = set(HELD_UP)
        self._all_held.clear()
        self._go_on.clear()
        try:
            assert self._all_held.wait(TURN_SECONDS), f"{self._not_held} said nothing"
            yield
        finally:
            self._go_on.set()

    def _hold(self, message: str) -> None:
        if message.startswith(HELD_UP) and not self._go_on.is_set():
            self._not_held.discard(message[: len(HELD_UP[0])])
            if not self._not_held:
                self._all_held.set()
            self._go_on.wait(TURN_SECONDS)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def reply_to(message: str) -> str:
    return " ".join([f"You said {message}:", *(f"word{n}" for n in range(30)), "end."])


@pytest.fixture
def engine() -> Iterator[SlowEngine]:
    engine = SlowEngine()
    yield engine
    engine.close()


@pytest.fixture
def servers(
    engine: SlowEngine, postgresql: Callable[[], str], tmp_path: Path
) -> Iterator[list[Server]]:
    url = postgresql()
    made = [
        Server(
            tmp_path / name,
            TWOFOLD_DATABASE_URL=url,
            TWOFOLD_SECRET="the same on every replica, and long enough",
            TWOFOLD_GENERATORS="remote",
            TWOFOLD_REMOTE_URL=engine.url,
            TWOFOLD_REMOTE_MODEL="test",
            TWOFOLD_EMBEDDED_WORKER="false",
            TWOFOLD_DRAIN_SECONDS="1",
            TWOFOLD_FINISH_SECONDS="0.2",  # less than a reply takes: some are handed over
        )
        for name in ("one", "two")
    ]
    key = made[0].command("keys", "create", "test", "--scope", "user").strip()
    for server in made:
        server.admin_key = key
        server.start()
    yield made
    for server in made:
        server.kill()


@dataclass
class Client:
    """Knows all servers, and asks the next one when one does not answer: what a load balancer
    and a patient program do together."""

    servers: list[Server]
    number: int
    done: dict[str, str] = field(default_factory=dict)
    """What was said, by turn."""
    trouble: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def talk(self, stop: threading.Event) -> None:
        try:
            self.conversation = self._ask("POST", "/v1/conversations", json={}).json()["id"]
            for count in itertools.count():
                if stop.is_set():
                    return
                text = f"message {self.number * 1000 + count}"
                (self._say_streaming if count % 2 else self._say_whole)(text)
        except Exception as error:
            self.trouble.append(repr(error))

    def page(self) -> list[dict]:
        path = f"/v1/conversations/{self.conversation}/turns"
        return self._ask("GET", path, params={"limit": 200}).json()["items"]

    def _say_whole(self, text: str) -> None:
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        path = f"/v1/conversations/{self.conversation}/turns"
        turn = self._ask("POST", path, json={"text": text}, headers=headers).json()
        while turn["status"] in ("accepted", "generating"):
            self.seen["left open"] += 1
            turn = self._ask("GET", f"/v1/turns/{turn['id']}", params={"wait": 20}).json()
        self._note(turn, turn["reply"], text)

    def _say_streaming(self, text: str) -> None:
        headers = {"Idempotency-Key": uuid.uuid4().hex} | STREAM
        path = f"/v1/conversations/{self.conversation}/turns"
        turn, last_id, said = None, None, ""
        for client in self._clients():
            if turn is None:
                request = client.stream("POST", path, json={"text": text}, headers=headers)
            else:
                self.seen["streams resumed"] += 1
                resume = STREAM | ({"Last-Event-ID": last_id} if last_id else {})
                request = client.stream("GET", f"/v1/turns/{turn}/events", headers=resume)
            try:
                with request as response:
                    if response.status_code == 503:
                        self.seen["503"] += 1
                        continue
                    response.raise_for_status()
                    for name, event_id, data in _events(response.iter_lines()):
                        last_id = event_id
                        if name == "accepted":
                            turn = data["id"]
                        elif name == "reset":
                            self.seen["resets"] += 1
                            said = ""
                        elif name == "delta":
                            assert data["offset"] == len(said)
                            said += data["text"]
                        elif name in ("done", "failed"):
                            assert name == "done", data["code"]
                            assert data["sha256"] == hashlib.sha256(said.encode()).hexdigest()
                            self._note(data["turn"], said, text)
                            return
            except httpx2.TransportError:
                self.seen["cut"] += 1

    def _note(self, turn: dict, said: str, text: str) -> None:
        if turn["status"] != "done" or said.strip() != reply_to(text):
            self.trouble.append(f"{text}: {turn['status']} {said!r}")
        self.done[turn["id"]] = said

    def _ask(self, method: str, path: str, **options) -> httpx2.Response:
        for client in self._clients():
            try:
                response = client.request(method, path, **options)
            except httpx2.TransportError:
                self.seen["cut"] += 1
                continue
            if response.status_code == 503:
                self.seen["503"] += 1
                continue
            response.raise_for_status()
            return response
        raise AssertionError("unreachable")

    def _clients(self) -> Iterator[httpx2.Client]:
        """One server after the other, with a short pause between them."""
        start = time.monotonic()
        for turn in itertools.count(self.number):
            if time.monotonic() - start > TURN_SECONDS:
                raise TimeoutError("no server answered in time")
            with self.servers[turn % len(self.servers)].client() as client:
                yield client
            time.sleep(0.05)


def _events(lines: Iterator[str]) -> Iterator[tuple[str, str, dict]]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            yield fields["event"], fields["id"], json.loads(fields["data"])
            fields = {}


def test_no_turn_fails_while_the_servers_are_restarted_one_after_the_other(
    engine: SlowEngine, servers: list[Server]
) -> None:
    clients = [Client(servers, number) for number in range(1, CLIENTS + 1)]
    stop = threading.Event()
    threads = [threading.Thread(target=client.talk, args=(stop,)) for client in clients]
    for thread in threads:
        thread.start()
    for server in servers:
        with engine.held_up():
            _stop_and_watch_readiness(server)
        server.start()
    stop.set()
    for thread in threads:
        thread.join(2 * TURN_SECONDS)

    assert [trouble for client in clients for trouble in client.trouble] == []
    for client in clients:
        page = client.page()
        assert [turn["seq"] for turn in page] == list(range(1, len(page) + 1))
        assert {turn["id"]: turn["reply"] for turn in page} == client.done
    seen = sum((client.seen for client in clients), Counter())
    turns = sum(len(client.done) for client in clients)
    print(f"{turns} turns over two restarts; clients saw {dict(seen)}")  # noqa: T201
    assert turns >= 2 * CLIENTS
    assert seen["streams resumed"] + seen["left open"] >= len(servers)


def _stop_and_watch_readiness(server: Server) -> None:
    """It says that it goes while it still serves."""
    seen: list[int] = []

    def watch() -> None:
        with httpx2.Client(base_url=server.url, timeout=10) as client:
            while True:
                try:
                    seen.append(client.get("/readyz").status_code)
                except httpx2.TransportError:
                    return
                time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    server.stop()
    watcher.join(30)
    assert 503 in seen


def test_a_second_server_on_the_same_sqlite_file_is_refused_whatever_its_folder(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    first = Server(tmp_path / "one", TWOFOLD_DATABASE_URL=url).start()
    second = Server(tmp_path / "two", TWOFOLD_DATABASE_URL=url)
    try:
        with pytest.raises(AssertionError, match=r"another server uses[^;]*shared\.db already"):
            second.start()
    finally:
        first.kill()

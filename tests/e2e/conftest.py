"""Real server processes, a real browser, and an engine that does what a test tells it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[2]
START_SECONDS = 600
"""The first start trains a network, at a low priority, on a machine that may be busy."""


class Server:
    """`twofold serve` as people start it, on a free port."""

    def __init__(self, data_dir: Path, *arguments: str, **environment: str) -> None:
        self.data_dir = data_dir
        self._arguments = arguments
        known = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._environment = known | {
            "TWOFOLD_DATA_DIR": str(data_dir),
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self.url = ""
        self.admin_key = ""
        self.said = ""

    def start(self) -> "Server":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", "--port", "0", *self._arguments],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        watchdog = threading.Timer(START_SECONDS, self._process.kill)
        watchdog.start()
        self.url, self.said = "", ""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said += line
            if found := re.search(r"Chat +(http://\S+?)/", line):
                self.url = found[1]
            if found := re.search(r"tf_\w+", line):
                self.admin_key = found[0]
            if "╰" in line:
                break
        watchdog.cancel()
        if not self.url:
            self._process.stdout.close()
            self._process.wait(30)
            raise AssertionError(f"the server did not start:\n{self.said}")
        # Somebody has to empty the pipe, or the server would block on its own log.
        self._reader = threading.Thread(target=self._process.stdout.read, daemon=True)
        self._reader.start()
        return self

    def command(self, *arguments: str, may_fail: bool = False) -> str:
        """A `twofold` command on the same data."""
        return subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=not may_fail,
            timeout=120,
        ).stdout

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def stop(self) -> int:
        """As a person or a container engine does; returns the exit status."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """kill -9: nothing of it gets to say anything more."""
        self._process.kill()
        self.ended()

    def ended(self) -> int:
        """Waits for it; returns the exit status."""
        status = self._process.wait(30)
        self._reader.join(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return status

    def client(self, key: str = "") -> httpx2.Client:
        return httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key or self.admin_key}"},
            timeout=60,
        )


class Engine:
    """An OpenAI-compatible engine; every reply waits until the test lets it go."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        """One more for each request that has arrived."""
        self.may_answer = threading.Event()
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                engine.asked.release()
                engine.may_answer.wait(60)
                try:
                    for piece in ("The answer ", "is 42."):
                        self._send({"choices": [{"index": 0, "delta": {"content": piece}}]})
                    self._send({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                    self.wfile.write(b"data: [DONE]\n\n")
                except OSError:
                    pass  # the server that asked was killed

            def _send(self, chunk: dict[str, Any]) -> None:
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.flush()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    running = Engine()
    yield running
    running.close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium from the system, or playwright's own; skips where there is none, but not in CI.

    Not for longer than this package: playwright's event loop runs in this thread until it is
    closed, and no other test could start one."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("TWOFOLD_CHROMIUM") or next(
        (path for name in names if (path := shutil.which(name))), None
    )
    with sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            why = "no Chromium here: install it, or run `playwright install chromium`"
            pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
        browser = playwright.chromium.launch(
            executable_path=found,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
            ],
        )
        yield browser
        browser.close()

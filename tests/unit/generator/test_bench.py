"""`python -m generator bench` at an engine elsewhere."""

import asyncio
import json
from pathlib import Path

import pytest

from generator.__main__ import main
from tests.fake_engine import DONE, STREAM, delta, status, url_of_nobody

from .test_remote import Server, engine

pytestmark = pytest.mark.anyio

REPLY = STREAM + delta("On ") + delta("Monday.")
COUNTED = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}\n\n'
WARM_UP, REQUESTS = 1, 16


async def bench(server: Server, *options: str) -> int:
    asked = ["bench", "--url", server.url, "--engine-model", "tiny", *options]
    return await asyncio.to_thread(main, asked)


async def only_all_at_once(server: Server, writer: asyncio.StreamWriter) -> None:
    """Of the requests that are to come sixteen at once, none is answered before all are there."""
    arrived = len(server.requests)
    if arrived == WARM_UP + 3 * REQUESTS:
        server.go_on.set()
    if arrived > WARM_UP + 2 * REQUESTS:
        await server.go_on.wait()
    writer.write(REPLY + COUNTED + DONE)
    await writer.drain()


async def test_an_engine_is_asked_by_one_by_four_and_by_sixteen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_KEY", "sk-very-secret")
    async with engine(only_all_at_once) as server:
        done = bench(server, "--key-variable", "ENGINE_KEY", "--max-tokens", "8", "--json")
        assert await asyncio.wait_for(done, 60) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["generator"] == f"tiny at {server.url}"
    assert [row["concurrent"] for row in report["rows"]] == [1, 4, 16]
    assert [row["identical"] for row in report["rows"]] == [None, 16, 16]
    for row in report["rows"]:
        assert (row["requests"], row["made"], row["counted"]) == (16, 16 * 5, "tokens")
        assert row["first_piece_p95_ms"] >= row["first_piece_p50_ms"] > 0
    assert len(server.requests) == WARM_UP + 3 * REQUESTS
    assert {head["authorization"] for _, head, _ in server.requests} == {"Bearer sk-very-secret"}
    assert all(2 <= body["max_tokens"] <= 8 for _, _, body in server.requests)


async def test_what_an_engine_counts_is_shown_as_tokens_and_what_it_does_not_as_pieces(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for counted, kind, made in ((COUNTED, "tokens", 10), (b"", "pieces", 4)):
        async with engine(REPLY + counted + DONE) as server:
            assert await bench(server, "--requests", "2") == 0
            shown = capsys.readouterr().out
            assert await bench(server, "--requests", "2", "--json") == 0
        assert f"{kind}/s" in shown
        assert ("does not count its tokens" in shown) is (kind == "pieces")
        for row in json.loads(capsys.readouterr().out)["rows"]:
            assert (row["made"], row["counted"]) == (made, kind)


async def test_an_engine_that_fails_ends_the_bench_with_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with engine(status(401)) as server:
        assert await bench(server) == 1
    assert "the engine refused the key; check it (status 401)" in capsys.readouterr().err
    assert await bench(Server([], url_of_nobody())) == 1
    assert "start it, or check the base URL" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["bench", "chat"])
@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["--url", "http://host/v1"], "--url needs --engine-model"),
        (["--random", "1m", "--ca-file", "ca.pem"], "--ca-file go with --url"),
        (["--url", "host/v1", "--engine-model", "tiny"], "looks like https://host/v1"),
        (
            ["--url", "https://host/v1", "--engine-model", "tiny", "--ca-file", "/none/ca.pem"],
            "there is no CA file /none/ca.pem",
        ),
        (
            ["--url", "http://host/v1", "--engine-model", "tiny", "--key-variable", "NO_KEY_HERE"],
            "there is no environment variable NO_KEY_HERE; export it first",
        ),
    ],
)
def test_options_that_name_no_engine_are_refused_with_a_remedy(
    command: str,
    options: list[str],
    remedy: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    if command == "chat":  # has no random network
        options = ["--documents", str(tmp_path), *options[2:]] if "--random" in options else options
    with pytest.raises(SystemExit):
        main([command, *options])
    assert remedy in capsys.readouterr().err

"""Seq2SeqGenerator, and the folder it is served from. The network is untrained: it babbles."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from app.errors import ConfigurationError
from app.main import build_generator
from app.settings import Settings
from generator.fallback import FallbackGenerator, FixedGenerator
from generator.interface import (
    ChatMessage,
    GeneratorError,
    GeneratorTimeout,
    GeneratorUnavailable,
    Limits,
)
from generator.seq2seq import artifact
from generator.seq2seq.artifact import Seq2Seq
from generator.seq2seq.config import NetworkShape
from generator.seq2seq.engine import Array, Engine, Reply, weight_sizes
from generator.seq2seq.generator import Seq2SeqGenerator
from generator.seq2seq.tokens import END, Tokens

from .conftest import collect

pytestmark = pytest.mark.anyio

ASK = [ChatMessage("user", "when does the parcel arrive?")]
LONG = Limits(max_tokens=10_000, seconds=60)


def babbling(*, reply_tokens: int = 40) -> Seq2Seq:
    tokens = Tokens.learn(["the parcel arrives on monday and the driver calls"] * 3, size=300)
    shape = NetworkShape(
        vocabulary=len(tokens),
        embedding=16,
        hidden=16,
        source_tokens=30,
        reply_tokens=reply_tokens,
    )
    draw = np.random.default_rng(5)
    weights = {
        name: draw.normal(0, 0.5, size).astype(np.float32)
        for name, size in weight_sizes(shape).items()
    }
    return Seq2Seq(Engine(shape, weights), tokens, {"about": "nothing"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "babbler"
    made.mkdir()
    artifact.save(babbling(), made)
    return made


async def text_of(generator: Seq2SeqGenerator, limits: Limits = LONG) -> str:
    return "".join(piece.text for piece in await collect(generator.stream(ASK, limits=limits)))


def whole_reply(beam_width: int) -> str:
    network = babbling()
    ids = network.say(network.read(ASK), most_tokens=10_000, beam_width=beam_width)
    return network.tokens.decode(list(ids))


@pytest.mark.parametrize("beam_width", [1, 4])
async def test_the_pieces_joined_are_the_whole_reply(folder: Path, beam_width: int) -> None:
    generator = Seq2SeqGenerator(folder, beam_width=beam_width)
    try:
        pieces = await collect(generator.stream(ASK))
        assert "".join(piece.text for piece in pieces) == whole_reply(beam_width)
        assert len(pieces) > 3
        assert {piece.generator for piece in pieces} == {"seq2seq"}
        spent = [piece.usage.cpu_seconds for piece in pieces]
        assert 0 < spent[0] <= spent[-1] == max(spent)
    finally:
        await generator.aclose()


async def test_limits_are_kept(folder: Path) -> None:
    generator = Seq2SeqGenerator(folder, beam_width=1)
    try:
        whole = await text_of(generator)
        short = await text_of(generator, Limits(max_tokens=5))
        assert short
        assert whole.startswith(short.rstrip("\ufffd"))
        assert len(short) < len(whole)
        stop = whole[len(whole) // 2 :][:2]
        assert await text_of(generator, Limits(stop=(stop,))) == whole[: whole.index(stop)]
        drawn = [await text_of(generator, Limits(temperature=1.0, seed=seed)) for seed in (7, 7, 8)]
        assert drawn[0] == drawn[1] != drawn[2]
        with pytest.raises(GeneratorTimeout):
            await text_of(generator, Limits(seconds=0.0))
        with pytest.raises(GeneratorError, match="must be the user's"):
            await collect(generator.stream([ChatMessage("assistant", "hello")]))
        odd = [ChatMessage("system", "x"), ChatMessage("user", "\ud800\0 <user> 🌿" * 50)]
        assert await collect(generator.stream(odd))
    finally:
        await generator.aclose()


class Watched(Seq2SeqGenerator):
    """Never ends a reply by itself. Its fourth step sets `reached` and waits for `go_on`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.steps = 0
        self.reached = asyncio.Event()
        self.go_on = threading.Event()
        loop = asyncio.get_running_loop()
        network = babbling(reply_tokens=5000)
        watched = self

        class Slow(Engine):
            def advance(self, tokens: Sequence[int], reply: Reply, parents: Sequence[int]) -> None:
                watched.steps += 1
                if watched.steps == 4:
                    loop.call_soon_threadsafe(watched.reached.set)
                    watched.go_on.wait(60)
                super().advance(tokens, reply, parents)

            def log_probabilities(self, attended: Array) -> Array:
                chances = super().log_probabilities(attended)
                chances[:, END] = -np.inf
                return chances

        slow = Slow(network.engine.shape, network.engine.weights)
        self._network = Seq2Seq(slow, network.tokens, {})


async def test_a_reader_who_leaves_stops_the_work_and_the_next_one_is_served(folder: Path) -> None:
    generator = Watched(folder)
    try:
        leaving = asyncio.create_task(text_of(generator))
        # The loop turns while the thread stands still in a step: the search does not block it.
        await generator.reached.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        generator.go_on.set()
        await text_of(generator, Limits(max_tokens=6))
        assert generator.steps == 4 + 6
    finally:
        await generator.aclose()


async def test_closing_stops_what_is_under_way(folder: Path) -> None:
    generator = Watched(folder)
    stream = asyncio.create_task(text_of(generator))
    await generator.reached.wait()
    closed = asyncio.create_task(generator.aclose())
    await asyncio.sleep(0)  # it has begun
    generator.go_on.set()
    await closed
    await stream
    assert generator.steps == 4
    with pytest.raises(GeneratorUnavailable, match="closed"):
        await text_of(generator)


def cut(name: str):
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return spoil


def changed(**fields: object):
    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **fields}))

    return spoil


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "network.safetensors").unlink(), "cannot be read"),
        (lambda folder: (folder / "config.json").unlink(), "cannot be read"),
        (cut("network.safetensors"), "damaged"),
        (cut("tokenizer.json"), "damaged"),
        (cut("config.json"), "no JSON, or cut short"),
        (changed(format_version=99), "not the 1 read here"),
        (changed(format="llama"), "use the local generator"),
        (changed(shape={}), "do not fit together"),
        (changed(sha256=None), "damaged"),
    ],
)
async def test_a_broken_folder_is_named_with_a_remedy_and_works_once_it_is_whole(
    spoil, message: str, folder: Path
) -> None:
    before = contents(folder)
    spoil(folder)
    generator = Seq2SeqGenerator(folder)
    try:
        with pytest.raises(GeneratorUnavailable, match=message) as caught:
            await generator.start()
        assert str(folder) in str(caught.value)
        with pytest.raises(GeneratorUnavailable, match=message):
            await text_of(generator)
        for name, content in before.items():
            (folder / name).write_bytes(content)
        assert await text_of(generator)
    finally:
        await generator.aclose()


async def test_a_folder_that_is_not_there_is_passed_over_in_a_chain(tmp_path: Path) -> None:
    chain = FallbackGenerator([Seq2SeqGenerator(tmp_path / "none"), FixedGenerator("sorry")])
    try:
        pieces = await collect(chain.stream(ASK))
        assert [piece.text for piece in pieces] == ["sorry"]
        assert [one.error for one in pieces[0].skipped] == ["generator_unavailable"]
    finally:
        await chain.aclose()


async def test_the_server_is_told_of_it_by_its_settings(folder: Path) -> None:
    def settings(**more: object) -> Settings:
        return Settings(_env_file=None, generators="seq2seq", **more)

    with pytest.raises(ConfigurationError, match="TWOFOLD_SEQ2SEQ_FOLDER"):
        build_generator(settings())
    chain = build_generator(settings(seq2seq_folder=folder))
    try:
        pieces = await collect(chain.stream(ASK))
        assert pieces[0].generator == "seq2seq"
    finally:
        await chain.aclose()


def test_a_saved_network_is_read_as_it_was(folder: Path) -> None:
    network = artifact.load(folder)
    assert network.card == {"about": "nothing"}
    assert network.engine.shape == babbling().engine.shape
    for name, weight in babbling().engine.weights.items():
        np.testing.assert_array_equal(network.engine.weights[name], weight)


def test_serving_and_chatting_load_no_torch(folder: Path) -> None:
    code = (
        "import sys\n"
        "from generator.__main__ import main\n"
        f"main(['chat', '--seq2seq', {str(folder)!r}, '--max-tokens', '5'])\n"
        "assert not {'torch', 'transformers', 'matplotlib'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input="hello\n\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > len("> > ")
    assert not done.stderr

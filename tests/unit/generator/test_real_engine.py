"""RemoteGenerator in front of a real engine: transformers' own server, on a tiny network."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest

from generator.fallback import FallbackGenerator, FixedGenerator
from generator.interface import (
    ChatMessage,
    GeneratorError,
    GeneratorRefused,
    Limits,
    Skipped,
)
from generator.prompt import build_prompt
from generator.remote import RemoteGenerator

from .conftest import collect

pytestmark = pytest.mark.anyio
pytest.importorskip("accelerate", reason="transformers serve needs accelerate")

ASK = [ChatMessage("user", "when does the parcel arrive?")]
LONG = Limits(max_tokens=400, seconds=300)
START_SECONDS = 400


@dataclass(frozen=True)
class Engine:
    url: str
    process: psutil.Popen

    def cpu_seconds(self) -> float:
        used = self.process.cpu_times()
        return used.user + used.system

    async def cpu_seconds_when_idle(self) -> float:
        before = -1.0
        while (now := self.cpu_seconds()) > before:
            before = now
            await asyncio.sleep(0.5)
        return now


@contextmanager
def serving(folder: Path) -> Iterator[Engine]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = "-m transformers.cli.transformers serve --host 127.0.0.1 --device cpu --port"
    process = psutil.Popen(
        [sys.executable, *command.split(), str(port), str(folder)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Engine(f"http://127.0.0.1:{port}/v1", process)
    finally:
        process.kill()
        process.wait()


async def until_it_answers(engine: Engine) -> None:
    health = engine.url.replace("/v1", "/health")
    async with httpx2.AsyncClient(trust_env=False) as client, asyncio.timeout(START_SECONDS):
        while engine.process.is_running():
            with suppress(httpx2.ConnectError):
                (await client.get(health)).raise_for_status()
                return
            await asyncio.sleep(0.2)


def plain_greedy_text(folder: Path, most_tokens: int) -> str:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder)
    prompt = build_prompt(ASK, count_tokens=len, budget=10_000)
    inputs = tokenizer.apply_chat_template(
        [{"role": one.role, "content": one.text} for one in prompt],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.inference_mode():
        ids = network.generate(**inputs, max_new_tokens=most_tokens, do_sample=False)
    return tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.timeout(1200)
async def test_a_real_engine_is_streamed_left_and_done_without(llama_folder: Path) -> None:
    """Starting it costs many seconds, so that all this is one test."""
    with serving(llama_folder) as engine:
        await until_it_answers(engine)
        generator = RemoteGenerator(engine.url, str(llama_folder))

        # What is streamed is what the network writes by itself; the engine keeps half a character
        # at the end to itself.
        pieces = await collect(generator.stream(ASK, limits=Limits(max_tokens=40, seconds=100)))
        streamed = "".join(one.text for one in pieces)
        written = plain_greedy_text(llama_folder, 40)
        assert streamed.rstrip("\ufffd") == written.rstrip("\ufffd")
        assert len(pieces) > 3

        # Another network's name is refused, and the engine has not failed.
        other = RemoteGenerator(engine.url, "another")
        with pytest.raises(GeneratorRefused, match="status 400"):
            await collect(other.stream(ASK))
        await other.aclose()

        # A reader who leaves stops the work.
        start = await engine.cpu_seconds_when_idle()
        assert len(await collect(generator.stream(ASK, limits=LONG))) > 100
        whole = await engine.cpu_seconds_when_idle() - start
        leaving = generator.stream(ASK, limits=LONG)
        await anext(leaving)
        await leaving.aclose()
        left = await engine.cpu_seconds_when_idle() - start - whole
        assert left < whole / 2

        # An engine that dies fails the open stream; then the next generator answers.
        pieces_until_death = generator.stream(ASK, limits=LONG)
        await anext(pieces_until_death)
        engine.process.kill()
        with pytest.raises(GeneratorError):
            await collect(pieces_until_death)
        chain = FallbackGenerator([generator, FixedGenerator("Sorry.")])
        [sorry] = await collect(chain.stream(ASK))
        assert sorry.text == "Sorry."
        assert sorry.skipped == (Skipped("remote", "generator_unavailable"),)
        await chain.aclose()

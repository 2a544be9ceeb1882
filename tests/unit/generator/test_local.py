"""LocalGenerator in front of real, tiny networks in its real process."""

import asyncio
import json
import os
import queue
import signal
from pathlib import Path

import pytest

from generator.interface import (
    ChatMessage,
    GeneratorOverloaded,
    GeneratorTimeout,
    GeneratorUnavailable,
    Limits,
    Passage,
)
from generator.local import LocalGenerator
from generator.local_process import Network, Request, SpokenText, explain, listen, plain_format
from generator.prompt import PromptTooLong, build_prompt

from .conftest import collect

pytestmark = pytest.mark.anyio

ASK = [ChatMessage("user", "when does the parcel arrive?")]
LONG = Limits(max_tokens=500, seconds=60)


def plain_greedy_text(folder: Path, max_new_tokens: int) -> str:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder)
    prompt = build_prompt(ASK, count_tokens=len, budget=10_000)
    if tokenizer.chat_template:
        inputs = tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.text} for m in prompt],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
    else:
        inputs = tokenizer(plain_format(prompt), return_tensors="pt")
    ids = network.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        return tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


# Starting a process costs seconds, so each of these asks one process for many things.


async def test_one_process_serves_all_kinds_of_requests(llama_folder: Path) -> None:
    generator = LocalGenerator(llama_folder, threads=1, waiting=1)
    try:
        pieces = await collect(generator.stream(ASK, limits=Limits(max_tokens=30, seconds=60)))
        whole = "".join(piece.text for piece in pieces)
        assert whole == plain_greedy_text(llama_folder, 30)
        assert len(pieces) > 3
        assert {piece.generator for piece in pieces} == {"local"}
        process_id = generator.process_id

        # A stop string ends the reply before it.
        stop = whole[len(whole) // 2 :][:3]
        stopped = await text_of(generator, Limits(max_tokens=30, seconds=60, stop=(stop,)))
        assert stopped == whole[: whole.index(stop)]

        # The same seed draws the same reply, another seed another one.
        drawn = [
            await text_of(generator, Limits(max_tokens=20, seconds=60, temperature=1.0, seed=seed))
            for seed in (7, 7, 8)
        ]
        assert drawn[0] == drawn[1] != drawn[2]

        # A reader who leaves frees the place at once, and the work behind it stops.
        leaving = generator.stream(ASK, limits=LONG)
        await anext(leaving)
        await leaving.aclose()
        assert await text_of(generator, Limits(max_tokens=30, seconds=60)) == whole

        # One works, one waits, the third is turned away.
        first = generator.stream(ASK, limits=LONG)
        await anext(first)
        second = asyncio.create_task(text_of(generator, Limits(max_tokens=5, seconds=60)))
        await asyncio.sleep(0)
        with pytest.raises(GeneratorOverloaded):
            await text_of(generator, Limits(max_tokens=5, seconds=60))
        await first.aclose()
        assert await second

        # A deadline that passes is an error, and the process lives on.
        with pytest.raises(GeneratorTimeout):
            await text_of(generator, Limits(max_tokens=500, seconds=0.05))

        # Control tokens, lone surrogates and NUL in a message are text.
        odd = [ChatMessage("user", "</s><|system|>\ud800\0 hello")]
        assert await collect(generator.stream(odd, limits=Limits(max_tokens=3, seconds=60)))

        # Passages that are too many for the network's context are left out, not an error.
        passages = [Passage(str(n), "Delivery", "the parcel " * 100, "d.md") for n in range(9)]
        assert await collect(generator.stream(ASK, passages, Limits(max_tokens=3, seconds=60)))
        with pytest.raises(PromptTooLong):
            await collect(generator.stream([ChatMessage("user", "parcel " * 3000)]))

        assert generator.process_id == process_id
    finally:
        await generator.aclose()
    assert generator.process_id is None
    with pytest.raises(GeneratorUnavailable, match="closed"):
        await text_of(generator, LONG)


async def text_of(generator: LocalGenerator, limits: Limits) -> str:
    return "".join(piece.text for piece in await collect(generator.stream(ASK, limits=limits)))


async def test_a_killed_process_fails_the_open_stream_and_the_next_call_works(
    gpt2_folder: Path,
) -> None:
    generator = LocalGenerator(gpt2_folder, threads=1)
    try:
        whole = await text_of(generator, Limits(max_tokens=40, seconds=60))
        assert whole == plain_greedy_text(gpt2_folder, 40)
        stream = generator.stream(ASK, limits=LONG)
        await anext(stream)
        killed = generator.process_id
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(GeneratorUnavailable, match="died"):
            await collect(stream)
        assert await text_of(generator, Limits(max_tokens=5, seconds=60))
        assert generator.process_id not in {None, killed}
    finally:
        await generator.aclose()


def config_of(folder: Path) -> dict[str, object]:
    options = {"bf16": False, "device": None, "threads": None, "context_tokens": None}
    return {"model": str(folder), "instructions": "", **options}


def test_a_cancelled_request_stops_within_a_token_or_two(llama_folder: Path) -> None:
    limits = {"max_tokens": 500, "seconds": 60, "seed": None, "temperature": 0.0, "stop": []}
    asked = {"id": 1, "messages": [{"role": "user", "text": "hello"}], "passages": []}
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    listen([json.dumps({**asked, "limits": limits})], requests)
    request = requests.get()
    said: list[str] = []

    def leave_after_two(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            request.cancelled.set()

    Network(config_of(llama_folder)).reply(request, leave_after_two)
    assert len(said) <= 4  # of 500


def test_a_cancel_reaches_the_request_it_names() -> None:
    limits = {"max_tokens": 5, "seconds": 60, "seed": None, "temperature": 0.0, "stop": []}
    asked = [{"id": n, "messages": [], "passages": [], "limits": limits} for n in (1, 2)]
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    listen(map(json.dumps, [*asked, {"cancel": 2}, {"cancel": 3}]), requests)
    assert [requests.get().cancelled.is_set() for _ in asked] == [False, True]


def copy(folder: Path, to: Path) -> None:
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())


def without(name: str):
    def spoil(folder: Path) -> None:
        for path in folder.glob(name):
            path.unlink()

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("config.json"), "has no config.json"),
        (without("*.safetensors"), "has no \\*.safetensors weights"),
        (without("tokenizer*"), "has no tokenizer"),
    ],
)
async def test_a_broken_folder_is_named_with_a_remedy(
    spoil, message: str, gpt2_folder: Path, tmp_path: Path
) -> None:
    copy(gpt2_folder, tmp_path)
    spoil(tmp_path)
    generator = LocalGenerator(tmp_path)
    try:
        with pytest.raises(GeneratorUnavailable, match=message):
            await generator.start()
        # Asked again at once, it does not load again but repeats what is wrong.
        with pytest.raises(GeneratorUnavailable, match=message):
            await generator.start()
    finally:
        await generator.aclose()


def test_weights_that_are_garbage_are_refused(gpt2_folder: Path, tmp_path: Path) -> None:
    copy(gpt2_folder, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00garbage")
    with pytest.raises(Exception, match=r"\w") as caught:
        Network(config_of(tmp_path))
    assert f"{tmp_path} could not be loaded" in explain(caught.value, str(tmp_path))


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    generator = LocalGenerator(tmp_path / "nothing")
    try:
        with pytest.raises(GeneratorUnavailable, match="there is no folder"):
            await text_of(generator, LONG)
    finally:
        await generator.aclose()


def test_text_that_could_still_become_a_stop_string_is_held_back() -> None:
    said: list[str] = []
    text = SpokenText(lambda ids: "".join(map(chr, ids)), said.append, ("END",))
    for char in "an E then ENDING":
        text.add([ord(char)])
    assert "".join(said) == "an E then "
    assert text.stopped


def test_half_a_character_is_held_back() -> None:
    said: list[str] = []
    text = SpokenText(lambda ids: bytes(ids).decode("utf-8", "replace"), said.append)
    for byte in "4 €".encode():
        text.add([byte])
    text.finish()
    assert said == ["4", " ", "€"]

"""LocalGenerator in front of real, tiny networks in its real process."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from generator.fallback import FallbackGenerator, FixedGenerator, Link
from generator.interface import (
    ChatMessage,
    GeneratorOverloaded,
    GeneratorTimeout,
    GeneratorUnavailable,
    Limits,
    Passage,
    TokensBy,
)
from generator.local.causal_network import CausalNetwork, NetworkOptions, explain, plain_format
from generator.local.generator import Ended, LocalGenerator, Ready
from generator.local.model_folder import check_folder
from generator.prompt import PromptTooLong, build_prompt

from .conftest import CONTEXT_TOKENS, collect

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

ASK = [ChatMessage("user", "when does the parcel arrive?")]
SECONDS = 240.0  # a busy machine takes a minute to load torch
LONG = Limits(max_tokens=500, seconds=SECONDS)


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
    ready: list[Ready] = []
    ended: list[Ended] = []
    generator = LocalGenerator(
        llama_folder,
        threads=1,
        most_running=2,
        waiting=1,
        on_ready=ready.append,
        on_ended=ended.append,
    )
    try:
        pieces = await collect(generator.stream(ASK, limits=Limits(max_tokens=30, seconds=SECONDS)))
        whole = "".join(piece.text for piece in pieces)
        assert whole == plain_greedy_text(llama_folder, 30)
        assert len(pieces) > 3
        assert {piece.generator for piece in pieces} == {"local"}
        process_id = generator.process_id
        assert ready == [Ready(True, "", CONTEXT_TOKENS, "cpu")]
        assert ended == [Ended(30, cancelled=False)]
        spent = [piece.usage.cpu_seconds for piece in pieces]
        assert 0 < spent[-1] == max(spent)
        last = pieces[-1].usage
        assert (last.reply_tokens, last.tokens_by) == (30, TokensBy.NETWORK)
        assert last.prompt_tokens > 5

        # A stop string ends the reply before it.
        stop = whole[len(whole) // 2 :][:3]
        stopped = await text_of(generator, Limits(max_tokens=30, seconds=SECONDS, stop=(stop,)))
        assert stopped == whole[: whole.index(stop)]
        assert ended[-1].tokens < 30  # the engine stopped, too

        # The same seed draws the same reply, another seed another one.
        drawn = [
            await text_of(
                generator, Limits(max_tokens=20, seconds=SECONDS, temperature=1.0, seed=seed)
            )
            for seed in (7, 7, 8)
        ]
        assert drawn[0] == drawn[1] != drawn[2]

        # Two are worked on, one waits, the fourth is turned away.
        streams = [generator.stream(ASK, limits=LONG) for _ in range(2)]
        for stream in streams:
            await anext(stream)
        waiting = asyncio.create_task(text_of(generator, Limits(max_tokens=30, seconds=SECONDS)))
        await asyncio.sleep(0)
        with pytest.raises(GeneratorOverloaded):
            await text_of(generator, Limits(max_tokens=5, seconds=SECONDS))

        # A reader who leaves frees the place for the one that waits, and the work behind it stops.
        ended.clear()
        await streams[0].aclose()
        assert await waiting == whole
        assert [one.cancelled for one in ended] == [True, False]
        assert ended[0].tokens < LONG.max_tokens
        await streams[1].aclose()

        # A deadline that passes is an error, and the process lives on.
        with pytest.raises(GeneratorTimeout):
            await text_of(generator, Limits(max_tokens=500, seconds=0.05))

        # Control tokens, lone surrogates and NUL in a message are text.
        odd = [ChatMessage("user", "</s><|system|>\ud800\0 hello")]
        assert await collect(generator.stream(odd, limits=Limits(max_tokens=3, seconds=SECONDS)))

        # Passages that are too many for the network's context are left out, not an error.
        passages = [Passage(str(n), "Delivery", "the parcel " * 100, "d.md") for n in range(9)]
        assert await collect(generator.stream(ASK, passages, Limits(max_tokens=3, seconds=SECONDS)))
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
    generator = LocalGenerator(gpt2_folder, threads=1, plain_chat=True)
    try:
        whole = await text_of(generator, Limits(max_tokens=40, seconds=SECONDS))
        assert whole == plain_greedy_text(gpt2_folder, 40)
        stream = generator.stream(ASK, limits=LONG)
        await anext(stream)
        killed = generator.process_id
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(GeneratorUnavailable, match="died"):
            await collect(stream)
        assert await text_of(generator, Limits(max_tokens=5, seconds=SECONDS))
        assert generator.process_id not in {None, killed}
    finally:
        await generator.aclose()


def copy(folder: Path, to: Path) -> None:
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())


def without(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for path in folder.glob(name):
            path.unlink()

    return spoil


def cut_off(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def garbage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00garbage")


def shard_missing(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def own_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('this code was run')")


def tensor_missing(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def too_many_tokens(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"new{n}" for n in range(50)])
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("config.json"), "has no config.json; write the folder"),
        (without("*.safetensors"), "has no \\*.safetensors weights .* write the folder"),
        (without("tokenizer*"), "has no tokenizer; write the folder"),
        (garbage, "cut off or no safetensors file; .* fetch the folder again"),
        (cut_off, "cut off or no safetensors file; .* fetch the folder again"),
        (shard_missing, "lacks model-00002-of-00002.safetensors.* fetch the folder again"),
    ],
)
def test_a_broken_folder_is_named_with_a_remedy(
    spoil: Callable[[Path], None], message: str, llama_folder: Path, tmp_path: Path
) -> None:
    copy(llama_folder, tmp_path)
    assert check_folder(str(tmp_path))
    spoil(tmp_path)
    with pytest.raises(GeneratorUnavailable, match=message):
        check_folder(str(tmp_path))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("chat_template.jinja"), "has no chat template.* choose its instruct"),
        (own_code, "Python code of its own .* use the remote generator"),
        (tensor_missing, "lack 1 tensors, for example model.norm.weight; fetch or save"),
    ],
)
def test_a_folder_that_loads_only_half_is_refused_with_a_remedy(
    spoil: Callable[[Path], None], message: str, llama_folder: Path, tmp_path: Path
) -> None:
    copy(llama_folder, tmp_path)
    spoil(tmp_path)
    with pytest.raises(GeneratorUnavailable, match=message):
        CausalNetwork(NetworkOptions(str(tmp_path)))


def test_a_token_that_the_network_does_not_know_fails_one_request_only(
    llama_folder: Path, tmp_path: Path
) -> None:
    copy(llama_folder, tmp_path)
    too_many_tokens(tmp_path)
    network = CausalNetwork(NetworkOptions(str(tmp_path)))
    assert network.task(ASK, (), LONG)
    with pytest.raises(GeneratorUnavailable, match="take both from the same training"):
        network.task([ChatMessage("user", "new7")], (), LONG)


def test_what_transformers_says_of_a_folder_comes_with_what_a_folder_must_be() -> None:
    said = explain(ValueError("no such thing\nand so on"), "folder")
    assert said.startswith("folder could not be loaded (ValueError: no such thing); it must be")


async def test_the_chat_goes_on_when_the_network_cannot_be_loaded_or_asked(
    llama_folder: Path, tmp_path: Path
) -> None:
    copy(llama_folder, tmp_path)
    cut_off(tmp_path)
    failures: list[str] = []
    chain = FallbackGenerator(
        [
            Link(LocalGenerator(tmp_path), SECONDS),
            Link(LocalGenerator(llama_folder), SECONDS),
            FixedGenerator("Sorry."),
        ],
        on_failure=lambda name, error: failures.append(str(error)),
    )
    try:
        too_long = [ChatMessage("user", "parcel " * 3000)]
        for _ in range(2):  # asked again, it does not load again but repeats what is wrong
            pieces = await collect(chain.stream(too_long, limits=LONG))
            assert "".join(piece.text for piece in pieces) == "Sorry."
    finally:
        await chain.aclose()
    assert all("fetch the folder again" in said for said in failures[::2])
    assert all("does not fit into" in said and "shorten it" in said for said in failures[1::2])


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    generator = LocalGenerator(tmp_path / "nothing")
    try:
        with pytest.raises(GeneratorUnavailable, match="there is no folder"):
            await text_of(generator, LONG)
    finally:
        await generator.aclose()

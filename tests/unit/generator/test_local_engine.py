"""Batches against transformers' plain `generate`, in this process, on real, tiny networks."""

import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from generator.interface import ChatMessage, GeneratorUnavailable, Limits
from generator.local.batching import STEP_TOKENS
from generator.local.causal_network import CausalNetwork, NetworkOptions, Task
from generator.local.engine import Engine, Progress
from generator.local.loading import choose
from generator.local.one_at_a_time import generate

from .conftest import TALK

CONFIG = {"most_running": 4, "cache_mb": 8}
SECONDS = 240.0

pytestmark = pytest.mark.timeout(900)


class Listener:
    """Runs an engine in a thread of its own and keeps what it makes."""

    def __init__(self, engine: Engine) -> None:
        self.tokens: dict[int, list[int]] = defaultdict(list)
        self.ends: dict[int, str] = {}
        self.most_running = 0
        self.engine = engine
        self._heard = threading.Condition()
        self._thread = threading.Thread(target=engine.run, args=(self._take,), daemon=True)
        self._thread.start()

    def _take(self, progress: Progress) -> None:
        with self._heard:
            self.tokens[progress.request_id].extend(progress.tokens)
            if progress.end is not None:
                assert progress.request_id not in self.ends
                self.ends[progress.request_id] = progress.end
            self.most_running = max(self.most_running, len(self.tokens.keys() - self.ends.keys()))
            self._heard.notify_all()

    def wait_for_tokens(self, request_id: int, count: int) -> None:
        with self._heard:
            assert self._heard.wait_for(lambda: len(self.tokens[request_id]) >= count, SECONDS)

    def wait_for_ends(self, *request_ids: int) -> None:
        with self._heard:
            assert self._heard.wait_for(lambda: self.ends.keys() >= {*request_ids}, SECONDS)


@contextmanager
def listening(network: CausalNetwork) -> Iterator[Listener]:
    engine, why_not = choose(network, CONFIG)
    assert why_not is None
    try:
        yield Listener(engine)
    finally:
        engine.close()


@pytest.fixture(scope="module", params=["llama", "gpt2", "mistral"])
def folder(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(f"{request.param}_folder"))


def network_of(folder: Path, **options: Any) -> CausalNetwork:
    return CausalNetwork(NetworkOptions(str(folder), threads=1, plain_chat=True, **options))


def mixed_tasks(network: CausalNetwork, count: int) -> list[Task]:
    """Short and long prompts and replies; the longest is read in several steps. Every third is
    drawn, each with a seed of its own."""
    choice = random.Random(1)
    words = " ".join(TALK).split()
    return [
        network.task(
            [ChatMessage("user", " ".join(choice.choices(words, k=choice.choice((1, 20, 300)))))],
            (),
            Limits(
                max_tokens=choice.randrange(1, 30),
                temperature=0.8 if number % 3 == 2 else 0.0,
                seed=number,
            ),
        )
        for number in range(count)
    ]


def test_replies_of_a_batch_are_those_of_generate(folder: Path) -> None:
    network = network_of(folder)
    tasks = mixed_tasks(network, 12)
    expected = [generate(network, task) for task in tasks]
    assert min(len(task.prompt) for task in tasks) < 30
    assert max(len(task.prompt) for task in tasks) > STEP_TOKENS
    with listening(network) as heard:
        for number, task in enumerate(tasks):
            if number in {4, 7}:  # these come when others are half-way
                heard.wait_for_tokens(number - 1, 1)
            heard.engine.add(number, task)
        heard.wait_for_ends(*range(len(tasks)))
    assert [heard.tokens[number] for number in range(len(tasks))] == expected
    assert set(heard.ends.values()) == {"finished"}


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_rounding_does_not_depend_on_the_batch(wide_folder: Path, precision: Any) -> None:
    network = network_of(wide_folder, precision=precision)
    tasks = [task for task in mixed_tasks(network, 30) if len(task.prompt) <= STEP_TOKENS]
    assert len(tasks) > 10
    expected = [generate(network, task) for task in tasks]
    with listening(network) as heard:
        for number, task in enumerate(tasks):
            heard.engine.add(number, task)
        heard.wait_for_ends(*range(len(tasks)))
    assert [heard.tokens[number] for number in range(len(tasks))] == expected


def test_a_cancelled_request_makes_no_more_tokens_and_another_gets_its_place(
    folder: Path,
) -> None:
    network = network_of(folder)
    network.ends.clear()  # so that replies are as long as they may be
    short = network.task([ChatMessage("user", "hello")], (), Limits(max_tokens=5))
    long = replace(short, max_new_tokens=450)
    with listening(network) as heard:
        for number in range(4):  # all places
            heard.engine.add(number, long)
            heard.wait_for_tokens(number, 1)
        heard.engine.add(4, short)
        heard.engine.add(5, long)  # waits, and leaves before its turn
        heard.engine.cancel(5)
        heard.wait_for_ends(5)
        assert not heard.tokens[5]
        assert 4 not in heard.ends
        heard.engine.cancel(2)
        heard.wait_for_ends(2, 4)
        made = len(heard.tokens[2])
        heard.wait_for_ends(0)
        assert heard.ends == {2: "cancelled", 5: "cancelled"} | dict.fromkeys(
            heard.ends.keys() - {2, 5}, "finished"
        )
        assert made == len(heard.tokens[2]) < 450
        assert len(heard.tokens[0]) == 450


def test_a_request_begins_when_its_longest_reply_fits_into_the_cache(llama_folder: Path) -> None:
    network = network_of(llama_folder)
    network.ends.clear()
    task = network.task([ChatMessage("user", "parcel " * 40)], (), Limits(max_tokens=200))
    expected = generate(network, task)
    engine, why_not = choose(network, {"most_running": 16, "cache_mb": 1})
    assert why_not is None
    heard = Listener(engine)
    try:
        for number in range(16):
            engine.add(number, task)
        heard.wait_for_ends(*range(16))
    finally:
        engine.close()
    assert [heard.tokens[number] for number in range(16)] == [expected] * 16
    config = network.network.config
    token_bytes = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    fitting = 1024 * 1024 // token_bytes // (len(task.prompt) + task.max_new_tokens)
    assert fitting / 2 < heard.most_running <= fitting < 16


def test_an_architecture_that_cannot_be_batched_is_served_one_at_a_time(
    bloom_folder: Path,
) -> None:
    network = network_of(bloom_folder)
    task = network.task([ChatMessage("user", "hello")], (), Limits(max_tokens=20))
    expected = generate(network, task)
    engine, why_not = choose(network, CONFIG)
    assert why_not is not None
    heard = Listener(engine)
    for number in range(3):
        engine.add(number, task)
    engine.cancel(1)
    heard.wait_for_ends(0, 1, 2)
    engine.close()
    assert heard.tokens[0] == heard.tokens[2] == expected
    assert heard.ends[1] == "cancelled"
    assert not heard.tokens[1]


def test_int8_is_refused_where_it_cannot_work(gpt2_folder: Path, llama_folder: Path) -> None:
    with pytest.raises(GeneratorUnavailable, match=r"is for the CPU .* choose bfloat16"):
        network_of(llama_folder, precision="int8", device="cuda")
    with pytest.raises(GeneratorUnavailable, match=r"linear layers .* choose bfloat16"):
        network_of(gpt2_folder, precision="int8")

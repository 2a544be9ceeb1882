"""The GRU encoder-decoder against a transformer of its size, given the same data and CPU time.

    TWOFOLD_DATA=/path/to/data python -m benchmarks.seq2seq [--minutes 10] [--json FILE]

Schema-Guided Dialogue (Rastogi et al. 2020, CC BY-SA 4.0): trained and stopped by conversations
of its training part, measured on its development part, of other services in part. Both networks
have the same tokens, pairs, batches, optimiser and schedule, one thread, and as many steps as
the time allows, by their first steps.
"""

import argparse
import gzip
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import seq2seq_transformer as transformer
from benchmarks.seq2seq_transformer import TransformerReply
from generator.interface import ChatMessage
from generator.seq2seq import artifact
from generator.seq2seq.artifact import BEAM_WIDTH, LENGTH_PENALTY
from generator.seq2seq.config import TrainingConfig
from generator.seq2seq.conversations import Conversation, Exchange, Split, exchanges
from generator.seq2seq.evaluation import bleu_of, rouge_l_of
from generator.seq2seq.network import Seq2SeqNetwork
from generator.seq2seq.search import Array, beam_search, sample
from generator.seq2seq.tokens import BEGIN, END, Tokens
from generator.seq2seq.training import (
    Progress,
    Trained,
    pairs,
    perplexity,
    served,
    texts_of,
    train,
)

TRAIN, TEST = "dialogues/sgd_train.jsonl.gz", "dialogues/sgd_dev.jsonl.gz"
VALID_CONVERSATIONS, TEST_CONVERSATIONS = 60, 300
FIRST_STEPS = 20
BATCH_SIZE = 64
CONVERSATIONS_A_MINUTE = 1500
"""More than either network gets to read."""
LONGEST_REPLY = 40
Say = Callable[[str], None]


class Decoding(Protocol):
    def step(self, tokens: Sequence[int], parents: Sequence[int]) -> Array: ...

    @property
    def state_bytes(self) -> int: ...


@dataclass(frozen=True)
class Spoken:
    """How good and how fast the replies were, `width` hypotheses at a time."""

    width: int
    bleu: float
    rouge_l: float
    tokens_per_second: float
    state_kb: float


@dataclass(frozen=True)
class Result:
    title: str
    weights: int
    steps: int
    training_cpu_seconds: float
    perplexity: float
    spoken: list[Spoken]
    resident_mb: float
    """Resident, of a process that has loaded the network and said ten replies."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    root = os.environ.get("TWOFOLD_DATA")
    if not root:
        print("skipped: set TWOFOLD_DATA to the folder that holds dialogues/")
        return 0
    if missing := [name for name in (TRAIN, TEST) if not Path(root, name).is_file()]:
        print(f"skipped: {root} has no {' and no '.join(missing)}")
        return 0
    torch.set_num_threads(1)
    data = read(Path(root), most=round(CONVERSATIONS_A_MINUTE * options.minutes))
    test = [exchange for one in data.test for exchange in exchanges(one)]
    log = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder, log.status("starting") as status:
        bench = Bench(data, test[: options.replies], 60 * options.minutes, status.update)
        results = [bench.gru(Path(folder, "gru")), bench.transformer(Path(folder, "transformer"))]
    # So that a table sent to a file is not folded.
    Console(width=None if sys.stdout.isatty() else 100).print(table(results))
    print(
        f"{len(data.train):,} conversations to learn from; perplexity of {len(test):,} replies, "
        f"the rest of {len(bench.asked)}. Speeds in CPU seconds, reading included."
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in results], indent=1))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.seq2seq",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="of CPU, to train each network (default: 10)"
    )
    parser.add_argument("--replies", type=int, default=200, help="said, each in four ways")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


def read(root: Path, *, most: int) -> Split:
    learned, asked = (_conversations(root / name) for name in (TRAIN, TEST))
    for conversations in (learned, asked):
        random.Random(0).shuffle(conversations)
    return Split(
        train=tuple(learned[VALID_CONVERSATIONS:][:most]),
        valid=tuple(learned[:VALID_CONVERSATIONS]),
        test=tuple(asked[:TEST_CONVERSATIONS]),
    )


def _conversations(file: Path) -> list[Conversation]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [
            tuple(ChatMessage(turn["speaker"], turn["text"]) for turn in json.loads(line)["turns"])
            for line in lines
        ]


class Bench:
    def __init__(
        self, data: Split, asked: Sequence[Exchange], cpu_seconds: float, say: Say
    ) -> None:
        self.asked = asked
        self._data = data
        self._cpu_seconds = cpu_seconds
        self._say = say
        self._config = TrainingConfig(batch_size=BATCH_SIZE)
        self._tokens = Tokens.learn(texts_of(data.train), size=self._config.vocabulary)

    def gru(self, folder: Path) -> Result:
        few = Split(self._data.train[: 4 * BATCH_SIZE], self._data.valid[:1], ())
        _, seconds = self._train_gru(few, FIRST_STEPS)
        steps = int(self._cpu_seconds * FIRST_STEPS / seconds)
        trained, seconds = self._train_gru(self._data, steps)
        network = served(trained)
        folder.mkdir()
        artifact.save(network, folder)
        in_torch = trained.network.eval()
        return Result(
            title="GRU",
            weights=sum(weight.numel() for weight in in_torch.parameters()),
            steps=steps,
            training_cpu_seconds=seconds,
            perplexity=perplexity(trained, self._data.test),
            spoken=[
                self._speak(network.engine.read, 1),
                self._speak(network.engine.read, BEAM_WIDTH),
                self._speak(lambda source: TorchReply(in_torch, source), 1),
            ],
            resident_mb=resident_mb(
                "from generator.seq2seq.artifact import load\n"
                f"network = load(Path({str(folder)!r}))\n"
                "for _ in range(10): list(sample(network.engine.read([9] * 60), **limits))\n"
            ),
        )

    def _train_gru(self, data: Split, steps: int) -> tuple[Trained, float]:
        """And the CPU seconds of its steps, checks not counted."""
        config = replace(self._config, epochs=1000, most_steps=steps)
        seconds = 0.0
        before = math.inf  # the first step's time is not known: what comes before it is not one
        for step in train(data, config):
            now = time.process_time()
            if isinstance(step, Trained):
                return step, seconds * steps / (steps - 1)
            if isinstance(step, Progress):
                self._say(f"GRU: step {step.step} of {step.of}")
                seconds += max(0.0, now - before)
            before = now
        raise AssertionError("a training ends with what was trained")

    def transformer(self, folder: Path) -> Result:
        lesson, check, test = (
            pairs(part, self._tokens, self._config)
            for part in (self._data.train, self._data.valid, self._data.test)
        )
        longest = self._config.source_tokens + self._config.reply_tokens + 1
        network = transformer.build(len(self._tokens), longest=longest)
        some = lesson[: 30 * BATCH_SIZE]
        seconds = transformer.train(network, some, check[:9], steps=FIRST_STEPS, say=self._say)
        steps = int(self._cpu_seconds * FIRST_STEPS / seconds)
        network = transformer.build(len(self._tokens), longest=longest)
        seconds = transformer.train(network, lesson, check, steps=steps, say=self._say)
        network.save_pretrained(folder)
        return Result(
            title="transformer",
            weights=sum(weight.numel() for weight in network.parameters()),
            steps=steps,
            training_cpu_seconds=seconds,
            perplexity=math.exp(transformer.mean_loss(network, test)),
            spoken=[
                self._speak(lambda source: TransformerReply(network, source), width)
                for width in (1, BEAM_WIDTH)
            ],
            resident_mb=resident_mb(
                "from benchmarks.seq2seq_transformer import TransformerReply, load\n"
                f"network = load(Path({str(folder)!r}))\n"
                "for _ in range(10): list(sample(TransformerReply(network, [9] * 60), **limits))\n"
            ),
        )

    def _speak(self, read: Callable[[Sequence[int]], Decoding], width: int) -> Spoken:
        said: list[str] = []
        count, largest, seconds = 0, 0, 0.0
        for exchange in self.asked:
            source = self._tokens.context(exchange.context, most=self._config.source_tokens)
            started = time.process_time()
            reply = read(source)
            ids = list(_say(reply, width))
            seconds += time.process_time() - started
            count += len(ids) + 1  # the end is said, too
            largest = max(largest, reply.state_bytes)
            said.append(self._tokens.decode(ids).strip())
            self._say(f"{len(said)} of {len(self.asked)} replies, {width} at a time")
        expected = [exchange.reply for exchange in self.asked]
        return Spoken(
            width=width,
            bleu=bleu_of(said, expected)[0],
            rouge_l=rouge_l_of(said, expected),
            tokens_per_second=count / seconds,
            state_kb=largest / 1000,
        )


class TorchReply:
    """The GRU as the transformer is computed, so that the engines are no part of a comparison."""

    def __init__(self, network: Seq2SeqNetwork, source: Sequence[int]) -> None:
        self._network = network
        with torch.inference_mode():
            self._memory, self._state = network.read(torch.tensor([source]))

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], parents: Sequence[int]) -> Array:
        vectors = self._network.embedding(torch.tensor(tokens))
        self._state, _ = self._network.step(vectors, self._state, self._memory)
        chances: Array = self._network.logits(self._state.attended).log_softmax(1).numpy()
        return chances

    @property
    def state_bytes(self) -> int:
        parts = (self._memory.states, self._memory.keys, self._state.hidden, self._state.attended)
        return sum(part.nbytes for part in parts)


def _say(reply: Decoding, width: int) -> Iterator[int]:
    if width == 1:
        return sample(reply, begin=BEGIN, end=END, most_tokens=LONGEST_REPLY)
    return beam_search(
        reply,
        begin=BEGIN,
        end=END,
        most_tokens=LONGEST_REPLY,
        width=width,
        length_penalty=LENGTH_PENALTY,
    )


def resident_mb(serve: str) -> float:
    """Of a fresh process that has run `serve`."""
    code = (
        "from pathlib import Path\n"
        "import psutil\n"
        "from generator.seq2seq.search import sample\n"
        "limits = dict(begin=1, end=2, most_tokens=40)\n"
        f"{serve}"
        "print(psutil.Process().memory_info().rss)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1e6


def table(results: Sequence[Result]) -> Table:
    shown = Table("", *(one.title for one in results), box=box.SIMPLE)
    for column in shown.columns[1:]:
        column.justify = "right"

    def row(name: str, figure: Callable[[Result], str]) -> None:
        shown.add_row(name, *map(figure, results))

    def spoken(name: str, place: int, figure: Callable[[Spoken], str]) -> None:
        row(name, lambda one: figure(one.spoken[place]) if place < len(one.spoken) else "")

    row("weights", lambda one: f"{one.weights:,}")
    row("training, CPU seconds", lambda one: f"{one.training_cpu_seconds:.0f}")
    row(f"steps of {BATCH_SIZE} replies", lambda one: f"{one.steps:,}")
    row("perplexity", lambda one: f"{one.perplexity:.1f}")
    for place, how in enumerate(("greedy", f"beam of {BEAM_WIDTH}")):
        spoken(f"BLEU, {how}", place, lambda one: f"{one.bleu:.1f}")
        spoken(f"ROUGE-L, {how}", place, lambda one: f"{one.rouge_l:.1f}")
        spoken(f"tokens a second, {how}", place, lambda one: f"{one.tokens_per_second:,.0f}")
    spoken("– greedy, computed with torch, too", 2, lambda one: f"{one.tokens_per_second:,.0f}")
    spoken("state of a reply, greedy, kB", 0, lambda one: f"{one.state_kb:,.0f}")
    row("memory of a serving process, MB", lambda one: f"{one.resident_mb:,.0f}")
    return shown


if __name__ == "__main__":
    sys.exit(main())

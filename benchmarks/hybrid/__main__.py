"""What the hybrid saves, and what that costs: measured at a running server, over HTTP.

    TWOFOLD_DATA=/path/to/data python -m benchmarks.hybrid --model FOLDER [--minilm FOLDER]

The data folder holds intents/clinc150/, as for benchmarks.intent. The network learns from the
train part, as an operator's intents. Of the valid part (with all that is out of scope but the
test's) every fifth utterance stops the training and chooses the thresholds that are tried, the
others are counted for the certificate; messages are drawn from the test part. `--artifact` keeps
the network, and takes it from there the next time. `--model` is any Hugging Face causal language
model; `--random 30m` one of random weights.

1. Generator only: no version is promoted yet, so that everything is generated. Messages in and out
   of scope are generated once, eight at a time, for `--seconds`; latency, tokens and CPU kept.
2. Every router decides every message of every mix over HTTP; what ours answers instantly is
   posted, too. Where it is to be generated, the recorded generation is replayed: the message's
   own, or another's of the same scope.
3. A stream is really answered, to see whether the replay is right; and instant turns are timed
   idle and with eight generations under way, in turn.

Saving: how many times fewer calls of the generator. An oracle answers all that is in scope
instantly, and nothing else; what is kept of its saving is the headline. Everything is VOID, and
the exit code 1, unless at each mix that is certified the wrong instant answers are shown to be
few (Clopper-Pearson, one-sided 95 %) and hardly fewer messages end well than with the generator
alone, whose replies all count as good. The promise is stricter than what is to be shown, by what
one to two thousand answers leave open.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from rich.console import Console
from tokenizers import Tokenizer

from benchmarks.hybrid import neighbours
from benchmarks.hybrid.figures import (
    OURS,
    Arm,
    Choice,
    Cost,
    Gate,
    Message,
    Mix,
    Recording,
    outcome,
    void,
)
from benchmarks.hybrid.measuring import (
    Live,
    Measured,
    UnderLoad,
    answer_instantly,
    answer_live,
    answer_under_load,
    record,
    route_all,
)
from benchmarks.hybrid.report import Results, picture, show
from benchmarks.hybrid.service import Service, free_port, promote, twofold
from benchmarks.intent import validation, with_strangers
from benchmarks.intent_minilm import export_encoder
from generator.bench import size_of
from generator.local.random_network import write_random_network
from intent import artifact
from intent.config import FINE_TUNING
from intent.data import TrainingSet, read
from intent.encoder import PretrainedEncoder
from intent.interface import Promise
from intent.training import Trained, train

LIVE_MESSAGES = 80
EVERY = 5
LOAD_ROUNDS, LOAD_TURNS = 6, 50


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    root = os.environ.get("TWOFOLD_DATA")
    if not root:
        print("skipped: set TWOFOLD_DATA to the folder that holds intents/")
        return 0
    folder = Path(root, "intents", "clinc150")
    if not folder.is_dir():
        print(f"skipped: {folder} does not exist")
        return 0
    weights = size_of(options.random) if options.random else None
    if options.random and weights is None:
        parser.error("--random takes a size such as 500k or 30m")
    log = Console(stderr=True)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if weights is not None:
            options.model = scratch / "random"
            write_random_network(options.model, weights)
        results = Bench(options, Data.of(folder), scratch, stack, log).run()
    gate = Gate(most_wrong=options.shown_wrong)
    reasons = void(results.mixes, gate)
    # So that a table sent to a file is not folded.
    show(results, gate, Console(width=None if sys.stdout.isatty() else 160))
    if options.json:
        content = json.dumps(results.to_json(gate), indent=1)
        options.json.write_text(content, encoding="utf-8")
    if options.picture:
        options.picture.write_text(picture(results, gate), encoding="utf-8")
    return 1 if reasons else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hybrid",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    generator = parser.add_mutually_exclusive_group()
    generator.add_argument("--model", type=Path, metavar="FOLDER", help="a causal language model")
    generator.add_argument("--random", default="30m", metavar="SIZE", help="default: 30m")
    parser.add_argument("--minilm", type=Path, metavar="FOLDER", help="all-MiniLM-L6-v2")
    parser.add_argument("--artifact", type=Path, metavar="FILE", help="the trained network")
    parser.add_argument(
        "--mixes",
        type=float,
        nargs="+",
        default=(0.6, 0.9, 0.3),
        metavar="SHARE",
        help="in scope; the first is also answered live",
    )
    parser.add_argument("--messages", type=int, default=2_500, help="at most, of a mix")
    parser.add_argument("--seconds", type=float, default=200.0, help="of generating, alone")
    parser.add_argument("--tokens", type=int, default=48, help="longest reply")
    parser.add_argument("--precision", default="bfloat16", help="the generator's")
    parser.add_argument("--promised-wrong", type=float, default=0.045, metavar="SHARE")
    parser.add_argument("--shown-wrong", type=float, default=0.05, metavar="SHARE")
    parser.add_argument("--price", type=float, default=0.04, help="of a CPU hour, any currency")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="SVG")
    return parser


@dataclass(frozen=True)
class Data:
    train: TrainingSet
    valid: TrainingSet
    calibration: TrainingSet
    inside: tuple[Message, ...]
    outside: tuple[Message, ...]

    @classmethod
    def of(cls, folder: Path) -> Self:
        test = with_strangers(read(folder / "test.jsonl"), folder / "oos_test.jsonl")
        learned, strangers = read(folder / "train.jsonl"), folder / "oos_train.jsonl"
        unseen = validation(folder)
        more = with_strangers(learned, strangers).out_of_scope
        unseen = replace(unseen, out_of_scope=unseen.out_of_scope + more)
        return cls(
            learned,
            _part(unseen, every=True),
            _part(unseen, every=False),
            tuple(Message(one.text, one.intent) for one in test.examples),
            tuple(Message(one.text, None) for one in test.out_of_scope),
        )

    def stream(self, in_scope: float, *, most: int, seed: int) -> list[Message]:
        """In random order, none twice, as long as the data allow."""
        size = min(most, *(
            int(len(part) / share)
            for part, share in ((self.inside, in_scope), (self.outside, 1 - in_scope))
            if share > 0
        ))  # fmt: skip
        known = round(in_scope * size)
        drawn = random.Random(seed)
        stream = drawn.sample(self.inside, known) + drawn.sample(self.outside, size - known)
        return drawn.sample(stream, size)


def _part(data: TrainingSet, *, every: bool) -> TrainingSet:
    """Every fifth utterance, or the others."""
    return replace(
        data,
        examples=tuple(e for n, e in enumerate(data.examples) if (n % EVERY == 0) is every),
        out_of_scope=tuple(e for n, e in enumerate(data.out_of_scope) if (n % EVERY == 0) is every),
    )


class Bench:
    def __init__(
        self, options: argparse.Namespace, data: Data, scratch: Path, stack: ExitStack, log: Console
    ) -> None:
        self._options, self._data, self._scratch, self._stack = options, data, scratch, stack
        self._log = log
        self._status = stack.enter_context(log.status("starting"))
        self._routes: dict[str, Measured] = {}

    def run(self) -> Results:
        trained, training_seconds = self._trained()
        others = self._neighbours()
        started = time.monotonic()
        first, *more = self._options.mixes
        service = self._twofold(trained, first, self._generator_settings())
        recording = self._recording(service)
        promote(service)
        stream, mix = self._mix(service, first, recording, others)
        live = self._live(service, first, recording)
        load = self._load(service, stream)
        mixes = [mix]
        for in_scope in more:
            service = self._twofold(trained, in_scope, {"TWOFOLD_GENERATORS": ""})
            promote(service)
            mixes.append(self._mix(service, in_scope, recording, others)[1])
        return Results(
            mixes=tuple(mixes),
            generations=recording.generations,
            routes=self._routes,
            live=live,
            load=load,
            training_seconds=training_seconds,
            seconds=time.monotonic() - started,
            price=self._options.price,
        )

    def _trained(self) -> tuple[Path, float | None]:
        kept: Path | None = self._options.artifact
        if kept is not None and kept.exists():
            return kept, None
        torch.set_num_threads(1)
        started = time.monotonic()
        path = kept or self._scratch / "network.safetensors"
        for step in train(
            self._data.train,
            replace(FINE_TUNING, seed=self._options.seed),
            valid=self._data.valid,
            calibration=self._data.calibration,
            encoder=PretrainedEncoder.load(),
        ):
            if isinstance(step, Trained):
                artifact.save(step.artifact, path)
            else:
                self._tell(f"training, epoch {step.number} of at most {step.of}")
        return path, time.monotonic() - started

    def _neighbours(self) -> Path | None:
        if self._options.minilm is None:
            self._log.print("skipped k-nearest: name the folder of all-MiniLM-L6-v2 with --minilm")
            return None
        folder = self._scratch / "neighbours"
        folder.mkdir()
        self._tell("embedding the training examples with MiniLM")
        try:
            export_encoder(self._options.minilm, folder)
        except (OSError, ValueError) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            self._log.print(f"skipped k-nearest: {self._options.minilm}: {reason}")
            return None
        neighbours.fit(folder, self._data.train, self._data.valid, self._data.calibration)
        return folder

    def _promise(self, in_scope: float) -> Promise:
        return replace(
            Promise(), max_wrong_instant=self._options.promised_wrong, least_in_scope=in_scope
        )

    def _generator_settings(self) -> dict[str, str]:
        """Patient ones: nothing falls back to an apology because the machine is slow."""
        return {
            "TWOFOLD_GENERATORS": "local",
            "TWOFOLD_LOCAL_MODEL": str(self._options.model.absolute()),
            "TWOFOLD_LOCAL_PRECISION": self._options.precision,
            "TWOFOLD_LOCAL_THREADS": "1",
            "TWOFOLD_GENERATION_TOKENS": str(self._options.tokens),
            "TWOFOLD_FIRST_PIECE_SECONDS": "600",
            "TWOFOLD_GENERATION_SECONDS": "600",
        }

    def _twofold(self, trained: Path, in_scope: float, settings: dict[str, str]) -> Service:
        promise = self._promise(in_scope)
        self._tell(f"a server that promises {promise.max_wrong_instant:.0%} at {in_scope:.0%}")
        settings = settings | {
            "TWOFOLD_MAX_WRONG_INSTANT": str(promise.max_wrong_instant),
            "TWOFOLD_PROMISE_CONFIDENCE": str(promise.confidence),
            "TWOFOLD_LEAST_IN_SCOPE": str(promise.least_in_scope),
        }
        return twofold(self._scratch / f"{in_scope:.0%}", trained, settings, self._stack)

    def _recording(self, service: Service) -> Recording:
        tokenizer = Tokenizer.from_file(str(self._options.model / "tokenizer.json"))
        drawn = random.Random(self._options.seed)
        inside, outside = self._data.inside, self._data.outside
        return record(
            service,
            drawn.sample(inside, len(inside)),
            drawn.sample(outside, len(outside)),
            lambda text: len(tokenizer.encode(text).ids),
            seconds=self._options.seconds,
            say=self._tell,
        )

    def _mix(
        self, service: Service, in_scope: float, recording: Recording, others: Path | None
    ) -> tuple[list[tuple[Message, Choice]], Mix]:
        """What each arm decides; also every message with our choice."""
        messages = self._data.stream(in_scope, most=self._options.messages, seed=self._options.seed)
        self._tell(f"{in_scope:.0%} in scope: our router, {len(messages):,} messages")
        routed = route_all(service, messages)
        turns, changed = answer_instantly(service, messages, routed.choices)
        self._routes.setdefault("decision alone", routed.measured)
        self._routes.setdefault("instant turn", turns)
        ours = Arm(OURS, routed.choices, turns.cost, routed.measured.cost, ranks=True)
        arms = [*without_a_router(messages, ours, self._options.seed), ours]
        uncertified = set() if routed.is_certified else {OURS}
        if others is not None:
            self._tell(f"{in_scope:.0%} in scope: k-nearest, {len(messages):,} messages")
            nearest, is_certified = self._nearest(others, in_scope, messages, ours)
            arms.insert(-1, nearest)
            uncertified |= set() if is_certified else {nearest.name}
        outcomes = tuple(outcome(arm, in_scope, messages, recording) for arm in arms)
        mix = Mix(in_scope, outcomes, frozenset(uncertified), changed)
        return list(zip(messages, routed.choices, strict=True)), mix

    def _nearest(
        self, folder: Path, in_scope: float, messages: Sequence[Message], ours: Arm
    ) -> tuple[Arm, bool]:
        """Its instant answers are stored, too: they cost what ours do, but for the routing."""
        with ExitStack() as stack:
            port = free_port()
            command = neighbours.command(folder, port, self._promise(in_scope))
            service = Service.started(command, port, stack, folder=self._scratch)
            routed = route_all(service, messages)
        self._routes.setdefault("decision alone, k-nearest", routed.measured)
        cost = routed.measured.cost
        instant = Cost(
            ours.instant.seconds - ours.routing.seconds + cost.seconds,
            ours.instant.cpu_seconds - ours.routing.cpu_seconds + cost.cpu_seconds,
        )
        return Arm("k-nearest", routed.choices, instant, cost, ranks=True), routed.is_certified

    def _live(self, service: Service, in_scope: float, recording: Recording) -> Live:
        """As many of the recorded messages as make this mix."""
        inside, outside = (
            [g.message for g in recording.generations if (g.message.intent is None) is strange]
            for strange in (False, True)
        )
        size = min(
            LIVE_MESSAGES, int(len(inside) / in_scope), int(len(outside) / max(1 - in_scope, 1e-9))
        )
        known = round(in_scope * size)
        self._tell(f"{in_scope:.0%} in scope: {size} messages, really answered")
        return answer_live(
            service,
            inside[:known] + outside[: size - known],
            recording,
            instant=self._routes["instant turn"].cost,
            routing=self._routes["decision alone"].cost,
        )

    def _load(self, service: Service, stream: Sequence[tuple[Message, Choice]]) -> UnderLoad:
        self._tell("instant turns, idle and with eight generations under way")
        return answer_under_load(
            service,
            [message.text for message, choice in stream if choice.is_instant],
            [m.text for m, c in stream if not (c.is_instant or c.asks_back)],
            rounds=LOAD_ROUNDS,
            turns=LOAD_TURNS,
        )

    def _tell(self, news: str) -> None:
        self._status.update(news)


def without_a_router(messages: Sequence[Message], ours: Arm, seed: int) -> list[Arm]:
    """What ours is measured against that knows nothing, or everything. They answer what our
    network takes a message for; random ones as often as ours does."""
    share = sum(choice.is_instant for choice in ours.choices) / len(messages)
    drawn = random.Random(seed)
    guesses = [choice.intent for choice in ours.choices]
    return [
        Arm("generator only", [Choice(False)] * len(messages)),
        Arm("always instant", [Choice(True, intent) for intent in guesses], ours.instant),
        Arm("random", [Choice(drawn.random() < share, intent) for intent in guesses], ours.instant),
        Arm("oracle", [Choice(m.intent is not None, m.intent) for m in messages], ours.instant),
    ]


if __name__ == "__main__":
    sys.exit(main())

"""One run of the benchmark of the hybrid, from the training to the last arm."""

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from tokenizers import Tokenizer

from benchmarks import follow_ups
from benchmarks.hybrid import neighbours
from benchmarks.hybrid.data import Data
from benchmarks.hybrid.figures import (
    OURS,
    Arm,
    Choice,
    Cost,
    Message,
    Mix,
    Recording,
    outcome,
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
from benchmarks.hybrid.report import Results
from benchmarks.hybrid.service import Service, free_port, promote, twofold
from benchmarks.intent_minilm import export_encoder
from intent import artifact
from intent.config import FINE_TUNING
from intent.encoder import PretrainedEncoder
from intent.interface import Promise
from intent.training import Trained, train

LIVE_MESSAGES = 80
LOAD_ROUNDS, LOAD_TURNS = 6, 50


class Bench:
    def __init__(
        self,
        options: argparse.Namespace,
        data: Data,
        dialogues: Path,
        scratch: Path,
        stack: ExitStack,
        log: Console,
    ) -> None:
        self._options, self._data, self._dialogues = options, data, dialogues
        self._scratch, self._stack, self._log = scratch, stack, log
        self._spent: dict[str, float] = {}
        self._status = stack.enter_context(log.status("starting"))
        self._routes: dict[str, Measured] = {}

    def run(self) -> Results:
        torch.set_num_threads(1)
        with self._timed("training"):
            trained = self._trained()
        with self._timed("follow-ups"):
            followed = self._follow_ups()
        with self._timed("k-nearest"):
            others = self._neighbours()
        first, *more = self._options.mixes
        service = self._twofold(trained, first, self._generator_settings())
        with self._timed("generating"):
            recording = self._recording(service)
        promote(service)
        stream, mix = self._mix(service, first, recording, others)
        with self._timed("answering live"):
            live = self._live(service, first, recording)
        with self._timed("under load"):
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
            follow_ups=followed,
            spent=self._spent,
            price=self._options.price,
        )

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._spent[what] = self._spent.get(what, 0.0) + time.monotonic() - started

    def _trained(self) -> Path:
        kept: Path | None = self._options.artifact
        if kept is not None and kept.exists():
            return kept
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
        return path

    def _follow_ups(self) -> Sequence[follow_ups.Row]:
        if lacking := follow_ups.missing(self._dialogues):
            self._log.print(f"skipped follow-ups: {lacking}")
            return ()
        return follow_ups.rows_of([next(follow_ups.halves(self._dialogues, self._tell))])

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
        with self._timed("starting servers"):
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
        with self._timed("routing"):
            routed = route_all(service, messages)
            turns, changed = answer_instantly(service, messages, routed.choices)
        self._routes.setdefault("decision alone", routed.measured)
        self._routes.setdefault("instant turn", turns)
        ours = Arm(OURS, routed.choices, turns.cost, routed.measured.cost, ranks=True)
        arms = [*without_a_router(messages, ours, self._options.seed), ours]
        uncertified = set() if routed.is_certified else {OURS}
        if others is not None:
            self._tell(f"{in_scope:.0%} in scope: k-nearest, {len(messages):,} messages")
            with self._timed("k-nearest"):
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

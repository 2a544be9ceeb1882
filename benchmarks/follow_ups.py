"""Are follow-ups decided rightly? On dialogues that no training has read.

    TWOFOLD_DATA=/path/to/data python -m benchmarks.follow_ups [--json FILE]

Reads dialogues/sgd_dev.jsonl.gz. Each half of its dialogues is decided with a classifier that was
trained, as an operator trains one, on up to 60 utterances an intent with which people come to
that intent in the other half. These are never out of scope, so that nothing can be certified:
instant is what the careful default lets through. Every dialogue runs through `Chatbot.decide`,
whose own decisions before are all that it knows of the conversation. Counted is the intent of every
user turn after the first that has one; a turn that brings up a new intent beside the old one must
be given the new one. Intervals are 95 % of a bootstrap over dialogues. Services that are not in
sgd_train.jsonl.gz are shown apart: the head has not read of them. One thread.
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from app.dialogue.chatbot import Chatbot, Found, Reading
from app.dialogue.responses import IntentReplies, ReplyBook
from app.dialogue.routing import Cause, Decision, Grounds, RoutingPolicy
from app.dialogue.state import DialogueState
from generator.interface import ChatMessage
from generator.scripted import ScriptedGenerator
from intent.artifact import Artifact
from intent.classifier import GRUClassifier
from intent.dialogues import Dialogue, Utterance, read_dialogues
from intent.encoder import PretrainedEncoder
from intent.follow_up_training import reader_of
from intent.interface import Prediction, Promise
from intent.text import tokenize

HELD_OUT, TAUGHT = "sgd_dev.jsonl.gz", "sgd_train.jsonl.gz"
EXAMPLES = 60
SEED = 7
RESAMPLES = 1_000
TIMED = 2_000
ROUNDS = 7
SURE = 0.8

Decide = Callable[[Prediction, str | None], str]
"""The intent of an utterance, from what the classifier says of it and the intent before."""


@dataclass(frozen=True, slots=True)
class Outcome:
    dialogue: str
    unseen: bool
    """Of services that the head has not read of."""
    turns_away: bool
    right: bool
    instant: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    dialogues: int
    turns: int
    """After the first of each, with an intent."""
    right: float
    interval: tuple[float, float]
    turning_away: float
    going_on: float
    unseen_services: float
    instant: float
    instant_wrong: float


class Cost(NamedTuple):
    """CPU-µs of a decision above the classifier, reply and dialogue state included."""

    first: float
    """Of a message that nothing came before."""
    in_conversation: float
    """Of one that may go on with a topic."""


class Dialogues:
    """The whole router or a simple rule, on dialogues that one classifier reads."""

    def __init__(
        self, artifact: Artifact, dialogues: Sequence[Dialogue], seen: frozenset[str]
    ) -> None:
        self.artifact = artifact
        self.classifier = classifier = GRUClassifier(artifact)
        self.dialogues = dialogues
        self._seen = seen
        texts = list({one.text: None for each in dialogues for one in each.utterances})
        self.predictions = dict(zip(texts, classifier.classify_batch(texts), strict=True))
        self._grounds = Grounds(classifier.certify(Promise()))
        self.bot = Chatbot(self, RoutingPolicy(), ScriptedGenerator([]), _no_passages)

    def by_router(self) -> Iterator[Outcome]:
        for dialogue in self.dialogues:
            state = DialogueState()
            for place, said in enumerate(dialogue.utterances):
                decision, state = self.decide(said.text, state)
                if place and said.intents:
                    # Nothing can be said: what would be instant goes on for this reason.
                    instant = decision.cause is Cause.NO_REPLY
                    yield self._outcome(dialogue, said, decision.intent, instant)

    def by_rule(self, decide: Decide) -> Iterator[Outcome]:
        for dialogue in self.dialogues:
            last: str | None = None
            for place, said in enumerate(dialogue.utterances):
                last = decide(self.predictions[said.text], last)
                if place and said.intents:
                    yield self._outcome(dialogue, said, last)

    def decide(self, text: str, state: DialogueState) -> tuple[Decision, DialogueState]:
        verdict = self.bot.decide(text, self.reading(text, _NO_REPLIES), state)
        return verdict.decision, verdict.state

    async def read(self, text: str) -> Reading:
        """As the chatbot asks for it: without replies, so that only decisions are compared."""
        return self.reading(text, _NO_REPLIES)

    def reading(self, text: str, replies: ReplyBook) -> Reading:
        tracker = self.classifier.topic_tracker
        return Reading(self.predictions[text], 1, replies, 0.0, self._grounds, tracker=tracker)

    def _outcome(
        self, dialogue: Dialogue, said: Utterance, intent: str | None, instant: bool = False
    ) -> Outcome:
        unseen = not self._seen.issuperset(dialogue.services)
        return Outcome(dialogue.id, unseen, said.turns_away, intent in said.intents, instant)


async def _no_passages(messages: Sequence[ChatMessage]) -> Found:
    return Found(())


_NO_REPLIES = ReplyBook()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.follow_ups",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    root = os.environ.get("TWOFOLD_DATA")
    if not root:
        print("skipped: set TWOFOLD_DATA to the folder that holds dialogues/")
        return 0
    folder = Path(root) / "dialogues"
    if lacking := missing(folder):
        print(f"skipped: {lacking}")
        return 0
    torch.set_num_threads(1)
    parts = list(halves(folder, lambda news: print(news, file=sys.stderr, flush=True)))
    rows = rows_of(parts)
    found = cost(parts[0])
    Console(width=None if sys.stdout.isatty() else 170).print(table(rows))
    print(
        f"CPU of a decision above the classifier's: {found.first:.1f} µs for a first message, "
        f"{found.in_conversation:.1f} µs in a conversation"
    )
    if options.json:
        figures = {"rows": [asdict(one) for one in rows], "microseconds": found._asdict()}
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 0


def missing(folder: Path) -> str | None:
    for name in (HELD_OUT, TAUGHT):
        if not (folder / name).exists():
            return f"no {name} in {folder}"
    return None


def halves(folder: Path, tell: Callable[[str], None]) -> Iterator[Dialogues]:
    """Each by itself is what the whole is, with half as many dialogues and one training."""
    seen = frozenset(service for one in read_dialogues(folder / TAUGHT) for service in one.services)
    dialogues = read_dialogues(folder / HELD_OUT)
    encoder = PretrainedEncoder.load()
    both = dialogues[::2], dialogues[1::2]
    for number, (half, other) in enumerate((both, both[::-1]), start=1):
        tell(f"follow-ups: training the classifier of half {number}")
        yield Dialogues(reader_of(other, encoder, EXAMPLES, seed=SEED), half, seen)


def rows_of(parts: Sequence[Dialogues]) -> list[Row]:
    """The router's first, then those of simple rules."""
    return [
        row("the router", [one for part in parts for one in part.by_router()]),
        row("the classifier alone", _by_rule(parts, lambda p, last: p.intent)),
        row("always the last", _by_rule(parts, lambda p, last: last or p.intent)),
        row(
            f"the classifier from a confidence of {SURE} on, else the last",
            _by_rule(parts, lambda p, last: p.intent if p.confidence >= SURE or not last else last),
        ),
    ]


def _by_rule(parts: Iterable[Dialogues], decide: Decide) -> list[Outcome]:
    return [one for part in parts for one in part.by_rule(decide)]


def row(what: str, outcomes: Sequence[Outcome]) -> Row:
    instant = [one for one in outcomes if one.instant]
    return Row(
        what=what,
        dialogues=len({one.dialogue for one in outcomes}),
        turns=len(outcomes),
        right=_share(outcomes),
        interval=interval(outcomes),
        turning_away=_share([one for one in outcomes if one.turns_away]),
        going_on=_share([one for one in outcomes if not one.turns_away]),
        unseen_services=_share([one for one in outcomes if one.unseen]),
        instant=len(instant) / max(1, len(outcomes)),
        instant_wrong=1 - _share(instant) if instant else 0.0,
    )


def _share(outcomes: Sequence[Outcome]) -> float:
    return sum(one.right for one in outcomes) / max(1, len(outcomes))


def interval(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """Dialogues are drawn, not turns, as those of a dialogue hang together."""
    counts: dict[str, list[int]] = {}
    for one in outcomes:
        count = counts.setdefault(one.dialogue, [0, 0])
        count[0] += one.right
        count[1] += 1
    drawn = list(counts.values())
    draw = random.Random(0)
    shares = []
    for _ in range(RESAMPLES):
        sample = draw.choices(drawn, k=len(drawn))
        shares.append(sum(right for right, _ in sample) / sum(all_ for _, all_ in sample))
    shares.sort()
    return shares[round(0.025 * RESAMPLES)], shares[round(0.975 * RESAMPLES) - 1]


def cost(part: Dialogues) -> Cost:
    """Of texts that the classifier has read already."""
    replies = ReplyBook({one: IntentReplies(one, ("Yes.",)) for one in part.classifier.intents})
    texts = [text for text in part.predictions if tokenize(text)][:TIMED]
    readings = [part.reading(text, replies) for text in texts]
    begun = part.bot.decide(texts[0], readings[0], DialogueState()).state
    return Cost(
        *(_decision_cost(part.bot, texts, readings, state) for state in (DialogueState(), begun))
    )


def _decision_cost(
    bot: Chatbot, texts: Sequence[str], readings: Sequence[Reading], state: DialogueState
) -> float:
    """CPU-µs, the median of rounds."""
    rounds: list[float] = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for text, reading in zip(texts, readings, strict=True):
            bot.decide(text, reading, state)
        rounds.append((time.process_time() - started) / len(texts))
    return 1e6 * median(rounds)


def table(rows: Sequence[Row]) -> Table:
    shown = Table(f"{rows[0].turns:,} turns after the first", box=box.MARKDOWN)
    for title in ("right", "topic changes", "topic goes on", "services new to the head"):
        shown.add_column(title, justify="right")
    shown.add_column("instant", justify="right")
    shown.add_column("of those wrong", justify="right")
    for one in rows:
        low, high = one.interval
        shown.add_row(
            one.what,
            f"{one.right:.3f} ({low:.3f} to {high:.3f})",
            f"{one.turning_away:.3f}",
            f"{one.going_on:.3f}",
            f"{one.unseen_services:.3f}",
            f"{one.instant:.3f}" if one.instant else "–",
            f"{one.instant_wrong:.3f}" if one.instant else "–",
        )
    return shown


if __name__ == "__main__":
    sys.exit(main())

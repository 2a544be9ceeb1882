"""How often the embedded generator answers rightly, and says that it does not know.

    python -m benchmarks.answering [--part heldout] [--json FILE] [--wrong FILE]

Puts the questions of benchmarks/answers/ to it, through the same search and the same prompt as
a turn. Each organisation has its own documents, as one deployment has. A large store are the 500
passages of a town, with the questions to those of its departments that nothing was tuned on.
`--part train` is for tuning; what is reported comes from the fields that no training may read.
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from app.database import documents
from app.database.database import Database
from app.database.migration import migrate
from app.passage_index import PassageIndex
from benchmarks.one_thread import use_one_thread
from generator.embedded import MOST_PASSAGES, EmbeddedGenerator
from generator.interface import ChatMessage, Citation, Passage, Piece
from generator.quoting import ranked
from generator.reader import Reader

ANSWERS = Path(__file__).parent / "answers"
VALUE = re.compile(r"\d[\d.,:]*\d|\d|https?://\S+|\S+@\S+\.\w+")
YES_OR_NO = re.compile(r"(yes|no)(?=\s*(?:[,.;:!–-]|$))", re.IGNORECASE)
""""No ticket is needed" says neither."""
FIRST = 3
"""So many passages of a search count as found."""
TUNED_DEPARTMENTS = frozenset(
    {
        "buses_and_cycling",
        "elections_and_council",
        "environment_pests_and_noise",
        "jobs_business_and_grants",
        "leisure_centres_and_pools",
        "licensing_and_food_safety",
        "markets_and_street_trading",
        "museums_and_theatre",
        "parks_and_allotments",
        "roads_and_street_works",
    }
)
"""Of the town: on their questions the weights of the search were chosen."""


@dataclass(frozen=True, slots=True)
class Question:
    field: str
    messages: tuple[ChatMessage, ...]
    passage: str
    """The title of the one that answers, or that comes nearest."""
    expected: str | None
    """None where no passage answers."""
    support: tuple[str, ...] = ()
    """Of the sentences in the passage, those that answer."""
    is_near: bool = False
    """Where no passage answers, it was put so that neither form nor words give that away."""

    @property
    def kind(self) -> str:
        if self.expected is None:
            return "near miss" if self.is_near else "no answer"
        return "follow-up" if len(self.messages) > 1 else "question"


@dataclass(frozen=True, slots=True)
class Shelf:
    """A store of documents, and the search in it."""

    database: Database
    index: PassageIndex


@dataclass(frozen=True, slots=True)
class Outcome:
    question: Question
    reply: str
    answered: bool
    right: bool
    foreign_values: tuple[str, ...]
    """Numbers, links and addresses of the reply that stand in no passage it cites."""
    found: bool
    """The passage is among the first of the search."""
    kept: bool
    """It is among the first when they were read."""
    first_piece_ms: float
    whole_ms: float
    """CPU milliseconds of this process, search included."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    fields = read_fields(options.part)
    if options.only:
        fields = [field for field in fields if field["field"] in options.only]
    questions = [one for field in fields for one in questions_of(field)]
    with ExitStack() as stack:
        use_one_thread(stack)  # as `twofold serve` does
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        outcomes, of_town = asyncio.run(_measure(Path(folder), fields, questions))
    figures = summary(outcomes)
    for kind, found in summary(of_town).items():
        figures.setdefault(kind, {}).update({f"the town: {name}": found[name] for name in found})
    _show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))
    if options.wrong:
        lines = (json.dumps(asdict(one)) for one in outcomes if not one.right)
        options.wrong.write_text("".join(f"{line}\n" for line in lines))
    return 0


async def _measure(
    folder: Path,
    fields: Sequence[dict[str, Any]],
    questions: Sequence[Question],
) -> tuple[list[Outcome], list[Outcome]]:
    """Of the organisations and of the town."""
    reader = Reader()
    generator = EmbeddedGenerator.load(reader)
    shelves = {
        field["field"]: await _shelf(folder / f"{field['field']}.db", [field], reader)
        for field in fields
    }
    outcomes = [
        await ask(reader, generator, shelves[question.field], question)
        for question in track(questions, "asking", console=Console(stderr=True))
    ]
    departments = read_fields("town")
    town = await _shelf(folder / "town.db", departments, reader)
    asked = [
        question
        for department in departments
        if department["field"] not in TUNED_DEPARTMENTS
        for question in questions_of(department)
    ]
    of_town = [
        await ask(reader, generator, town, question)
        for question in track(asked, "asking the town", console=Console(stderr=True))
    ]
    for shelf in (town, *shelves.values()):
        await shelf.index.close()
        shelf.database.close()
    return outcomes, of_town


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.answering")
    parser.add_argument("--part", choices=("heldout", "train"), default="heldout")
    parser.add_argument("--only", metavar="FIELD", nargs="*", help="of the part; for tuning")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--wrong", type=Path, metavar="FILE", help="replies that are not right")
    return parser


def read_fields(part: str) -> list[dict[str, Any]]:
    files = sorted((ANSWERS / part).glob("*.yml"))
    return [yaml.load(file.read_text("utf-8"), Loader=yaml.CSafeLoader) for file in files]


def questions_of(field: dict[str, Any]) -> Iterator[Question]:
    name = field["field"]
    for passage in field["passages"]:
        title = passage["title"]
        for entry in (*passage["questions"], *passage.get("follow_ups", ())):
            support = tuple(map(_one_line, entry["from"]))
            for messages in _asked(entry):
                yield Question(name, messages, title, entry["say"], support)
        for entry in ({"ask": passage["unanswered"]}, *passage.get("unanswered_follow_ups", ())):
            for messages in _asked(entry):
                yield Question(name, messages, title, None)
        for messages in _asked({"ask": passage.get("near_misses", ())}):
            yield Question(name, messages, title, None, is_near=True)


def _asked(entry: dict[str, Any]) -> Iterator[tuple[ChatMessage, ...]]:
    before = entry.get("before")
    history = (
        (ChatMessage("user", before["user"]), ChatMessage("assistant", before["bot"]))
        if before
        else ()
    )
    for ask in entry["ask"]:
        yield (*history, ChatMessage("user", ask))


async def ask(
    reader: Reader, generator: EmbeddedGenerator, shelf: Shelf, question: Question
) -> Outcome:
    start = time.process_time()
    passages = (await shelf.index.find(question.messages)).passages
    pieces: list[Piece] = []
    first = 0.0
    async for piece in generator.stream(question.messages, passages):
        first = first or time.process_time()
        pieces.append(piece)
    end = time.process_time()
    reply = "".join(piece.text for piece in pieces)
    citations = [one for piece in pieces for one in piece.citations]
    answered = all(piece.answered for piece in pieces)
    return Outcome(
        question,
        reply,
        answered,
        right=is_right(question, reply, citations, answered=answered),
        foreign_values=foreign_values(reply, citations, passages),
        found=question.passage in [one.title for one in passages[:FIRST]],
        kept=question.passage in titles_read(reader, question.messages, passages)[:FIRST],
        first_piece_ms=(first - start) * 1000,
        whole_ms=(end - start) * 1000,
    )


def titles_read(
    reader: Reader, messages: Sequence[ChatMessage], passages: Sequence[Passage]
) -> list[str]:
    """Of the passages as the generator ranks their sentences."""
    question = reader.question(messages)
    reading = reader.read(question, passages[:MOST_PASSAGES])
    return list(dict.fromkeys(one.passage.title for one, _ in ranked(reading)))


def is_right(
    question: Question, reply: str, citations: Sequence[Citation], *, answered: bool
) -> bool:
    """Cites a sentence that supports the expected answer, gives each of its values, and does
    not say yes for no. Where nothing answers: says so."""
    if question.expected is None:
        return not answered
    quoted = " ".join(_one_line(one.quote) for one in citations)
    supported = any(one in quoted or quoted in one for one in question.support) and bool(quoted)
    values = set(values_of(question.expected)) <= set(values_of(reply))
    wanted, said = YES_OR_NO.match(question.expected), YES_OR_NO.match(reply)
    opposite = bool(wanted and said and wanted[1].lower() != said[1].lower())
    return answered and supported and values and not opposite


def foreign_values(
    reply: str, citations: Sequence[Citation], passages: Sequence[Passage]
) -> tuple[str, ...]:
    cited = {one.passage_id for one in citations}
    known = " ".join(f"{p.document} {p.title} {p.text}" for p in passages if p.id in cited)
    return tuple(one for one in values_of(reply) if one not in values_of(known))


def values_of(text: str) -> list[str]:
    return [one.rstrip(".,:;)") for one in VALUE.findall(text)]


def summary(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """By kind of question, and over all with an answer."""
    by_kind: defaultdict[str, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        by_kind[one.question.kind].append(one)
    by_kind["with an answer"] = by_kind["question"] + by_kind["follow-up"]
    return {
        kind: {
            "asked": len(some),
            "right": _share(one.right for one in some),
            "says that it does not know": _share(not one.answered for one in some),
            f"passage among the first {FIRST} of the search": _share(one.found for one in some),
            f"passage among the first {FIRST} once read": _share(one.kept for one in some),
            "replies with values of no cited passage": sum(
                bool(one.foreign_values) for one in some
            ),
            "first piece, CPU ms, median": median(one.first_piece_ms for one in some),
            "whole answer, CPU ms, median": median(one.whole_ms for one in some),
        }
        for kind, some in by_kind.items()
        if some
    }


def _share(those: Iterator[bool]) -> float:
    kept = list(those)
    return sum(kept) / len(kept)


def _one_line(text: str) -> str:
    return " ".join(text.split())


async def _shelf(file: Path, fields: Sequence[dict[str, Any]], reader: Reader) -> Shelf:
    database = Database(f"sqlite:///{file}")
    database.write_now(migrate)
    for field in fields:
        sections = (f"## {one['title']}\n\n{one['text']}" for one in field["passages"])
        markdown = "\n\n".join([f"# {field['organisation']}", *sections])
        database.write_now(partial(documents.put, name=field["field"], markdown=markdown))
    index = PassageIndex(database, reader)
    while await index.index_some():
        pass
    return Shelf(database, index)


def _show(figures: dict[str, dict[str, float]]) -> None:
    names = list(dict.fromkeys(name for some in figures.values() for name in some))
    table = Table("", *figures, box=box.SIMPLE)
    for name in names:
        cells = []
        for some in figures.values():
            value = some.get(name)
            whole = name.removeprefix("the town: ").startswith(("asked", "replies"))
            cells.append("" if value is None else f"{value:.0f}" if whole else f"{value:.3g}")
        table.add_row(name, *cells)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    sys.exit(main())

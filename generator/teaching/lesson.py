"""What is learnt from: organisations with their passages, and questions with their answers.

From answer files (YAML; benchmarks/answers/README.md says what is in them) and from lists of
frequent questions.
"""

import gzip
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from generator.interface import Passage
from generator.sentences import LINE_MARKER, Sentence, sentences_of

FEWEST_ENTRIES, MOST_ENTRIES = 12, 60
ENTRIES_OF_A_PAGE = 5
PAGE_TITLES = ("Good to know", "Questions and answers", "About us")


@dataclass(frozen=True, slots=True)
class Page:
    """A passage, cut into the sentences that a question can be answered from."""

    title: str
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    before: str
    """The user's message before, where the question needs one."""
    page: int
    """Which of its field answers it, or comes nearest."""
    support: tuple[int, ...]
    """The sentences of that page that answer it; none where nothing does."""
    answer: str | None


@dataclass(frozen=True, slots=True)
class Field:
    """An organisation: a question is answered from its own pages only."""

    name: str
    pages: tuple[Page, ...]
    questions: tuple[Question, ...]


class TeachingError(ValueError):
    """Something that was given cannot be learnt from; says what, and what to do."""


def read_answers(folder: Path) -> list[Field]:
    """Raises TeachingError."""
    files = sorted(folder.glob("*.yml"))
    if not files:
        raise TeachingError(f"{folder} holds no answer files (*.yml); name their folder")
    fields = [_answer_file(file) for file in files]
    ((name, count),) = Counter(field.name for field in fields).most_common(1)
    if count > 1:
        raise TeachingError(f"{folder}: {count} files are about {name}; give each its own `field`")
    return fields


def split(fields: Sequence[Field], names: Sequence[str]) -> tuple[list[Field], list[Field]]:
    """Those to learn from, and those named, to validate with. Raises TeachingError."""
    unknown = set(names) - {field.name for field in fields}
    if unknown:
        raise TeachingError(
            f"no answer file is about {', '.join(sorted(unknown))}; see their `field`"
        )
    learnt = [field for field in fields if field.name not in names]
    if not learnt:
        raise TeachingError("all fields are validated with; leave some to learn from")
    return learnt, [field for field in fields if field.name in names]


def _answer_file(file: Path) -> Field:
    try:
        content = yaml.load(file.read_text("utf-8"), Loader=yaml.CSafeLoader)
        pages = [_page(one, content["organisation"]) for one in content["passages"]]
        questions = [
            question
            for number, one in enumerate(content["passages"])
            for question in _questions(one, number, pages[number])
        ]
        return Field(content["field"], tuple(pages), tuple(questions))
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise TeachingError(
            f"{file} is no answer file ({error!r}); see benchmarks/answers/README.md"
        ) from error


def _page(content: dict[str, Any], organisation: str) -> Page:
    passage = Passage("", content["title"], content["text"], organisation)
    return Page(passage.title, tuple(sentences_of(passage)))


def _questions(content: dict[str, Any], number: int, page: Page) -> Iterator[Question]:
    for entry in (*content["questions"], *content.get("follow_ups", ())):
        before = entry["before"]["user"] if "before" in entry else ""
        support = _supporting(page, entry["from"])
        if support:
            for text in entry["ask"]:
                yield Question(text, before, number, support, entry["say"])
    for text in content["unanswered"]:
        yield Question(text, "", number, (), None)
    for entry in content.get("unanswered_follow_ups", ()):
        for text in entry["ask"]:
            yield Question(text, entry["before"]["user"], number, (), None)


def _supporting(page: Page, support: Sequence[str]) -> tuple[int, ...]:
    """The sentences that hold one of these, or stand in one."""
    wanted = [" ".join(one.split()) for one in support]
    bare = [LINE_MARKER.sub("", one, count=1) for one in wanted]
    quotes = [" ".join(sentence.quote.split()) for sentence in page.sentences]
    return tuple(
        number
        for number, quote in enumerate(quotes)
        if any(quote in one for one in wanted) or any(one in quote for one in bare)
    )


def read_faq(file: Path) -> list[Field]:
    """Frequent questions of many organisations, as JSON lines with `domain`, `entity`, `question`
    and `answer`, as in track 1 of DSTC9 (Kim et al. 2020). Five answers make a page, each of
    them a sentence. Raises TeachingError."""
    entries: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for number, text in enumerate(lines_of(file), start=1):
        try:
            row = json.loads(text)
            entries[row["domain"], row["entity"] or ""].setdefault(row["answer"], row["question"])
        except (ValueError, KeyError, TypeError) as error:
            raise TeachingError(
                f"{file}:{number}: no object with domain, entity, question, answer; mend the line"
            ) from error
    draw = random.Random(0)
    return [
        _faq_field(*names, list(answered.items()), draw)
        for names, answered in entries.items()
        if len(answered) >= FEWEST_ENTRIES
    ]


def _faq_field(
    domain: str, entity: str, entries: list[tuple[str, str]], draw: random.Random
) -> Field:
    draw.shuffle(entries)
    own_title = (entity or domain).title()
    pages: list[Page] = []
    questions: list[Question] = []
    for start in range(0, min(len(entries), MOST_ENTRIES), ENTRIES_OF_A_PAGE):
        chosen = entries[start : start + ENTRIES_OF_A_PAGE]
        title = draw.choice((own_title, *PAGE_TITLES))
        passage = Passage("", title, "\n\n".join(answer for answer, _ in chosen), own_title)
        sentences = [
            Sentence(passage, number, "", answer, answer, is_item=False)
            for number, (answer, _) in enumerate(chosen)
        ]
        questions += [
            Question(question, "", len(pages), (number,), answer)
            for number, (answer, question) in enumerate(chosen)
        ]
        pages.append(Page(title, tuple(sentences)))
    return Field(f"{domain}/{entity}", tuple(pages), tuple(questions))


def lines_of(file: Path) -> Iterator[str]:
    """Of a text file, gzipped or not. Raises TeachingError."""
    try:
        with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
            yield from lines
    except (OSError, UnicodeDecodeError) as error:
        raise TeachingError(f"{file} cannot be read ({error}); check it") from error

"""Documents as people have them, made Markdown and cut into passages."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from html_to_markdown import (
    ConversionOptions,
    PreprocessingOptions,
    PreprocessingPreset,
    convert,
)

from generator.interface import Passage

DocumentFormat = Literal["markdown", "text", "html"]
FORMATS: dict[str, DocumentFormat] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".html": "html",
    ".htm": "html",
}
MOST_CHARACTERS = 500_000
MOST_WORDS_IN_A_PASSAGE = 180
MOST_CHARACTERS_IN_A_PASSAGE = 3_000
"""More than twice what so many English words have; bounds what is written without spaces."""


TOO_LONG = f"is over {MOST_CHARACTERS:,} characters; cut it into several documents"


class DocumentError(ValueError):
    """A document that cannot be read; says what to do about it."""


def read(file: Path) -> str:
    """A document's Markdown. Raises DocumentError, without the file's name."""
    if file.stat().st_size > 4 * MOST_CHARACTERS:
        raise DocumentError(
            f"is over {MOST_CHARACTERS:,} characters; cut it into several documents"
        )
    content = file.read_bytes()
    if b"\0" in content[:4096] and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DocumentError("is no text; save it as Markdown, plain text or HTML")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError("is not UTF-8; save it as UTF-8") from error
    return to_markdown(text, FORMATS[file.suffix.lower()])


def to_markdown(content: str, kind: DocumentFormat) -> str:
    """Of HTML only what a reader sees of the content: no scripts, styles, forms or navigation,
    and no images. Raises DocumentError where there is nothing to read, or too much."""
    if len(content) > MOST_CHARACTERS:
        raise DocumentError(
            f"is over {MOST_CHARACTERS:,} characters; cut it into several documents"
        )
    if kind == "html":
        converted = convert(_name_no_columns(content), _HTML)
        if converted.warnings:
            raise DocumentError("is nested too deeply to be read whole; simplify its HTML")
        content = converted.content or ""
        if len(content) > MOST_CHARACTERS:  # wide cells become many
            raise DocumentError("has a table that is too wide; cut it into several documents")
    elif kind == "text":
        content = re.sub(r"^(\s{0,3})(?=#)", r"\1\\", content, flags=re.MULTILINE)
    content = unicodedata.normalize("NFC", content).strip()  # entities may spell it otherwise
    if not content:
        raise DocumentError("is empty; give it text")
    if not cut(content)[1]:
        raise DocumentError("has headings only; give it text")
    return content


_HTML = ConversionOptions(
    extract_metadata=False,
    skip_images=True,
    exclude_selectors=["iframe", "object", "embed", "noscript", "template"],
    preprocessing=PreprocessingOptions(
        enabled=True,
        preset=PreprocessingPreset.AGGRESSIVE,
        remove_navigation=True,
        remove_forms=True,
    ),
)


TABLE_TAG = re.compile(r"<(/?)(table|thead|tr|th|td)\b", re.IGNORECASE)
NAMELESS = "<tr><th></th></tr>"


@dataclass(slots=True)
class _Table:
    """What was read of one so far."""

    first_row: int | None = None
    """Where it begins."""
    has_head: bool = False
    is_past_first_row: bool = False


def _name_no_columns(html: str) -> str:
    """Before a first row that holds values an empty one, or Markdown would take the values for
    the names of the columns."""
    open_tables: list[_Table] = []
    values_begin: set[int] = set()
    for tag in TABLE_TAG.finditer(html):
        name, closes = tag[2].lower(), bool(tag[1])
        if name == "table":
            if not closes:
                open_tables.append(_Table())
            elif open_tables:
                open_tables.pop()
        elif open_tables:
            table = open_tables[-1]
            if name == "thead":
                table.has_head = True
            elif name == "tr" and table.first_row is None:
                table.first_row = tag.start()
            elif name == "tr":
                table.is_past_first_row = True
            elif name == "td" and not (table.has_head or table.is_past_first_row or closes):
                values_begin.add(tag.start() if table.first_row is None else table.first_row)
    pieces: list[str] = []
    done = 0
    for at in sorted(values_begin):
        pieces += [html[done:at], NAMELESS]
        done = at
    return "".join([*pieces, html[done:]])


def cut(markdown: str) -> tuple[str, list[tuple[str, str]]]:
    """The first top heading, and (section title, text) for each section.

    A section longer than a passage should be is cut between its paragraphs, a paragraph
    between its sentences or lines, a sentence between its words. Each part of a table begins with
    the names of its columns."""
    heading, section, paragraphs = "", "", list[str]()
    pieces: list[tuple[str, str]] = []

    def close() -> None:
        pieces.extend((section or heading, body) for body in _bodies(paragraphs))
        paragraphs.clear()

    for block in _blocks(markdown):
        lines = block.strip().split("\n")
        if found := re.match(r"(#{1,6})\s+(.*?)(?:\s+#+)?\s*$", lines[0]):
            close()
            if len(found[1]) == 1 and not heading:
                heading, section = found[2], ""
            else:
                section = found[2]
            lines = lines[1:]
        if body := "\n".join(lines).strip():
            paragraphs.append(body)
    close()
    return heading, pieces


def _blocks(markdown: str) -> Iterator[str]:
    """What blank lines part, and headings by themselves; code between fences stays whole, and
    what looks like a heading there is none."""
    block: list[str] = []
    fence = ""
    for line in markdown.replace("\r\n", "\n").split("\n"):
        found = re.match(r" {0,3}(```+|~~~+)", line)
        if found and not fence:
            fence = found[1]
        elif found and found[1].startswith(fence) and not line[found.end() :].strip():
            fence = ""
        elif not fence and (not line.strip() or re.match(r"#{1,6}\s", line)):
            yield "\n".join(block)
            block = []
        block.append(line)
    yield "\n".join(block)


def _bodies(paragraphs: list[str]) -> list[str]:
    parts = [part for one in paragraphs for part in _parts_of_paragraph(one)]
    return _packed(parts, between="\n\n")


COLUMNS = re.compile(r"\|.*\n[ ]{0,3}\|[ :|-]*-[ :|-]*\n")
"""The first two lines of a table."""


def _parts_of_paragraph(paragraph: str) -> list[str]:
    found = COLUMNS.match(paragraph)
    columns = found[0] if found and len(found[0]) <= MOST_CHARACTERS_IN_A_PASSAGE / 4 else ""
    rows = paragraph.removeprefix(columns)
    return _packed(_sentences(rows), between="", beginning=columns)


def _packed(parts: Iterable[str], *, between: str, beginning: str = "") -> list[str]:
    """As many neighbours together as a passage has room for, behind the beginning of each."""
    packs: list[list[str]] = []
    words_left = characters_left = 0
    for part in parts:
        words, characters = len(part.split()), len(part)
        if not packs or words > words_left or characters > characters_left:
            packs.append([])
            words_left = MOST_WORDS_IN_A_PASSAGE - len(beginning.split())
            characters_left = MOST_CHARACTERS_IN_A_PASSAGE - len(beginning)
        packs[-1].append(part)
        words_left -= words
        characters_left -= characters + len(between)
    return [(beginning + between.join(pack)).strip() for pack in packs]


def _sentences(paragraph: str) -> Iterator[str]:
    """With the space behind them, none longer than a passage."""
    for sentence in re.split(r"(?<=[.!?]\s)|(?<=\n)", paragraph):
        words = sentence.split()
        if len(words) <= MOST_WORDS_IN_A_PASSAGE and len(sentence) <= MOST_CHARACTERS_IN_A_PASSAGE:
            yield sentence
            continue
        parts = (part for word in words for part in _parts(word))
        yield from (f"{pack} " for pack in _packed(parts, between=" "))


def _parts(word: str) -> Iterator[str]:
    for start in range(0, len(word), MOST_CHARACTERS_IN_A_PASSAGE):
        yield word[start : start + MOST_CHARACTERS_IN_A_PASSAGE]


def read_folder(folder: Path) -> list[Passage]:
    """Raises DocumentError, naming the file."""
    passages: list[Passage] = []
    for file in sorted(one for one in folder.iterdir() if one.suffix.lower() in FORMATS):
        try:
            passages += passages_of(file.name, read(file))
        except DocumentError as error:
            raise DocumentError(f"{file} {error}") from error
    return passages


def passages_of(document: str, markdown: str) -> Iterator[Passage]:
    heading, pieces = cut(markdown)
    for number, (title, text) in enumerate(pieces):
        yield Passage(f"{document}#{number}", title or heading or document, text, document)

"""The sentences of a passage, each with the exact place where it stands."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from generator.interface import Passage


@dataclass(frozen=True, slots=True)
class Sentence:
    """`quote` stands in the passage word for word; `shown` is the same without Markdown."""

    passage: Passage
    position: int
    """Among the sentences of its passage."""
    heading: str
    quote: str
    shown: str
    is_item: bool
    """It stands in a list."""

    @property
    def opens_list(self) -> bool:
        return self.shown.endswith(":")


def sentences_of(passage: Passage) -> list[Sentence]:
    """A row of a table is one sentence, and says what its columns are called."""
    sentences: list[Sentence] = []
    heading = ""
    columns: list[str] = []
    blocks = list(_blocks(passage.text))
    for block, following in zip_longest(blocks, blocks[1:]):
        if block.kind == "heading":
            heading = shown_text(block.text)
        columns = columns if block.kind == "row" else []
        if block.kind == "columns" and following and following.kind == "row":
            columns = _cells(block.text)
        elif block.kind != "heading":
            for quote in _quotes(block):
                shown = _shown_row(quote, columns) if columns else shown_text(quote)
                if re.search(r"\w", shown):
                    number, is_item = len(sentences), block.kind == "item"
                    sentences.append(Sentence(passage, number, heading, quote, shown, is_item))
    return sentences


def _quotes(block: "_Block") -> list[str]:
    if block.kind in {"row", "columns"}:
        return [block.text.strip()]
    return [block.text[start:end] for start, end in _sentence_spans(block.text)]


def _shown_row(quote: str, columns: Sequence[str]) -> str:
    """ "Ticket: Adult, Online: £18.40\""""
    named = zip_longest(columns, _cells(quote), fillvalue="")
    return ", ".join(f"{name}: {cell}" if name else cell for name, cell in named if cell)


def _cells(row: str) -> list[str]:
    return [shown_text(cell) for cell in BAR.split(row.strip().removeprefix("|").removesuffix("|"))]


def shown_text(quote: str) -> str:
    """Markdown's signs taken off, white space made single spaces.

    The lengths in the patterns are bounded, so that no text takes them quadratic time.
    """
    text = LINE_MARKER.sub("", quote, count=1)
    text = re.sub(r"\n\s*(?:>\s?)+", " ", text)
    text = re.sub(r"!\[([^\]\[]{0,300})\]\([^)]{0,500}\)", r"\1", text)
    text = re.sub(
        r"\[([^\]\[]{1,300})\]\(((?:https?://|mailto:)[^)\s]{1,500})[^)]{0,100}\)", r"\1 (\2)", text
    )
    text = re.sub(
        r"\[([^\]\[]{1,300})\]\((?:[^()]|\([^()]{0,100}\)){0,500}\)", r"\1", text
    )  # an address may have brackets of its own
    text = re.sub(r"<(https?://[^>\s]+)>", r"\1", text)
    text = re.sub(r"(\*\*\*|\*\*|\*|`+|~~)(?=\S)(.{1,300}?)(?<=\S)\1", r"\2", text, flags=re.DOTALL)
    text = re.sub(r"(?<!\w)(__|_)(?=\S)(.{1,300}?)(?<=\S)\1(?!\w)", r"\2", text, flags=re.DOTALL)
    # What is left of them has lost its partner in another sentence.
    text = re.sub(r"\*\*+|~~|`+|(?<!\S)[*_]+(?=\w)|(?<=[\w.!?])[*_]+(?!\S)", "", text)
    if "|" in text and text.lstrip().startswith("|"):
        text = ", ".join(cell.strip() for cell in BAR.split(text.strip().strip("|")))
    text = re.sub(r"\\([\\`*_{}\[\]()#+\-.!|>])", r"\1", text)
    return " ".join(text.split())


LINE_MARKER = re.compile(
    r"^\s*(?:>\s?)*(?:[-*+•–]\s+(?:\[[ xX]\]\s+)?|\d{1,3}[.)]\s+|\#{1,6}(?:\s+|$))?"
)
BAR = re.compile(r"(?<!\\)\|")
HEADING = re.compile(r"^\s{0,3}#{1,6}(?:\s|$)")
ITEM = re.compile(r"^\s*(?:>\s?)*(?:[-*+•–]|\d{1,3}[.)])\s+\S")
RULE = re.compile(r"^\s*(?:[-*_=]\s*){3,}$")
ROW_RULE = frozenset("-:| ")
CODE_FENCE = re.compile(r"^\s*(?:```|~~~)")


@dataclass(frozen=True, slots=True)
class _Block:
    kind: str
    text: str


def _blocks(text: str) -> Iterator[_Block]:
    """Paragraphs, list items, headings, rows of a table, and the row that names its columns. Each
    block's text is a part of `text`."""
    start = end = 0
    kind = ""
    at = 0
    in_code = False
    for line in text.splitlines(keepends=True):
        begins, at = at, at + len(line)
        fence = bool(CODE_FENCE.match(line))
        if fence:
            in_code = not in_code
        line_kind = "code" if fence or in_code else _line_kind(line)
        continues = line_kind == "paragraph" and kind in {"paragraph", "item"}
        if not continues:
            if kind == "row" and line_kind == "rule" and "|" in line:
                kind = "columns"
            if kind:
                yield _Block(kind, text[start:end])
            kind = line_kind if line_kind in {"paragraph", "item", "row", "heading"} else ""
            start = begins
        end = at
    if kind:
        yield _Block(kind, text[start:end])


def _line_kind(line: str) -> str:
    if not line.strip():
        return "blank"
    if RULE.match(line) or (ROW_RULE.issuperset(line.strip()) and re.search(r"--|\|.*-", line)):
        return "rule"
    if HEADING.match(line):
        return "heading"
    if ITEM.match(line):
        return "item"
    return "row" if line.lstrip().startswith("|") else "paragraph"


# An end of a sentence: its sign, closing quotes or brackets, then white space and something
# that a sentence can begin with. Looked for from the first of its signs only, so that a long run
# of dots takes no quadratic time.
SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]+[\"'”’)\]*_]*(?=\s+[\"'“‘(\[*_]*[A-ZÀ-ÞŁŚŻ\d€$£])")
NO_END = re.compile(
    r"(?:^|[\s(\[])(?:"
    r"(?i:e\.g|i\.e|etc|approx|ca|cf|incl|excl|max|min|no|nr|vs|tel|fig|vol|art|resp|est)"
    r"|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Inc|Ltd|Co|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
    r"|[A-Za-z]|(?:[A-Za-z]\.)+[A-Za-z]"
    r")\.$"
)
# These also end sentences: only what follows can tell.
MAY_END = re.compile(r"(?i)(?:^|[\s(\[])(?:etc|no|min|max|[ap]\.m)\.$")


def _sentence_spans(block: str) -> Iterator[tuple[int, int]]:
    marker = LINE_MARKER.match(block)
    first = start = marker.end() if marker else 0
    for match in SENTENCE_END.finditer(block, first):
        so_far = block[max(start, match.end() - 16) : match.end()]
        rest = block[match.end() : match.end() + 40].lstrip()
        if NO_END.search(so_far) and not (
            MAY_END.search(so_far) and re.match(r"[A-Z][a-z]*\s", rest)
        ):
            continue
        yield _trimmed(block, start, match.end())
        start = match.end()
    if block[start:].strip():
        yield _trimmed(block, start, len(block))


def _trimmed(block: str, start: int, end: int) -> tuple[int, int]:
    text = block[start:end]
    return start + len(text) - len(text.lstrip()), start + len(text.rstrip())


ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:instruction|prompt|rule|message|above"
    r"|previous|prior)|\bsystem prompt\b|\b(?:language model|chatbot|assistant|ai)\b.{0,20}\b(?:"
    r"must|should|shall|will now|respond|reply|say|answer)\b|\byou are (?:now )?an? (?:ai|assistant"
    r"|chatbot|language model)\b|^(?:system|assistant|user)\s*:",
    re.IGNORECASE | re.DOTALL,
)


def gives_orders(sentence: str) -> bool:
    """It speaks to a machine that reads, not to a customer. Nobody obeys it here, but nobody
    needs it quoted either."""
    return bool(ORDERS.search(sentence))

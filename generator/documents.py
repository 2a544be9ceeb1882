"""Passages from Markdown files, and the search over them that the terminal chat uses."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from generator.grounding import Evidence
from generator.interface import ChatMessage, Passage
from generator.question import read_question

SECTION = re.compile(r"^(#{1,6})\s+(.+?)\s*#*\s*$", re.MULTILINE)


def read_folder(folder: Path) -> list[Passage]:
    """One passage per section of each *.md and *.txt file."""
    files = sorted(path for path in folder.iterdir() if path.suffix in {".md", ".txt"})
    return [p for path in files for p in split_sections(path.name, path.read_text("utf-8"))]


def split_sections(document: str, text: str) -> Iterator[Passage]:
    """Sections without a text of their own, as a document's title often is, are left out."""
    headings = list(SECTION.finditer(text))
    starts = [0, *(heading.end() for heading in headings)]
    ends = [*(heading.start() for heading in headings), len(text)]
    titles = [document, *(heading[2] for heading in headings)]
    for number, (start, end, title) in enumerate(zip(starts, ends, titles, strict=True)):
        body = text[start:end].strip()
        if body:
            yield Passage(f"{document}#{number}", title, body, document)


def best_passages(
    messages: Sequence[ChatMessage], passages: Sequence[Passage], most: int = 8
) -> list[Passage]:
    """Those with the best single sentences, best first."""
    evidence = Evidence(passages, read_question(messages))
    if not evidence.question.weights:
        return []
    scores: dict[str, float] = {}
    for sentence in evidence.sentences:
        key = sentence.passage.id
        scores[key] = max(scores.get(key, 0.0), evidence.relevance(sentence))
    scored = [replace(p, score=scores[p.id]) for p in passages if p.id in scores]
    return sorted(scored, key=lambda passage: -passage.score)[:most]

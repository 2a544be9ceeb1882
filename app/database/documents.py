"""The operator's documents, stored as Markdown and as passages, and searched by words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, text, update

from app.database.tables import documents, now, passages
from app.errors import InvalidInput, NotFound
from generator.documents import cut
from generator.interface import Passage


@dataclass(frozen=True, slots=True)
class Document:
    name: str
    title: str
    text: str
    passages: int
    updated_at: datetime


def everything(connection: Connection) -> list[Document]:
    return [_from_row(row) for row in connection.execute(_SELECT.order_by(documents.c.name))]


def get(connection: Connection, name: str) -> Document:
    row = connection.execute(_SELECT.where(documents.c.name == name)).one_or_none()
    if row is None:
        raise NotFound("document")
    return _from_row(row)


def put(connection: Connection, name: str, *, title: str = "", markdown: str) -> Document:
    """Add a document, or replace the one of this name; searches see it after the commit.
    `markdown` comes from `generator.documents`. Raises InvalidInput where it has no text, or
    another document has the same: each answer would stand there twice."""
    heading, pieces = cut(markdown)
    if not pieces:
        raise InvalidInput("the document has headings only; give it text", code="bad_document")
    twin = connection.scalar(
        select(documents.c.name).where(documents.c.text == markdown, documents.c.name != name)
    )
    if twin is not None:
        raise InvalidInput(
            f"the document {twin!r} has the same text; change or delete that one",
            code="duplicate_document",
        )
    values = {"title": (title or heading or name)[:300], "text": markdown, "updated_at": now()}
    document_id = connection.scalar(
        update(documents).where(documents.c.name == name).values(values).returning(documents.c.id)
    )
    if document_id is None:
        document_id = uuid4().hex
        connection.execute(insert(documents).values(id=document_id, name=name, **values))
    connection.execute(delete(passages).where(passages.c.document_id == document_id))
    connection.execute(
        insert(passages),
        [
            {"document_id": document_id, "position": place, "title": part[:300], "text": body}
            for place, (part, body) in enumerate(pieces)
        ],
    )
    return get(connection, name)


def remove(connection: Connection, name: str) -> None:
    if connection.execute(delete(documents).where(documents.c.name == name)).rowcount == 0:
        raise NotFound("document")


def search(connection: Connection, question: str, *, most: int = 8) -> list[Passage]:
    """The passages that share the rarest words with the question, best first."""
    words = list(dict.fromkeys(re.findall(r"\w+", question.casefold())))[:64]
    words = [word for word in words if word not in _STOP_WORDS] or words
    if not words:
        return []
    if connection.dialect.name == "sqlite":
        query, terms = _SEARCH_SQLITE, " OR ".join(f'"{word}"' for word in words)
    else:
        query, terms = _SEARCH_POSTGRESQL, " | ".join(f"'{word}'" for word in words)
    return [
        Passage(str(row.id), row.title, row.text, row.document, row.score)
        for row in connection.execute(query, {"terms": terms, "most": most})
    ]


MeaningsState = tuple[int, int, float]
"""Another one whenever a passage or its meaning has come, gone or changed."""


def meanings_state(connection: Connection, version: str) -> MeaningsState:
    here = passages.c.meaning_version == version
    read = select(func.count(), func.coalesce(func.sum(passages.c.id), 0)).where(here)
    changed = select(func.coalesce(func.max(documents.c.updated_at), 0.0))
    count, ids = connection.execute(read).one()
    return int(count), int(ids), float(connection.scalar(changed) or 0.0)


def meanings(connection: Connection, version: str) -> list[tuple[str, bytes]]:
    """What `put_meanings` stored, by the passages' ids."""
    here = passages.c.meaning_version == version
    found = connection.execute(select(passages.c.id, passages.c.meaning).where(here))
    return [(str(row.id), row.meaning) for row in found]


def unread(connection: Connection, version: str, *, most: int) -> list[Passage]:
    """Passages without a meaning of this version."""
    missing = passages.c.meaning_version.is_distinct_from(version)
    return _passages(connection, missing, most)


def word_meanings(connection: Connection, version: str, ids: Sequence[str]) -> dict[str, bytes]:
    """What `put_meanings` stored of these passages' words."""
    wanted = passages.c.id.in_([int(one) for one in ids]), passages.c.meaning_version == version
    found = connection.execute(select(passages.c.id, passages.c.word_meanings).where(*wanted))
    return {str(row.id): row.word_meanings for row in found}


def put_meanings(
    connection: Connection, version: str, found: Mapping[str, tuple[bytes, bytes]]
) -> None:
    """Of each passage, as a whole and of its words. Passages that are gone by now are left out."""
    for passage_id, (meaning, of_words) in found.items():
        connection.execute(
            update(passages)
            .where(passages.c.id == int(passage_id))
            .values(meaning=meaning, word_meanings=of_words, meaning_version=version)
        )


def passages_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, Passage]:
    """Of those that are still there."""
    found = _passages(connection, passages.c.id.in_([int(one) for one in ids]), len(ids))
    return {one.id: one for one in found}


def _passages(connection: Connection, condition: ColumnElement[bool], most: int) -> list[Passage]:
    rows = connection.execute(
        select(
            *(passages.c.id, passages.c.title, passages.c.text),
            documents.c.title.label("document"),
        )
        .join(documents)
        .where(condition)
        .order_by(passages.c.id)
        .limit(most)
    )
    return [Passage(str(row.id), row.title, row.text, row.document) for row in rows]


# The column weights: a word in the section's title counts three times one in its text.
_SEARCH_SQLITE = text("""
    SELECT passages.id, passages.title, passages.text, documents.title AS document,
           -bm25(passage_search, 3.0, 1.0) AS score
    FROM passage_search
    JOIN passages ON passages.id = passage_search.rowid
    JOIN documents ON documents.id = passages.document_id
    WHERE passage_search MATCH :terms
    ORDER BY score DESC, passages.id LIMIT :most
""")

_SEARCH_POSTGRESQL = text("""
    SELECT passages.id, passages.title, passages.text, documents.title AS document,
           ts_rank_cd('{0.1, 0.3, 0.3, 1.0}', passages.search, query) AS score
    FROM passages
    JOIN documents ON documents.id = passages.document_id,
    to_tsquery('english', :terms) AS query
    WHERE passages.search @@ query
    ORDER BY score DESC, passages.id LIMIT :most
""")

_STOP_WORDS = frozenset(
    """a about am an and any are as at be been but by can could did do does for from had has have
    he her him his how i if in into is it its just me my no not of on or our please shall she
    should so some than that the their them then there these they this to up us was we were what
    when where which who why will with would you your""".split()
)

_SELECT = select(
    documents,
    select(func.count())
    .where(passages.c.document_id == documents.c.id)
    .scalar_subquery()
    .label("passages"),
)


def _from_row(row: Row[Any]) -> Document:
    return Document(
        name=row.name,
        title=row.title,
        text=row.text,
        passages=row.passages,
        updated_at=datetime.fromtimestamp(row.updated_at, UTC),
    )

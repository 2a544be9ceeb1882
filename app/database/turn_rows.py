"""A turn as a row, and back."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select, text

from app.database.tables import turns
from app.dialogue.routing import Decision
from app.dialogue.state import Option
from app.dialogue.turn import Feedback, Reply, Timing, Turn, TurnStatus
from app.errors import NotFound
from generator.interface import Citation, Skipped, TokensBy, Usage

LEASE_SECONDS = 15.0

OPEN = text("turns.status IN ('accepted', 'generating')")
"""Literal, not parameters: so that both databases see that their partial indexes fit."""


def load(connection: Connection, turn_id: str) -> Turn:
    return find_one(connection, select(turns).where(turns.c.id == turn_id))


def find_one(connection: Connection, query: Select[Any]) -> Turn:
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("turn")
    return from_row(row)


def from_row(row: Row[Any]) -> Turn:
    reply = None
    if row.reply is not None:
        reply = Reply(
            text=row.reply,
            citations=tuple(Citation(*one) for one in row.citations),
            choices=tuple(Option(*one) for one in row.choices),
            generator=row.generator,
            degraded=row.degraded,
            skipped=tuple(Skipped(*one) for one in row.skipped),
            usage=usage_of(row),
        )
    return Turn(
        id=row.id,
        conversation_id=row.conversation_id,
        owner=row.owner,
        seq=row.seq,
        status=TurnStatus(row.status),
        text=row.text,
        fence=row.fence,
        reply=reply,
        decision=Decision.from_json(row.decision) if row.decision else None,
        model_version=row.model_version,
        timing=Timing(
            row.classify_ms,
            row.first_piece_ms,
            row.total_ms,
            row.search_ms,
            row.classify_cpu_ms,
        ),
        feedback=Feedback(row.rating, row.comment) if row.rating else None,
        error_code=row.error_code,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        finished_at=datetime.fromtimestamp(row.finished_at, UTC) if row.finished_at else None,
    )


def reply_values(reply: Reply) -> dict[str, Any]:
    return {
        "reply": reply.text,
        "citations": [
            [one.passage_id, one.document, one.title, one.quote] for one in reply.citations
        ],
        "choices": [[one.intent, one.title] for one in reply.choices],
        "generator": reply.generator,
        "degraded": reply.degraded,
        "skipped": [[one.generator, one.error] for one in reply.skipped],
    }


def usage_values(usage: Usage | None) -> dict[str, Any]:
    return {
        "generator_cpu_ms": usage.cpu_seconds * 1000 if usage else None,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "reply_tokens": usage.reply_tokens if usage else None,
        "tokens_by": usage.tokens_by if usage else None,
    }


def usage_of(row: Row[Any]) -> Usage | None:
    if row.generator_cpu_ms is None:
        return None
    tokens_by = TokensBy(row.tokens_by) if row.tokens_by else None
    return Usage(row.generator_cpu_ms / 1000, row.prompt_tokens, row.reply_tokens, tokens_by)

"""Instant turns that the generator answered as well: the proof of what the split is worth.

Which turns are sampled their ids say, which are random: so the sample does not depend on when
somebody had time for it. A row holds what was said in a conversation, and goes with its turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    exists,
    func,
    literal,
    select,
    tuple_,
)
from sqlalchemy.exc import IntegrityError

from app.database import cursor, turns
from app.database.ledger import Span, day_of, within
from app.database.tables import now, reanswers
from app.database.tables import turns as table
from app.database.turn_rows import OPEN, from_row, usage_of, usage_values
from app.dialogue.cost import Effort, Prices
from app.dialogue.routing import Cause, Route
from app.dialogue.turn import Turn, TurnStatus
from generator.agreement import Agreement
from generator.interface import ChatMessage, Usage

OLDEST_SECONDS = 7 * 86_400.0
"""Older turns were answered from other replies and documents than there are now."""


@dataclass(frozen=True, slots=True)
class Reanswer:
    turn_id: str
    reply: str | None
    """None where the generator gave none."""
    generator: str | None
    answered: bool
    """False: it said that it does not know."""
    agreement: Agreement | None
    usage: Usage | None
    first_piece_ms: float | None
    total_ms: float
    error_code: str | None = None

    @property
    def differs(self) -> bool | None:
        if self.agreement is None:
            return None
        return not self.answered or bool(self.agreement.differs_in)


@dataclass(frozen=True, slots=True)
class Pair:
    """What one instant turn took, and what the generator took for the same."""

    day: int
    answered: bool
    differs: bool
    differs_in: tuple[str, ...]
    instant_cpu_seconds: float
    instant_seconds: float
    seconds: float
    usage: Usage | None

    @property
    def effort(self) -> Effort:
        """The generator's; nothing where it does not tell."""
        return Effort.of(self.usage)

    def saved(self, prices: Prices) -> Mapping[str, float] | None:
        """Per turn; None where the generator does not tell what it took."""
        if self.usage is None:
            return None
        used = self.usage
        return {
            "cost": self.effort.cost(prices) - self.instant_cpu_seconds * prices.cpu_second,
            "cpu_seconds": used.cpu_seconds - self.instant_cpu_seconds,
            "prompt_tokens": float(used.prompt_tokens or 0),
            "reply_tokens": float(used.reply_tokens or 0),
        }


@dataclass(frozen=True, slots=True)
class Differing:
    """Both answers to one utterance, for people to judge."""

    turn_id: str
    conversation_id: str
    created_at: datetime
    intent: str | None
    model_version: int | None
    text: str
    reply: str
    reanswer: str
    generator: str | None
    answered: bool
    agreement: Agreement
    differs_in: tuple[str, ...]


def next_turn(
    connection: Connection, share: float, *, but: Sequence[str] = ()
) -> tuple[Turn, list[ChatMessage]] | None:
    """A sampled turn that was not answered again yet, with what was said before it; None where
    there is none, or while people wait for an answer, on whichever replica."""
    if somebody_waits(connection):
        return None
    row = connection.execute(
        select(table)
        .where(
            is_sampled(share),
            _COUNTS,
            table.c.created_at > now() - OLDEST_SECONDS,
            ~exists().where(reanswers.c.turn_id == table.c.id),
            table.c.id.not_in(but),
        )
        .order_by(table.c.id)
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    turn = from_row(row)
    return turn, turns.history(connection, turn)


def somebody_waits(connection: Connection) -> bool:
    return bool(connection.scalar(select(exists(select(table.c.id).where(OPEN)))))


def store(connection: Connection, found: Reanswer) -> None:
    """Nothing happens where the turn is gone, or was answered by another replica."""
    agreement = found.agreement
    values = {
        "turn_id": found.turn_id,
        "created_at": now(),
        "reply": found.reply,
        "generator": found.generator,
        "answered": found.answered,
        "agreement": agreement.to_json() if agreement else None,
        "differs": found.differs,
        "error_code": found.error_code,
        "first_piece_ms": found.first_piece_ms,
        "total_ms": found.total_ms,
        **usage_values(found.usage),
    }
    try:
        with connection.begin_nested():
            connection.execute(reanswers.insert().values(values))
    except IntegrityError:
        return


def instant_turns(connection: Connection, span: Span) -> dict[int, int]:
    """How many were answered at once, by day; without those that picked an option, which nobody
    would have asked a generator."""
    day = day_of(table.c.created_at)
    rows = connection.execute(
        select(day, func.count()).where(within(span), _COUNTS).group_by(day)
    ).all()
    return {row[0]: row[1] for row in rows}


def waiting(connection: Connection, span: Span, share: float) -> int:
    """Sampled turns that are still to be answered again."""
    return int(
        connection.scalar(
            select(func.count()).where(
                within(span),
                is_sampled(share),
                _COUNTS,
                table.c.created_at > now() - OLDEST_SECONDS,
                ~exists().where(reanswers.c.turn_id == table.c.id),
            )
        )
        or 0
    )


def pairs(connection: Connection, span: Span) -> tuple[list[Pair], int]:
    """And how many there would be more, had their generator answered."""
    rows = connection.execute(
        select(
            day_of(table.c.created_at).label("day"),
            table.c.classify_cpu_ms,
            table.c.total_ms.label("instant_ms"),
            *(one for one in reanswers.c if one.name != "reply"),
        )
        .join(table, table.c.id == reanswers.c.turn_id)
        .where(within(span))
    ).all()
    compared = [row for row in rows if row.differs is not None]
    return [_pair(row) for row in compared], len(rows) - len(compared)


def differing(
    connection: Connection, span: Span, *, limit: int, after: str | None = None
) -> tuple[list[Differing], str | None]:
    """The newest turns first, and the cursor that leads to older ones."""
    query = (
        select(
            table.c.id,
            table.c.conversation_id,
            table.c.created_at,
            table.c.intent,
            table.c.model_version,
            table.c.text,
            table.c.reply,
            reanswers.c.reply.label("reanswer"),
            reanswers.c.generator,
            reanswers.c.answered,
            reanswers.c.agreement,
        )
        .join(table, table.c.id == reanswers.c.turn_id)
        .where(within(span), reanswers.c.differs)
        .order_by(table.c.created_at.desc(), table.c.id.desc())
        .limit(limit + 1)
    )
    if after is not None:
        position = tuple_(*(literal(one) for one in cursor.position(after)))
        query = query.where(tuple_(table.c.created_at, table.c.id) < position)
    rows: Sequence[Any] = connection.execute(query).all()
    shown = rows[:limit]
    more = len(rows) > limit
    older = cursor.after(shown[-1].created_at, shown[-1].id) if more else None
    return [_differing(row) for row in shown], older


def is_sampled(share: float) -> ColumnElement[bool]:
    """Ids are random hexadecimal digits: below this one are so many of them."""
    last = round(share * 16**8)
    return table.c.id < (f"{last:08x}" if last < 16**8 else "g")


_COUNTS = (
    (table.c.route == Route.INSTANT)
    & (table.c.status == TurnStatus.DONE)
    & (table.c.decision["cause"].as_string() == Cause.CONFIDENT)
)


def _differs_in(row: Row[Any]) -> tuple[str, ...]:
    if not row.answered:
        return ("unanswered",)
    return Agreement.from_json(row.agreement).differs_in


def _pair(row: Row[Any]) -> Pair:
    return Pair(
        day=row.day,
        answered=row.answered,
        differs=row.differs,
        differs_in=_differs_in(row),
        instant_cpu_seconds=(row.classify_cpu_ms or 0.0) / 1000,
        instant_seconds=(row.instant_ms or 0.0) / 1000,
        seconds=row.total_ms / 1000,
        usage=usage_of(row),
    )


def _differing(row: Row[Any]) -> Differing:
    return Differing(
        turn_id=row.id,
        conversation_id=row.conversation_id,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        intent=row.intent,
        model_version=row.model_version,
        text=row.text,
        reply=row.reply,
        reanswer=row.reanswer,
        generator=row.generator,
        answered=row.answered,
        agreement=Agreement.from_json(row.agreement),
        differs_in=_differs_in(row),
    )

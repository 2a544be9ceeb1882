"""The review queue, read from the newest turns that may be worth a look."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select, text

from app.database import labels as labelling
from app.database.cursor import after, position
from app.database.labels import Source
from app.database.tables import WORTH_REVIEW, intents, labels, turns
from app.database.turn_rows import from_row
from app.dialogue.review import Asked, Entry, Reason, queue, same_words
from app.dialogue.routing import Cause, Route
from app.dialogue.turn import Turn
from app.errors import InvalidInput, TwofoldError

WINDOW = 5_000
"""So many of the newest turns of `ix_turns_worth_review` are looked at: what a look costs does not
grow with the table."""
ENTRIES_AT_ONCE = 20
"""So many are accepted in one transaction: chats wait for no more than that."""


@dataclass(frozen=True, slots=True)
class Filter:
    reason: Reason | None = None
    intent: str | None = None
    """The network's first guess, or what a user chose."""

    def lets(self, entry: Entry) -> bool:
        wanted = self.intent in (None, entry.intent, entry.suggestion)
        return wanted and (self.reason is None or self.reason in entry.reasons)


@dataclass(frozen=True, slots=True)
class Page:
    items: list[tuple[Entry, Turn]]
    next_cursor: str | None
    waiting: int
    """All that the filter lets through."""
    suggested: int
    """Of these, those that a user has labelled."""


def entries(connection: Connection) -> list[Entry]:
    """Best first."""
    return queue(_window(connection))


def page(connection: Connection, wanted: Filter, *, limit: int, cursor: str | None) -> Page:
    found = [one for one in entries(connection) if wanted.lets(one)]
    rest = found
    if cursor is not None:
        place = _place(cursor)
        rest = [one for one in found if one.place < place]
    shown = rest[:limit]
    rows = connection.execute(select(turns).where(turns.c.id.in_([one.turn_id for one in shown])))
    by_id = {row.id: from_row(row) for row in rows}
    return Page(
        # One that was erased just now is not shown.
        [(one, by_id[one.turn_id]) for one in shown if one.turn_id in by_id],
        _cursor(shown[-1]) if len(rest) > limit else None,
        waiting=len(found),
        suggested=sum(one.suggestion is not None for one in found),
    )


def same_as(connection: Connection, turn_id: str) -> list[str]:
    """The turns that say what this one does, itself among them, decided or not; none where it is
    not among the newest that may be worth a look."""
    newest = connection.execute(_newest(connection, turns.c.id, turns.c.text)).all()
    said = {same_words(one.text) for one in newest if one.id == turn_id}
    return [one.id for one in newest if said and same_words(one.text) in said]


def portions(found: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Those with a suggestion, for `accept`."""
    suggested = [one for one in found if one.suggestion is not None]
    for start in range(0, len(suggested), ENTRIES_AT_ONCE):
        yield suggested[start : start + ENTRIES_AT_ONCE]


def accept(connection: Connection, portion: Sequence[Entry], *, by: str) -> int:
    """Label these with what users chose. Those that cannot be any more are left out."""
    done = 0
    for entry in portion:
        try:
            with connection.begin_nested():
                labelling.decide(connection, entry.turn_id, entry.turn_ids, entry.suggestion, by=by)
        except TwofoldError:  # decided, erased or its intent deleted meanwhile; or too long
            continue
        done += 1
    return done


def _window(connection: Connection) -> list[Asked]:
    decision = turns.c.decision
    newest = _newest(
        connection,
        turns.c.id,
        turns.c.conversation_id,
        turns.c.text,
        turns.c.created_at,
        turns.c.route,
        turns.c.intent,
        turns.c.rating,
        decision["cause"].as_string().label("cause"),
        *(
            decision[name].as_float().label(name)
            for name in ("confidence", "margin", "assurance", "threshold")
        ),
    ).subquery()
    users, operators = labels.alias("users"), labels.alias("operators")
    rows = connection.execute(
        select(
            newest,
            intents.c.name.label("suggested"),
            operators.c.turn_id.is_not(None).label("is_decided"),
        )
        .outerjoin(users, (users.c.turn_id == newest.c.id) & (users.c.source == Source.USER))
        .outerjoin(intents, intents.c.id == users.c.intent_id)
        .outerjoin(
            operators,
            (operators.c.turn_id == newest.c.id) & (operators.c.source == Source.OPERATOR),
        )
    )
    return [
        Asked(
            turn_id=row.id,
            conversation_id=row.conversation_id,
            text=row.text,
            seconds=row.created_at,
            route=Route(row.route),
            cause=Cause(row.cause),
            intent=row.intent,
            confidence=row.confidence,
            margin=row.margin,
            # Rows of older releases: a fixed threshold of the confidence.
            assurance=row.confidence if row.assurance is None else row.assurance,
            threshold=row.threshold,
            is_disliked=row.rating == "down",
            suggested=row.suggested,
            is_decided=row.is_decided,
        )
        for row in rows
    ]


def _newest(connection: Connection, *columns: ColumnElement[Any]) -> Select[Any]:
    worth_review = text(f"({WORTH_REVIEW[connection.dialect.name]})")
    return (
        select(*columns)
        .where(worth_review, turns.c.route.is_not(None))
        .order_by(turns.c.created_at.desc())
        .limit(WINDOW)
    )


def _cursor(entry: Entry) -> str:
    return f"{entry.worth}_{after(entry.seconds, entry.turn_id)}"


def _place(cursor: str) -> tuple[float, float, str]:
    worth, _, rest = cursor.partition("_")
    if not worth.replace(".", "", 1).isdecimal() or not worth.isascii() or len(worth) > 20:
        raise InvalidInput("this cursor is not one of ours", code="bad_cursor")
    return float(worth), *position(rest)

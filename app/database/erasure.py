"""Taking everything of a conversation or a person out of the database, with a receipt.

An erasure is a row from its first step on: what is interrupted is taken up again by any
replica. The row says what, how much and when, but nothing that anybody said; when it is done it
names its subject by a digest alone, so that whoever knows the id can find it and nobody can
read it there.

A table that holds anything of a person is deleted from in `_take_out`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, or_, select, update

from app.database.tables import (
    conversations,
    erasures,
    examples,
    labels,
    model_versions,
    now,
    reanswers,
    sampled_turns,
    training_jobs,
    turns,
)
from app.errors import NotFound

TURNS_AT_ONCE = 200
"""About so many turns go in one transaction: chats wait for no more than that."""
CONVERSATIONS_AT_ONCE = 100
GIVEN_UP = 600.0
"""Seconds after which another replica ends what one has begun."""

_TABLES = ("conversations", "turns", "examples", "reanswers", "labels", "sampled_turns")
_DAY = 86_400.0
_IS_OPEN = turns.c.status.in_(("accepted", "generating"))


class Kind(StrEnum):
    CONVERSATION = "conversation"
    OWNER = "owner"
    RETENTION = "retention"


class By(StrEnum):
    """Who wanted it; not by name, which would be a trace of its own."""

    OWNER = "owner"
    ADMIN = "admin"
    OPERATOR = "operator"
    RETENTION = "retention"


@dataclass(frozen=True, slots=True)
class Receipt:
    id: str
    kind: Kind
    subject: str | None
    """sha256 of the conversation's or the owner's id; None for what had become too old."""
    requested_by: By
    rows: Mapping[str, int]
    """How many went, by table."""
    model_versions: tuple[int, ...]
    """Trained while examples that went were there: they may have learned from them."""
    started_at: datetime
    finished_at: datetime | None
    sha256: str | None
    """Of all the above; None until it is finished."""

    def to_json(self) -> dict[str, Any]:
        """As the API writes it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "subject": self.subject,
            "requested_by": self.requested_by,
            "rows": dict(self.rows),
            "model_versions": list(self.model_versions),
            "started_at": _moment(self.started_at),
            "finished_at": _moment(self.finished_at),
            "sha256": self.sha256,
        }

    def seal(self) -> str:
        """sha256 of its facts in one spelling, so that whoever has the receipt can compute it."""
        facts = {name: value for name, value in self.to_json().items() if name != "sha256"}
        spelled = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(spelled.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Step:
    erasure_id: str
    is_done: bool
    """Nothing is left to take out: `finish` it."""
    open_turns: tuple[str, ...] = ()
    """Somebody may still be answering them: they are to stop."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Days that a conversation is kept after its last turn; 0: for ever."""

    days: float = 0
    guest_days: float = 0
    """For guests, who lose the way to their conversations with their cookie; 0: as `days`."""

    @property
    def is_on(self) -> bool:
        return bool(self.days or self.guest_days)


@dataclass(frozen=True, slots=True)
class Due:
    """What the retention would take now."""

    conversations: int
    turns: int
    examples: int


@dataclass(slots=True)
class _Taken:
    rows: dict[str, int] = field(default_factory=dict)
    open_turns: list[str] = field(default_factory=list)
    examples_since: float | None = None


def digest(subject: str) -> str:
    return hashlib.sha256(subject.encode()).hexdigest()


def erase_conversation(
    connection: Connection, owner: str | None, conversation_id: str, *, by: By
) -> Step:
    """At once and whole. `owner` None: whosever it is. Raises NotFound."""
    mine = conversations.c.id == conversation_id
    if owner is not None:
        mine &= conversations.c.owner == owner
    whose = connection.scalar(select(conversations.c.owner).where(mine).with_for_update())
    if whose is None:
        raise NotFound("conversation")
    erasure_id = _begin(connection, Kind.CONVERSATION, conversation_id, whose, by)
    taken = _take_out(connection, [conversation_id])
    _note(connection, erasure_id, taken)
    return Step(erasure_id, True, tuple(taken.open_turns))


def begin_owner(connection: Connection, owner: str, *, by: By) -> str:
    """Returns the erasure's id; `erase_some` does the work. One that is under way is joined."""
    under_way = connection.scalar(
        select(erasures.c.id)
        .where(
            erasures.c.kind == Kind.OWNER,
            erasures.c.owner == owner,
            erasures.c.finished_at.is_(None),
        )
        .limit(1)
    )
    return under_way or _begin(connection, Kind.OWNER, owner, owner, by)


def begin_retention(connection: Connection) -> str:
    return _begin(connection, Kind.RETENTION, None, None, By.RETENTION)


def erase_some(connection: Connection, erasure_id: str) -> Step:
    """The next few conversations of an owner's erasure. What they start after it began stays."""
    erasure = _locked_row(connection, erasure_id)
    if erasure.kind != Kind.OWNER or erasure.finished_at is not None:
        return Step(erasure_id, True)
    theirs = (conversations.c.owner == erasure.owner) & (
        conversations.c.created_at <= erasure.started_at
    )
    chosen = _locked(connection, theirs)
    if not chosen:
        return Step(erasure_id, True)
    taken = _take_out(connection, chosen)
    _note(connection, erasure_id, taken)
    return Step(erasure_id, False, tuple(taken.open_turns))


def erase_old(
    connection: Connection, erasure_id: str, retention: Retention, candidates: Sequence[str]
) -> Step:
    """Of these conversations those that are still too old, a transaction's worth of them."""
    if _locked_row(connection, erasure_id).finished_at is not None:
        return Step(erasure_id, True)  # sealed by another replica, which had given us up
    chosen = _locked(connection, conversations.c.id.in_(candidates) & _is_old(retention))
    taken = _take_out(connection, chosen)
    _note(connection, erasure_id, taken)
    return Step(erasure_id, not chosen)


def old(connection: Connection, retention: Retention, *, most: int = 1_000) -> list[str]:
    """Conversations that the retention takes, the oldest first."""
    return list(
        connection.scalars(
            select(conversations.c.id)
            .where(_is_old(retention))
            .order_by(conversations.c.updated_at)
            .limit(most)
        )
    )


def due(connection: Connection, retention: Retention) -> Due:
    """Counts, and changes nothing."""
    if not retention.is_on:
        return Due(0, 0, 0)
    chosen = select(conversations.c.id).where(_is_old(retention))
    their_turns = select(turns.c.id).where(turns.c.conversation_id.in_(chosen))

    def count(query: Any) -> int:
        return int(connection.scalar(select(func.count()).select_from(query.subquery())) or 0)

    return Due(
        conversations=count(chosen),
        turns=count(their_turns),
        examples=count(select(examples.c.id).where(examples.c.turn_id.in_(their_turns))),
    )


def unfinished(connection: Connection) -> list[str]:
    """Erasures that somebody was interrupted in. Two may work on an owner's at once, but what
    had become too old is its replica's alone, unless that has been silent for long."""
    is_left = (erasures.c.kind != Kind.RETENTION) | (erasures.c.started_at < now() - GIVEN_UP)
    return list(
        connection.scalars(
            select(erasures.c.id)
            .where(erasures.c.finished_at.is_(None), is_left)
            .order_by(erasures.c.started_at)
        )
    )


def settle(connection: Connection, erasure_id: str) -> list[int]:
    """In a transaction after the last step's, so that no training can have read, between the
    two, what is gone: jobs that run start again. Returns the versions that were there."""
    erasure = _locked_row(connection, erasure_id)
    if erasure.finished_at is not None or erasure.examples_since is None:
        return list(erasure.model_versions)
    connection.execute(
        update(training_jobs)
        .where(training_jobs.c.status == "running")
        .values(status="queued", lease_until=None, progress=[])
    )
    learned = list(
        connection.scalars(
            select(model_versions.c.number)
            .where(
                model_versions.c.created_at >= erasure.examples_since,
                model_versions.c.network_of.is_(None),
            )
            .order_by(model_versions.c.number)
        )
    )
    connection.execute(
        update(erasures).where(erasures.c.id == erasure_id).values(model_versions=learned)
    )
    return learned


def finish(connection: Connection, erasure_id: str) -> Receipt:
    """Seals the receipt; it no longer knows whose erasure it was."""
    if _locked_row(connection, erasure_id).finished_at is None:
        this = erasures.c.id == erasure_id
        connection.execute(update(erasures).where(this).values(owner=None, finished_at=now()))
        seal = get(connection, erasure_id).seal()
        connection.execute(update(erasures).where(this).values(sha256=seal))
    return get(connection, erasure_id)


def get(connection: Connection, erasure_id: str) -> Receipt:
    return _one(connection, erasures.c.id == erasure_id)


def get_own(connection: Connection, owner: str, erasure_id: str) -> Receipt:
    return _one(
        connection, (erasures.c.id == erasure_id) & (erasures.c.owner_digest == digest(owner))
    )


def newest_first(connection: Connection, *, limit: int = 50) -> list[Receipt]:
    rows = connection.execute(
        select(erasures).order_by(erasures.c.started_at.desc(), erasures.c.id).limit(limit)
    )
    return [_from_row(row) for row in rows]


def _begin(
    connection: Connection, kind: Kind, subject: str | None, owner: str | None, by: By
) -> str:
    erasure_id = uuid4().hex
    connection.execute(
        insert(erasures).values(
            id=erasure_id,
            kind=kind,
            subject=None if subject is None else digest(subject),
            owner_digest=None if owner is None else digest(owner),
            owner=owner if kind is Kind.OWNER else None,
            requested_by=by,
            rows=dict.fromkeys(_TABLES, 0),
            model_versions=[],
            started_at=now(),
        )
    )
    return erasure_id


def _locked_row(connection: Connection, erasure_id: str) -> Row[Any]:
    return connection.execute(
        select(erasures).where(erasures.c.id == erasure_id).with_for_update()
    ).one()


def _locked(connection: Connection, which: ColumnElement[bool]) -> list[str]:
    """A transaction's worth of conversations, none of them in another replica's hands: a turn
    that is being accepted is waited for, and then counts."""
    size = (
        select(func.count()).where(turns.c.conversation_id == conversations.c.id).scalar_subquery()
    )
    found = connection.execute(
        select(conversations.c.id, size)
        .where(which)
        .order_by(conversations.c.updated_at, conversations.c.id)
        .limit(CONVERSATIONS_AT_ONCE)
        .with_for_update(of=conversations)
    ).all()
    chosen: list[str] = []
    room = TURNS_AT_ONCE
    for conversation_id, count in found:
        if chosen and count > room:
            break
        chosen.append(conversation_id)
        room -= count
    return chosen


def _take_out(connection: Connection, conversation_ids: Sequence[str]) -> _Taken:
    taken = _Taken()
    their_turns = turns.c.conversation_id.in_(conversation_ids)
    taken.open_turns = list(connection.scalars(select(turns.c.id).where(their_turns, _IS_OPEN)))
    added = connection.scalars(
        delete(examples)
        .where(examples.c.turn_id.in_(select(turns.c.id).where(their_turns)))
        .returning(examples.c.created_at)
    ).all()
    taken.examples_since = min(added, default=None)
    answered_again = connection.execute(
        delete(reanswers).where(reanswers.c.turn_id.in_(select(turns.c.id).where(their_turns)))
    )
    taken.rows = {
        "examples": len(added),
        "reanswers": answered_again.rowcount,
        "labels": connection.execute(
            delete(labels).where(labels.c.turn_id.in_(select(turns.c.id).where(their_turns)))
        ).rowcount,
        "sampled_turns": connection.execute(
            delete(sampled_turns).where(
                sampled_turns.c.turn_id.in_(select(turns.c.id).where(their_turns))
            )
        ).rowcount,
        "turns": connection.execute(delete(turns).where(their_turns)).rowcount,
        "conversations": connection.execute(
            delete(conversations).where(conversations.c.id.in_(conversation_ids))
        ).rowcount,
    }
    return taken


def _note(connection: Connection, erasure_id: str, taken: _Taken) -> None:
    before = connection.execute(
        select(erasures.c.rows, erasures.c.examples_since).where(erasures.c.id == erasure_id)
    ).one()
    since = [one for one in (before.examples_since, taken.examples_since) if one is not None]
    connection.execute(
        update(erasures)
        .where(erasures.c.id == erasure_id)
        .values(
            rows={name: count + taken.rows.get(name, 0) for name, count in before.rows.items()},
            examples_since=min(since, default=None),
        )
    )


def _is_old(retention: Retention) -> ColumnElement[bool]:
    """Nothing has been said in it for so long, and nothing is being answered."""
    is_guest = conversations.c.owner.startswith("guest:")
    rules = [
        (which & (conversations.c.updated_at < now() - days * _DAY))
        for which, days in (
            (~is_guest, retention.days),
            (is_guest, retention.guest_days or retention.days),
        )
        if days
    ]
    being_answered = select(turns.c.conversation_id).where(_IS_OPEN)
    return or_(*rules) & conversations.c.id.not_in(being_answered)


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def _one(connection: Connection, which: ColumnElement[bool]) -> Receipt:
    row = connection.execute(select(erasures).where(which)).one_or_none()
    if row is None:
        raise NotFound("erasure")
    return _from_row(row)


def _from_row(row: Row[Any]) -> Receipt:
    return Receipt(
        id=row.id,
        kind=Kind(row.kind),
        subject=row.subject,
        requested_by=By(row.requested_by),
        rows=row.rows,
        model_versions=tuple(row.model_versions),
        started_at=datetime.fromtimestamp(row.started_at, UTC),
        finished_at=datetime.fromtimestamp(row.finished_at, UTC) if row.finished_at else None,
        sha256=row.sha256,
    )

"""Turns: accepted once, in order, and written by one worker at a time.

A conversation's `next_seq` is its lock: one UPDATE … RETURNING checks the owner, draws the
number and holds back every other turn of the conversation until the commit. `fence` counts
who may write: a worker that comes back late carries an old one, and changes no row.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    exists,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from app.database.tables import conversations, now, turns
from app.dialogue.routing import Decision
from app.dialogue.state import DialogueState, Option
from app.dialogue.turn import Decide, Feedback, Reply, Timing, Turn, TurnStatus, Verdict
from app.errors import IdempotencyMismatch, InvalidInput, LostFence, NotFound
from generator.interface import ChatMessage, Citation

LEASE_SECONDS = 15.0
MOST_STARTS = 2
"""A turn whose worker died is answered again, but a turn that kills workers is not."""

_OPEN = turns.c.status.in_(("accepted", "generating"))


@dataclass(frozen=True, slots=True)
class NewTurn:
    owner: str
    conversation_id: str
    text: str
    worker: str
    idempotency_key: str | None = None

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.conversation_id}\0{self.text}".encode()).hexdigest()


def accept(
    connection: Connection, new: NewTurn, decide: Decide, timing: Callable[[], Timing]
) -> Turn:
    """Store the utterance with the next number of its conversation; when no earlier turn is
    open, decide it as well, and finish it when a reply is at hand. A request whose key was
    seen before gets the turn that is stored already."""
    if (seen := _seen(connection, new)) is not None:
        return seen
    try:
        with connection.begin_nested():
            return _store(connection, new, decide, timing)
    except IntegrityError:
        # Another replica stored this key after we had looked; the savepoint gave the number back.
        if (seen := _seen(connection, new)) is None:
            raise
        return seen


def _store(
    connection: Connection, new: NewTurn, decide: Decide, timing: Callable[[], Timing]
) -> Turn:
    conversation = connection.execute(
        update(conversations)
        .where(conversations.c.id == new.conversation_id, conversations.c.owner == new.owner)
        .values(next_seq=conversations.c.next_seq + 1, updated_at=now())
        .returning(conversations.c.next_seq - 1, conversations.c.state, conversations.c.title)
    ).one_or_none()
    if conversation is None:
        raise NotFound("conversation")
    seq, state, title = conversation
    turn_id = uuid4().hex
    must_wait = connection.scalar(
        select(exists().where(turns.c.conversation_id == new.conversation_id, _OPEN))
    )
    values: dict[str, Any] = {
        "id": turn_id,
        "conversation_id": new.conversation_id,
        "owner": new.owner,
        "seq": seq,
        "idempotency_key": new.idempotency_key,
        "fingerprint": new.fingerprint,
        "text": new.text,
        "status": TurnStatus.ACCEPTED,
        "worker": new.worker,
        "lease_until": now() + LEASE_SECONDS,
        "created_at": now(),
    }
    if not must_wait:
        verdict = decide(DialogueState.from_json(state))
        values |= {"fence": 1, **_decided(verdict, timing)}
        _remember(connection, new.conversation_id, verdict.state)
    connection.execute(insert(turns).values(values))
    if not title:
        connection.execute(
            update(conversations)
            .where(conversations.c.id == new.conversation_id)
            .values(title=_title_from(new.text))
        )
    return _load(connection, turn_id)


def begin(
    connection: Connection,
    turn_id: str,
    decide: Decide,
    timing: Callable[[], Timing],
    *,
    worker: str,
) -> Turn | None:
    """Take up a stored turn, if it is this one's time; None while an earlier one is open."""
    earlier = turns.alias()
    taken = connection.execute(
        update(turns)
        .where(
            turns.c.id == turn_id,
            turns.c.status == TurnStatus.ACCEPTED,
            turns.c.worker == worker,
            ~exists().where(
                earlier.c.conversation_id == turns.c.conversation_id,
                earlier.c.seq < turns.c.seq,
                earlier.c.status.in_(("accepted", "generating")),
            ),
        )
        .values(
            status=TurnStatus.GENERATING,
            fence=turns.c.fence + 1,
            lease_until=now() + LEASE_SECONDS,
            reply=None,
            citations=[],
        )
        .returning(turns.c.conversation_id, turns.c.decision)
    ).one_or_none()
    if taken is None:
        turn = _load(connection, turn_id)
        if turn.status is TurnStatus.GENERATING:
            raise LostFence("this turn was taken over by another worker")
        return turn if turn.status.is_final else None
    if taken.decision is None:
        state = connection.scalar(
            update(conversations)
            .where(conversations.c.id == taken.conversation_id)
            .values(updated_at=now())
            .returning(conversations.c.state)
        )
        verdict = decide(DialogueState.from_json(state or {}))
        connection.execute(
            update(turns).where(turns.c.id == turn_id).values(_decided(verdict, timing))
        )
        _remember(connection, taken.conversation_id, verdict.state)
    return _load(connection, turn_id)


def grow(connection: Connection, replies: Mapping[tuple[str, int], str]) -> None:
    """All streams' replies so far, by (turn, fence), in one commit; renews their leases."""
    if not replies:
        return
    connection.execute(
        update(turns)
        .where(
            turns.c.id == bindparam("turn_id"),
            turns.c.fence == bindparam("mine"),
            turns.c.status == TurnStatus.GENERATING,
        )
        .values(reply=bindparam("so_far"), lease_until=now() + LEASE_SECONDS),
        [
            {"turn_id": turn_id, "mine": fence, "so_far": reply}
            for (turn_id, fence), reply in replies.items()
        ],
    )


def renew(connection: Connection, worker: str, turn_ids: Sequence[str]) -> set[str]:
    """Keep the leases of this worker's open turns; returns those that are still its own."""
    return set(
        connection.scalars(
            update(turns)
            .where(turns.c.id.in_(turn_ids), turns.c.worker == worker, _OPEN)
            .values(lease_until=now() + LEASE_SECONDS)
            .returning(turns.c.id)
        )
    )


def finish(connection: Connection, turn_id: str, fence: int, reply: Reply, timing: Timing) -> Turn:
    return _close(connection, turn_id, fence, {**_said(reply), "status": TurnStatus.DONE}, timing)


def fail(connection: Connection, turn_id: str, fence: int, code: str, timing: Timing) -> Turn:
    """The partial reply stays, so that people see what was said."""
    return _close(
        connection, turn_id, fence, {"status": TurnStatus.FAILED, "error_code": code}, timing
    )


def cancel(connection: Connection, owner: str, turn_id: str) -> Turn:
    """Ends an open turn; a turn that is final already stays as it is."""
    connection.execute(
        update(turns)
        .where(turns.c.id == turn_id, turns.c.owner == owner, _OPEN)
        .values(status=TurnStatus.CANCELLED, finished_at=now(), lease_until=None)
    )
    return get(connection, owner, turn_id)


def adopt_orphans(
    connection: Connection,
    worker: str,
    *,
    answering: Collection[str] = (),
    all_open: bool = False,
) -> list[Turn]:
    """Take over turns whose worker is gone: its lease is over, or (`all_open`, where only one
    process can exist) this process has just started. Too often started: failed.

    `answering` are the turns that this worker is at work on. Its others are orphans like
    anybody's: it gave them up when the database did not take their end."""
    orphaned = _OPEN if all_open else and_(_OPEN, turns.c.lease_until < now())
    orphaned = and_(orphaned, turns.c.id.not_in(answering))
    connection.execute(
        update(turns)
        .where(orphaned, turns.c.fence >= MOST_STARTS)
        .values(
            status=TurnStatus.FAILED, error_code="orphaned", finished_at=now(), lease_until=None
        )
    )
    adopted = connection.scalars(
        update(turns)
        .where(orphaned, turns.c.fence < MOST_STARTS)  # a lease may have ended since that update
        .values(status=TurnStatus.ACCEPTED, worker=worker, lease_until=now() + LEASE_SECONDS)
        .returning(turns.c.id)
    ).all()
    rows = connection.execute(
        select(turns).where(turns.c.id.in_(adopted)).order_by(turns.c.conversation_id, turns.c.seq)
    )
    return [_from_row(row) for row in rows]


def get(connection: Connection, owner: str, turn_id: str) -> Turn:
    return _one(connection, select(turns).where(turns.c.id == turn_id, turns.c.owner == owner))


def page(
    connection: Connection, owner: str, conversation_id: str, *, limit: int, cursor: str | None
) -> tuple[list[Turn], str | None]:
    """The newest turns, oldest first within the page; the cursor leads to older ones."""
    known = connection.scalar(
        select(
            exists().where(conversations.c.id == conversation_id, conversations.c.owner == owner)
        )
    )
    if not known:
        raise NotFound("conversation")
    query = (
        select(turns)
        .where(turns.c.conversation_id == conversation_id, turns.c.owner == owner)
        .order_by(turns.c.seq.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 9):
            raise InvalidInput("this cursor is not one of ours", code="bad_cursor")
        query = query.where(turns.c.seq < int(cursor))
    rows = connection.execute(query).all()
    shown = [_from_row(row) for row in reversed(rows[:limit])]
    return shown, str(shown[0].seq) if len(rows) > limit else None


def history(connection: Connection, turn: Turn, *, most_turns: int = 20) -> list[ChatMessage]:
    """What was said before this turn, oldest first."""
    rows = connection.execute(
        select(turns.c.text, turns.c.reply)
        .where(
            turns.c.conversation_id == turn.conversation_id,
            turns.c.owner == turn.owner,
            turns.c.seq < turn.seq,
            turns.c.status == TurnStatus.DONE,
        )
        .order_by(turns.c.seq.desc())
        .limit(most_turns)
    ).all()
    messages: list[ChatMessage] = []
    for text, reply in reversed(rows):
        messages += [ChatMessage("user", text), ChatMessage("assistant", reply or "")]
    return messages


def rate(connection: Connection, owner: str, turn_id: str, feedback: Feedback | None) -> Turn:
    rated = connection.execute(
        update(turns)
        .where(turns.c.id == turn_id, turns.c.owner == owner)
        .values(
            rating=feedback.rating if feedback else None,
            comment=feedback.comment if feedback else None,
        )
    )
    if rated.rowcount == 0:
        raise NotFound("turn")
    return get(connection, owner, turn_id)


def _seen(connection: Connection, new: NewTurn) -> Turn | None:
    if new.idempotency_key is None:
        return None
    row = connection.execute(
        select(turns).where(
            turns.c.owner == new.owner, turns.c.idempotency_key == new.idempotency_key
        )
    ).one_or_none()
    if row is None:
        return None
    if row.fingerprint != new.fingerprint:
        raise IdempotencyMismatch
    return replace(_from_row(row), replayed=True)


def _remember(connection: Connection, conversation_id: str, state: DialogueState) -> None:
    connection.execute(
        update(conversations)
        .where(conversations.c.id == conversation_id)
        .values(state=state.to_json())
    )


def _decided(verdict: Verdict, timing: Callable[[], Timing]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "status": TurnStatus.GENERATING,
        "route": verdict.decision.route,
        "intent": verdict.decision.intent,
        "decision": verdict.decision.to_json(),
        "model_version": verdict.model_version,
        "classify_ms": timing().classify_ms,
    }
    if verdict.reply is not None:
        values |= {
            **_said(verdict.reply),
            "status": TurnStatus.DONE,
            "finished_at": now(),
            "lease_until": None,
            "total_ms": timing().total_ms,
        }
    return values


def _said(reply: Reply) -> dict[str, Any]:
    return {
        "reply": reply.text,
        "citations": [
            [one.passage_id, one.document, one.title, one.quote] for one in reply.citations
        ],
        "choices": [[one.intent, one.title] for one in reply.choices],
        "generator": reply.generator,
        "degraded": reply.degraded,
    }


def _close(
    connection: Connection, turn_id: str, fence: int, values: dict[str, Any], timing: Timing
) -> Turn:
    closed = connection.execute(
        update(turns)
        .where(
            turns.c.id == turn_id,
            turns.c.fence == fence,
            turns.c.status == TurnStatus.GENERATING,
        )
        .values(
            finished_at=now(),
            lease_until=None,
            first_piece_ms=timing.first_piece_ms,
            total_ms=timing.total_ms,
            **values,
        )
    )
    if closed.rowcount == 0:
        raise LostFence("this turn was finished, cancelled or taken over by somebody else")
    return _load(connection, turn_id)


def _load(connection: Connection, turn_id: str) -> Turn:
    return _one(connection, select(turns).where(turns.c.id == turn_id))


def _one(connection: Connection, query: Select[Any]) -> Turn:
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("turn")
    return _from_row(row)


def _from_row(row: Row[Any]) -> Turn:
    reply = None
    if row.reply is not None:
        reply = Reply(
            text=row.reply,
            citations=tuple(Citation(*one) for one in row.citations),
            choices=tuple(Option(*one) for one in row.choices),
            generator=row.generator,
            degraded=row.degraded,
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
        timing=Timing(row.classify_ms, row.first_piece_ms, row.total_ms),
        feedback=Feedback(row.rating, row.comment) if row.rating else None,
        error_code=row.error_code,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        finished_at=datetime.fromtimestamp(row.finished_at, UTC) if row.finished_at else None,
    )


def _title_from(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 80 else words[:79].rstrip() + "…"

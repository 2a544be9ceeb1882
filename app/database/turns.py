"""Turns after they were accepted: written by one worker at a time, and read.

`fence` counts who may write: a worker that comes back late carries an old one, and changes no
row.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import groupby
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    bindparam,
    exists,
    func,
    select,
    text,
    update,
)

from app.database import labels
from app.database.tables import conversations, now, turns
from app.database.turn_rows import (
    LEASE_SECONDS,
    OPEN,
    find_one,
    from_row,
    load,
    reply_values,
    usage_values,
)
from app.dialogue.state import DialogueState
from app.dialogue.turn import Decide, Feedback, Reply, Timing, Turn, TurnStatus, Verdict
from app.errors import Conflict, InvalidInput, LostFence, NotFound
from generator.interface import ChatMessage

READ_AT_ONCE = 1000


def begin(
    connection: Connection,
    turn_id: str,
    decide: Decide,
    timing: Callable[[], Timing],
    *,
    worker: str,
) -> Turn | None:
    """Take up a stored turn, if it is this one's time; None while an earlier one is open."""
    taken = connection.execute(_BEGIN, {"turn_id": turn_id, "me": worker}).one_or_none()
    if taken is None:
        turn = load(connection, turn_id)
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
        connection.execute(
            update(conversations)
            .where(conversations.c.id == taken.conversation_id)
            .values(state=verdict.state.to_json())
        )
        if verdict.decision.is_users_choice:
            labels.suggest(connection, load(connection, turn_id))
    return load(connection, turn_id)


def retry(connection: Connection, owner: str, turn_id: str, worker: str) -> tuple[Turn, bool]:
    """Answer a failed or cancelled turn again, as long as it is the newest of its conversation.

    Also says whether it was us who began this: of several retries one does, the others get the
    open turn. Raises Conflict."""
    # Takes the conversation's lock: no newer turn can come in between.
    newest = connection.execute(
        update(conversations)
        .where(
            conversations.c.owner == owner,
            conversations.c.id == _of_turn(turns.c.conversation_id, turn_id, owner),
            conversations.c.next_seq == _of_turn(turns.c.seq + 1, turn_id, owner),
        )
        .values(next_seq=conversations.c.next_seq)
    )
    if newest.rowcount == 0:
        get(connection, owner, turn_id)
        raise Conflict(
            "only the newest turn of a conversation can be answered again; send a new message",
            code="not_the_newest_turn",
        )
    begun = connection.execute(
        update(turns)
        .where(
            turns.c.id == turn_id,
            turns.c.owner == owner,
            turns.c.status.in_((TurnStatus.FAILED, TurnStatus.CANCELLED)),
        )
        .values(
            status=TurnStatus.ACCEPTED,
            starts=0,
            worker=worker,
            lease_until=now() + LEASE_SECONDS,
            deadline_at=None,
            reply=None,
            citations=[],
            choices=[],
            generator=None,
            degraded=None,
            skipped=[],
            error_code=None,
            first_piece_ms=None,
            search_ms=None,
            total_ms=None,
            finished_at=None,
            **usage_values(None),
        )
    )
    turn = get(connection, owner, turn_id)
    if turn.status is TurnStatus.DONE:
        raise Conflict("this turn is answered already", code="turn_is_answered")
    return turn, begun.rowcount == 1


def grow(connection: Connection, replies: Mapping[tuple[str, int], Reply]) -> None:
    """All streams' replies so far, by (turn, fence), with what they took, in one commit; renews
    their leases."""
    if not replies:
        return
    connection.execute(
        update(turns)
        .where(
            turns.c.id == bindparam("turn_id"),
            turns.c.fence == bindparam("mine"),
            turns.c.status == TurnStatus.GENERATING,
        )
        .values(
            reply=bindparam("so_far"),
            lease_until=now() + LEASE_SECONDS,
            **{name: bindparam(f"new_{name}") for name in usage_values(None)},
        ),
        [
            {
                "turn_id": turn_id,
                "mine": fence,
                "so_far": reply.text,
                **{f"new_{name}": value for name, value in usage_values(reply.usage).items()},
            }
            for (turn_id, fence), reply in replies.items()
        ],
    )


def finish(connection: Connection, turn_id: str, fence: int, reply: Reply, timing: Timing) -> Turn:
    said = {**reply_values(reply), **usage_values(reply.usage)}
    return _close(connection, turn_id, fence, {**said, "status": TurnStatus.DONE}, timing)


def finish_waiting(
    connection: Connection, turn_id: str, worker: str, reply: Reply, timing: Timing
) -> Turn:
    """End a turn whose time has not come; the earlier ones stay open."""
    closed = connection.execute(
        update(turns)
        .where(
            turns.c.id == turn_id,
            turns.c.worker == worker,
            turns.c.status == TurnStatus.ACCEPTED,
        )
        .values(
            **reply_values(reply),
            status=TurnStatus.DONE,
            finished_at=now(),
            lease_until=None,
            total_ms=timing.total_ms,
        )
    )
    if closed.rowcount == 0:
        raise LostFence("this turn was cancelled or taken over by somebody else")
    return load(connection, turn_id)


def fail(connection: Connection, turn_id: str, fence: int, code: str, timing: Timing) -> Turn:
    """The partial reply stays, so that people see what was said."""
    return _close(
        connection, turn_id, fence, {"status": TurnStatus.FAILED, "error_code": code}, timing
    )


def cancel(connection: Connection, owner: str, turn_id: str) -> Turn:
    """Ends an open turn; a turn that is final already stays as it is."""
    connection.execute(
        update(turns)
        .where(turns.c.id == turn_id, turns.c.owner == owner, OPEN)
        .values(status=TurnStatus.CANCELLED, finished_at=now(), lease_until=None)
    )
    return get(connection, owner, turn_id)


def seconds_left(connection: Connection, turn_ids: Collection[str]) -> dict[str, float]:
    """Until the deadlines of those that have one, by the database's clock."""
    rows = connection.execute(
        select(turns.c.id, turns.c.deadline_at - now()).where(
            turns.c.id.in_(turn_ids), turns.c.deadline_at.is_not(None)
        )
    )
    return {row.id: max(0.0, row[1]) for row in rows}


def get(connection: Connection, owner: str, turn_id: str) -> Turn:
    return find_one(connection, select(turns).where(turns.c.id == turn_id, turns.c.owner == owner))


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
    shown = [from_row(row) for row in reversed(rows[:limit])]
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
    for said, reply in reversed(rows):
        messages += [ChatMessage("user", said), ChatMessage("assistant", reply or "")]
    return messages


def transcripts(
    connection: Connection, *, days: float | None = None
) -> Iterator[list[ChatMessage]]:
    """What was said in each, for what learns from it: without turns that have no reply, or only
    a substitute for one, or one that was disliked. `days`: only turns that are no older."""
    query = (
        select(turns.c.conversation_id, turns.c.text, turns.c.reply)
        .where(
            turns.c.status == TurnStatus.DONE,
            turns.c.reply != "",
            func.coalesce(turns.c.degraded, "fallback") == "fallback",
            func.coalesce(turns.c.rating, "up") == "up",
        )
        .order_by(turns.c.conversation_id, turns.c.seq)
        .execution_options(yield_per=READ_AT_ONCE)
    )
    if days is not None:
        query = query.where(turns.c.created_at >= now() - days * 24 * 3600)
    for _, rows in groupby(connection.execute(query), key=lambda row: row.conversation_id):
        yield [
            message
            for row in rows
            for message in (ChatMessage("user", row.text), ChatMessage("assistant", row.reply))
        ]


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


def _of_turn(column: ColumnElement[Any], turn_id: str, owner: str) -> ScalarSelect[Any]:
    return select(column).where(turns.c.id == turn_id, turns.c.owner == owner).scalar_subquery()


_earlier = turns.alias("earlier")

_BEGIN = (
    update(turns)
    .where(
        turns.c.id == bindparam("turn_id"),
        turns.c.status == TurnStatus.ACCEPTED,
        turns.c.worker == bindparam("me"),
        ~exists(
            select(_earlier.c.id).where(
                _earlier.c.conversation_id == turns.c.conversation_id,
                _earlier.c.seq < turns.c.seq,
                text("earlier.status IN ('accepted', 'generating')"),
            )
        ),
    )
    .values(
        status=TurnStatus.GENERATING,
        fence=turns.c.fence + 1,
        starts=turns.c.starts + 1,
        lease_until=now() + LEASE_SECONDS,
        reply=None,
        citations=[],
    )
    .returning(turns.c.conversation_id, turns.c.decision)
)


def _decided(verdict: Verdict, timing: Callable[[], Timing]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "status": TurnStatus.GENERATING,
        "route": verdict.decision.route,
        "intent": verdict.decision.intent,
        "decision": verdict.decision.to_json(),
        "model_version": verdict.model_version,
        "classify_ms": timing().classify_ms,
        "classify_cpu_ms": timing().classify_cpu_ms,
    }
    if verdict.reply is not None:
        values |= {
            **reply_values(verdict.reply),
            "status": TurnStatus.DONE,
            "finished_at": now(),
            "lease_until": None,
            "total_ms": timing().total_ms,
        }
    return values


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
            search_ms=timing.search_ms,
            total_ms=timing.total_ms,
            **values,
        )
    )
    if closed.rowcount == 0:
        raise LostFence("this turn was finished, cancelled or taken over by somebody else")
    return load(connection, turn_id)

"""A turn is accepted: its utterance is stored with a number, and with its reply where one is at
hand. An instant turn is three statements, built once, whatever the conversation holds.

A conversation's `next_seq` is its lock: one UPDATE … RETURNING checks the owner, draws the
number and holds back every other turn of the conversation until the commit.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import (
    Connection,
    Double,
    String,
    bindparam,
    case,
    exists,
    func,
    null,
    select,
    true,
    update,
)
from sqlalchemy.sql import ClauseElement

from app.database import labels
from app.database.ids import new_id
from app.database.prepared import Prepared
from app.database.tables import conversations, now, turns
from app.database.turn_rows import LEASE_SECONDS, OPEN, from_row, reply_values
from app.dialogue.state import DialogueState
from app.dialogue.turn import Decide, Timing, Turn, TurnStatus, Verdict
from app.errors import IdempotencyMismatch, NotFound, Overloaded


@dataclass(frozen=True, slots=True)
class NewTurn:
    owner: str
    conversation_id: str
    text: str
    worker: str
    idempotency_key: str | None = None
    deadline_seconds: float | None = None
    id: str = field(default_factory=new_id)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.conversation_id}\0{self.text}".encode()).hexdigest()


def accept(
    connection: Connection, new: NewTurn, decide: Decide, timing: Callable[[], Timing]
) -> Turn:
    """Store the utterance with the next number of its conversation; when no earlier turn is
    open, decide it as well, and finish it when a reply is at hand. A request whose key was
    seen before gets the turn that is stored already."""
    conversation = _DRAW_NUMBER(
        connection, {"conversation": new.conversation_id, "whose": new.owner}
    )
    if conversation is None:
        raise NotFound("conversation")
    seq, state, title = conversation
    verdict: Verdict | None = decide(DialogueState.from_json(_parsed(state)))
    turn = _insert(connection, new, seq, verdict, timing()) or _seen(connection, new)
    if turn is None:  # an earlier turn is open: this one waits, and is decided when it begins
        verdict = None
        turn = _insert(connection, new, seq, None, timing()) or _seen(connection, new)
    if turn is None:
        raise Overloaded("this request is being stored by another server; try again shortly")
    if turn.replayed:
        _GIVE_NUMBER_BACK(connection, {"conversation": new.conversation_id})
        return turn
    remembered = {
        "conversation": new.conversation_id,
        "new_title": title or _title_from(new.text),
        "new_state": json.dumps(verdict.state.to_json()) if verdict else None,
    }
    _REMEMBER(connection, remembered)
    if verdict is not None and verdict.decision.is_users_choice:
        labels.suggest(connection, turn)
    return turn


def state_to_decide_in(connection: Connection, new: NewTurn) -> DialogueState | None:
    """What `accept` would hand to `decide`; None where it would not ask it: the turn is stored
    already, would have to wait for an earlier one, or has no conversation. Raises
    IdempotencyMismatch, as `accept` does."""
    if _seen(connection, new) is not None:
        return None
    state = connection.scalar(
        select(conversations.c.state).where(
            conversations.c.id == new.conversation_id,
            conversations.c.owner == new.owner,
            ~exists().where(turns.c.conversation_id == new.conversation_id, OPEN),
        )
    )
    return None if state is None else DialogueState.from_json(state)


_HERE = conversations.c.id == bindparam("conversation")

_DRAW_NUMBER = Prepared(
    lambda _: (
        update(conversations)
        .where(_HERE, conversations.c.owner == bindparam("whose"))
        .values(next_seq=conversations.c.next_seq + 1)
        .returning(conversations.c.next_seq - 1, conversations.c.state, conversations.c.title)
    )
)
_GIVE_NUMBER_BACK = Prepared(
    lambda _: update(conversations).where(_HERE).values(next_seq=conversations.c.next_seq - 1)
)
_REMEMBER = Prepared(
    lambda _: (
        update(conversations)
        .where(_HERE)
        .values(
            title=bindparam("new_title"),
            updated_at=now(),
            state=func.coalesce(
                bindparam("new_state", type_=conversations.c.state.type), conversations.c.state
            ),
        )
    )
)

_STORED = (
    "id conversation_id owner seq idempotency_key fingerprint text status fence starts worker "
    "reply citations choices route intent decision model_version generator degraded skipped "
    "classify_ms classify_cpu_ms total_ms"
).split()


def _inserting(dialect: Any, *, alone: bool) -> ClauseElement:
    """One row, unless its key is there already or (`alone`) an earlier turn is open."""
    is_done = bindparam("status", type_=String) == "done"
    values = {
        **{name: bindparam(name, type_=turns.c[name].type) for name in _STORED},
        "lease_until": case((is_done, null()), else_=now() + LEASE_SECONDS),
        "deadline_at": now() + bindparam("deadline_seconds", type_=Double),
        "created_at": now(),
        "finished_at": case((is_done, now())),
    }
    row = select(*values.values())
    if alone:
        row = row.where(
            ~exists().where(turns.c.conversation_id == bindparam("conversation_id"), OPEN)
        )
    else:
        row = row.where(true())
    inserting: ClauseElement = (
        dialect.insert(turns)
        .from_select(list(values), row)
        .on_conflict_do_nothing(index_elements=["owner", "idempotency_key"])
        .returning(turns.c.created_at, turns.c.finished_at)
    )
    return inserting


_INSERT_BEGUN = Prepared(partial(_inserting, alone=True))
_INSERT_WAITING = Prepared(partial(_inserting, alone=False))

_NOTHING_SAID: dict[str, Any] = {
    "reply": None,
    "citations": "[]",
    "choices": "[]",
    "generator": None,
    "degraded": None,
    "skipped": "[]",
}


def _insert(
    connection: Connection, new: NewTurn, seq: int, verdict: Verdict | None, timing: Timing
) -> Turn | None:
    """The new turn: decided, or without a verdict waiting. None when its key is there already,
    or when it is decided while an earlier turn is open."""
    reply = verdict.reply if verdict else None
    if reply is not None:
        status = TurnStatus.DONE
    else:
        status = TurnStatus.GENERATING if verdict else TurnStatus.ACCEPTED
        timing = replace(timing, total_ms=None)
    started = int(verdict is not None)
    insert = _INSERT_BEGUN if verdict else _INSERT_WAITING
    row = insert(
        connection,
        {
            "id": new.id,
            "conversation_id": new.conversation_id,
            "owner": new.owner,
            "seq": seq,
            "idempotency_key": new.idempotency_key,
            "fingerprint": new.fingerprint,
            "text": new.text,
            "status": status.value,
            "fence": started,
            "starts": started,
            "worker": new.worker,
            "deadline_seconds": new.deadline_seconds,
            "route": verdict.decision.route if verdict else None,
            "intent": verdict.decision.intent if verdict else None,
            "decision": json.dumps(verdict.decision.to_json()) if verdict else None,
            "model_version": verdict.model_version if verdict else None,
            "classify_ms": timing.classify_ms if verdict else None,
            "classify_cpu_ms": timing.classify_cpu_ms if verdict else None,
            "total_ms": timing.total_ms,
            **(_as_text(reply_values(reply)) if reply else _NOTHING_SAID),
        },
    )
    if row is None:
        return None
    created_at, finished_at = row
    return Turn(
        id=new.id,
        conversation_id=new.conversation_id,
        owner=new.owner,
        seq=seq,
        status=status,
        text=new.text,
        fence=started,
        reply=reply,
        decision=verdict.decision if verdict else None,
        model_version=verdict.model_version if verdict else None,
        timing=timing if verdict else Timing(total_ms=timing.total_ms),
        created_at=datetime.fromtimestamp(created_at, UTC),
        finished_at=datetime.fromtimestamp(finished_at, UTC) if finished_at else None,
    )


def _as_text(said: dict[str, Any]) -> dict[str, Any]:
    return said | {name: json.dumps(said[name]) for name in ("citations", "choices", "skipped")}


def _parsed(value: Any) -> Any:
    """JSON as the driver gives it: SQLite's is text."""
    return json.loads(value) if isinstance(value, str) else value


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
    return replace(from_row(row), replayed=True)


def _title_from(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 80 else words[:79].rstrip() + "…"

"""A turn, one utterance and its reply, and where it is kept while it is being answered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from app.dialogue.routing import Decision
from app.dialogue.state import DialogueState, Option
from generator.interface import ChatMessage, Citation, Skipped, Usage

OVER_BUDGET = "budget"
"""`Reply.degraded` where the day's budget was spent, so that nothing was generated."""


class TurnStatus(StrEnum):
    ACCEPTED = "accepted"  # stored; an earlier turn of the conversation is still being answered
    GENERATING = "generating"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (TurnStatus.DONE, TurnStatus.FAILED, TurnStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    citations: tuple[Citation, ...] = ()
    choices: tuple[Option, ...] = ()
    generator: str | None = None
    degraded: str | None = None
    """Why this may not be the best answer: `deadline`, `fallback`, `no_reply`,
    `budget`; None when it is."""
    skipped: tuple[Skipped, ...] = ()
    usage: Usage | None = None
    """What a generator took for it; None where none was asked, or none measures it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds since the turn was posted, but `classify_ms`, of the network alone, and
    `search_ms`, of the search for passages."""

    classify_ms: float | None = None
    first_piece_ms: float | None = None
    total_ms: float | None = None
    search_ms: float | None = None
    classify_cpu_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    rating: str
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    id: str
    conversation_id: str
    owner: str
    seq: int
    status: TurnStatus
    text: str
    fence: int = 0
    """Counts who may write: each (re)start of the answering raises it by one."""
    reply: Reply | None = None
    decision: Decision | None = None
    model_version: int | None = None
    timing: Timing = field(default_factory=Timing)
    feedback: Feedback | None = None
    error_code: str | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    replayed: bool = False
    """This request was seen before: the stored turn is the answer."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the bot makes of one utterance: its decision, and what it says at once, if it can."""

    decision: Decision
    reply: Reply | None
    """None: open-ended, a generator has to write it."""
    state: DialogueState
    """The dialogue state after the reply."""
    model_version: int | None = None


Decide = Callable[[DialogueState], Verdict]


class TurnJournal(Protocol):
    """The durable record of one turn. Every method is one short transaction.

    Raises LostFence when somebody else has finished or taken over the turn.
    """

    async def accept(self, decide: Decide, timing: Callable[[], Timing]) -> Turn:
        """Store the utterance; decide it, and if a reply is at hand, finish it, in the same
        commit. Behind an earlier turn that is still open it stays `accepted`."""
        ...

    async def begin(self, decide: Decide, timing: Callable[[], Timing], *, deadline: float) -> Turn:
        """Wait until no earlier turn is open, then decide an `accepted` turn as `accept` does.
        Raises TimeoutError at `deadline` (monotonic); the turn still waits then."""
        ...

    async def history(self) -> Sequence[ChatMessage]:
        """What was said before this turn, oldest first."""
        ...

    async def grow(self, text: str, usage: Usage | None = None) -> None:
        """Append to the reply: heard at once, in the table soon, with what it took until here."""
        ...

    async def finish(self, reply: Reply, timing: Timing) -> Turn:
        """Also ends a turn that still waits."""
        ...

    async def fail(self, code: str, timing: Timing) -> Turn: ...

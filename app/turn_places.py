"""How many turns one replica takes on. All of it is counted here, and nothing waits here:
whoever finds no place is told so before anything of the request is stored.

Two kinds of turn are counted apart. Instant ones are done in the commit that stores them; they
pass through `arriving` and take no place. The others are open until a generator has written
them, and hold a place for as long. So a full generator never keeps an instant answer waiting.
"""

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.dialogue.turn import Turn, TurnStatus
from app.errors import Overloaded, QuotaExceeded

RETRY_SECONDS = 1.0
GENERATOR_RETRY_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class TurnLimits:
    open: int = 256
    generating: int = 64
    arriving: int = 256
    open_of: Callable[[str], int] = lambda owner: 128
    """How many open turns this owner may have on one replica."""


def generators_full() -> Overloaded:
    return Overloaded(
        "all places of the generator are taken; what the assistant knows by itself "
        "it still answers",
        code="generators_full",
        retry_after_seconds=GENERATOR_RETRY_SECONDS,
    )


class TurnPlaces:
    """Turns are held from within the transaction that stores them, in the writer's thread:
    hence the lock."""

    def __init__(self, limits: TurnLimits | None = None) -> None:
        self.limits = limits or TurnLimits()
        self._held: dict[Hashable, tuple[str, bool]] = {}
        """Who holds a place: the turn's owner, and whether a generator is at work."""
        self._of_owner: Counter[str] = Counter()
        self._generating = 0
        self._arriving = 0
        self._lock = threading.Lock()

    @property
    def open(self) -> int:
        return len(self._held)

    @property
    def generating(self) -> int:
        return self._generating

    @property
    def generators_are_full(self) -> bool:
        return self._generating >= self.limits.generating

    @contextmanager
    def arriving(self, owner: str) -> Iterator[None]:
        """While a posted turn is being read and stored. Raises Overloaded or QuotaExceeded."""
        self.check(owner)
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1

    def check(self, owner: str) -> None:
        """Would a new turn of this owner be taken on? Raises like `arriving`."""
        if self._of_owner[owner] >= self.limits.open_of(owner):
            raise QuotaExceeded(
                "too many of your turns are being answered; wait for one to end",
                retry_after_seconds=RETRY_SECONDS,
            )
        if self._arriving >= self.limits.arriving:
            raise Overloaded("too many turns arrive at once", retry_after_seconds=RETRY_SECONDS)

    def hold(self, holder: Hashable, turn: Turn) -> None:
        """Takes a place for a new turn that is not done yet. Raising Overloaded or QuotaExceeded
        here, inside the transaction, is what keeps a refused turn from leaving a row."""
        if turn.status.is_final:
            return
        generating = turn.status is TurnStatus.GENERATING
        with self._lock:
            if holder in self._held:
                return  # the same transaction, run again
            if generating and self.generators_are_full:
                raise generators_full()
            if len(self._held) >= self.limits.open:
                raise Overloaded(
                    "too many turns are being answered; try again shortly",
                    retry_after_seconds=GENERATOR_RETRY_SECONDS,
                )
            if self._of_owner[turn.owner] >= self.limits.open_of(turn.owner):
                raise QuotaExceeded(
                    "too many of your turns are being answered; wait for one to end",
                    retry_after_seconds=RETRY_SECONDS,
                )
            self._take(holder, turn.owner, generating)

    def keep(self, holder: Hashable, turn: Turn) -> None:
        """The place of a turn that is acknowledged already: it is answered in any case, even
        if that makes one more than there should be."""
        with self._lock:
            self._give_back(holder)
            if not turn.status.is_final:
                self._take(holder, turn.owner, turn.status is TurnStatus.GENERATING)

    def release(self, holder: Hashable) -> None:
        """Does nothing for whoever holds no place."""
        with self._lock:
            self._give_back(holder)

    def _take(self, holder: Hashable, owner: str, generating: bool) -> None:
        self._held[holder] = owner, generating
        self._of_owner[owner] += 1
        self._generating += generating

    def _give_back(self, holder: Hashable) -> None:
        held = self._held.pop(holder, None)
        if held is None:
            return
        owner, generating = held
        self._generating -= generating
        self._of_owner[owner] -= 1
        if not self._of_owner[owner]:
            del self._of_owner[owner]

"""How often somebody may ask: a token bucket per name, in bounded memory.

Our own because the library for it (`limits`, moving window) is one more dependency for forty
lines, keeps a list of times per name where one number does, and has no bound on how many names
it remembers.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

MOST_NAMES = 20_000


class Rate:
    """A name may ask `per_minute` times at once, and then as often as places come back."""

    def __init__(
        self,
        per_minute: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        most_names: int = MOST_NAMES,
    ) -> None:
        self._seconds_each = 60.0 / per_minute
        self._clock = clock
        self._most_names = most_names
        self._full_at: OrderedDict[str, float] = OrderedDict()
        """When each name will have all its places back; whoever has them all is not in here.
        Ordered by last use: where memory ends, those that asked longest ago are forgotten."""

    def take(self, name: str) -> float:
        """Seconds to wait; 0: it may, and this counts."""
        wait = self.wait(name)
        if not wait:
            now = self._clock()
            self._full_at[name] = max(self._full_at.get(name, now), now) + self._seconds_each
            self._full_at.move_to_end(name)
            self._forget(now)
        return wait

    def wait(self, name: str) -> float:
        """The same without counting."""
        full_at = self._full_at.get(name)
        if full_at is None:
            return 0.0
        return max(0.0, full_at + self._seconds_each - self._clock() - 60.0)

    def __len__(self) -> int:
        return len(self._full_at)

    def _forget(self, now: float) -> None:
        while self._full_at:
            name, full_at = next(iter(self._full_at.items()))
            if full_at > now and len(self._full_at) <= self._most_names:
                return
            del self._full_at[name]

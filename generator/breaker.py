"""Leaves an engine alone that keeps failing, and does not make a bad hour worse by asking twice.

A circuit breaker (Nygard 2007, "Release It!") and a retry budget (Beyer et al. 2016, "Site
Reliability Engineering", chapter 21), in one loop, with no lock.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from generator.interface import (
    GeneratorError,
    GeneratorOverloaded,
    GeneratorRefused,
    GeneratorUnavailable,
)


class Breaker:
    """Closed: everything passes. After `failures` in a row it opens: nothing passes for
    `rest_seconds`. Then one request at a time may try; the first that succeeds closes it, one
    that fails opens it again.

    An engine that is full, or refuses one request, has not failed; a caller who leaves, or who
    gave it too little time, says nothing about it."""

    def __init__(
        self, *, failures: int, rest_seconds: float, clock: Callable[[], float] | None = None
    ) -> None:
        if failures < 1 or rest_seconds <= 0:
            raise ValueError("a breaker needs failures >= 1 and rest_seconds > 0")
        self._most_failures = failures
        self._rest_seconds = rest_seconds
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._in_a_row = 0
        self._asked_again_at = 0.0
        self._trying = False

    @property
    def is_closed(self) -> bool:
        return self._in_a_row < self._most_failures

    def check(self) -> None:
        """Raises GeneratorUnavailable where a request would not pass."""
        if self.is_closed:
            return
        left = self._asked_again_at - self._clock()
        if left > 0 or self._trying:
            raise GeneratorUnavailable(
                f"the engine failed {self._in_a_row} times in a row; "
                f"it is asked again in {max(left, 0):.0f} s"
            )

    @contextmanager
    def request(self, deadline: float) -> Iterator[None]:
        """Around one request, whose time is over at `deadline` by the caller's own wish.
        Raises GeneratorUnavailable where it may not pass."""
        self.check()
        is_trial = not self.is_closed
        self._trying = self._trying or is_trial
        try:
            yield
        except (GeneratorOverloaded, GeneratorRefused):
            raise
        except GeneratorError:
            if self._clock() < deadline:
                self._in_a_row += 1
                self._asked_again_at = self._clock() + self._rest_seconds
            raise
        else:
            self._in_a_row = 0
        finally:
            if is_trial:
                self._trying = False


class RetryBudget:
    """Every request adds a tenth of a retry, and every retry takes a whole one: when everything
    fails, an engine gets a tenth more requests, not twice as many."""

    def __init__(self, *, share: float = 0.1, most: float = 10.0) -> None:
        self._share = share
        self._most = self._left = most

    def earn(self) -> None:
        self._left = min(self._most, self._left + self._share)

    def spend(self) -> bool:
        """Whether there is one."""
        if self._left < 1:
            return False
        self._left -= 1
        return True

"""Ids that nobody can guess, drawn many at a time: a call into the system switches threads."""

import os
from collections import deque

_BYTES, _AT_ONCE = 16, 256

_drawn: deque[str] = deque()


def new_id() -> str:
    """32 hexadecimal digits."""
    while True:
        try:
            return _drawn.popleft()  # one operation: any thread may draw
        except IndexError:
            digits = os.urandom(_BYTES * _AT_ONCE).hex()
            width = 2 * _BYTES
            _drawn.extend(digits[at : at + width] for at in range(0, len(digits), width))

"""Where a page of a list ended: the sort key of its last row, as clients hand it back."""

import re

from app.errors import InvalidInput

_CURSOR = re.compile(r"(\d{1,12}(?:\.\d{1,20})?)_([0-9a-f]{32})", re.ASCII)


def after(seconds: float, row_id: str) -> str:
    return f"{seconds!r}_{row_id}"


def position(cursor: str) -> tuple[float, str]:
    """(seconds, id). Raises InvalidInput."""
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidInput("this cursor is not one of ours", code="bad_cursor")
    return float(found[1]), found[2]

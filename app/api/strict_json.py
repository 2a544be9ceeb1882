"""JSON as RFC 8259 has it, and text that can be stored and shown.

Python's parser takes NaN, duplicate names and lone surrogates; each of them makes trouble
later, in the database, in a response, or in whoever reads a name's other value.
"""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from annotated_types import MaxLen
from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from intent.text import is_invisible

MOST_CHARACTERS = 4000
MOST_NESTING = 20
MOST_CONTAINERS = 5_000


class BadJson(HTTPException):
    """400; the reason never quotes the body."""

    def __init__(self, reason: str) -> None:
        super().__init__(status_code=400, detail=reason)


class StrictRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_strict_json"):
            self._strict_json = parse(await self.body())
        return self._strict_json


class StrictRoute(APIRoute):
    """For `APIRouter(route_class=StrictRoute)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return strict


def parse(body: bytes) -> Any:
    """Raises BadJson."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadJson("the body is not UTF-8") from None
    _check_brackets(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_small_int,
            parse_float=_finite_float,
        )
    except json.JSONDecodeError as error:
        raise BadJson(f"this is not JSON: see character {error.pos}") from None
    except RecursionError:
        raise BadJson("the JSON is nested too deep") from None
    return value


def clean(text: str) -> str:
    """Trimmed, in Unicode's composed form; refuses what cannot be stored or is not there."""
    if any(_unstorable(character) for character in text):
        raise PydanticCustomError(
            "unstorable_text",
            "contains a character that is no text: NUL, a control character "
            "or half of a surrogate pair",
        )
    text = unicodedata.normalize("NFC", text).strip()
    if all(one.isspace() or is_invisible(one) for one in text):
        raise PydanticCustomError("empty_text", "is empty")
    return text


# The limit holds twice: some characters become three in the composed form.
CleanText = Annotated[
    str, Field(max_length=MOST_CHARACTERS), AfterValidator(clean), MaxLen(MOST_CHARACTERS)
]
ShortText = Annotated[str, Field(max_length=200), AfterValidator(clean), MaxLen(200)]


def _unstorable(character: str) -> bool:
    return (character < " " and character not in "\n\r\t") or "\ud800" <= character <= "\udfff"


_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[][{}]', re.DOTALL)
"""Strings are skipped whole, also one that never ends: a loop over characters would take a
tenth of a second for a megabyte, of the one thread that serves everybody."""


def _check_brackets(text: str) -> None:
    """Those outside strings. Raises BadJson."""
    if text.count("[") + text.count("{") <= MOST_NESTING:
        return
    depth = opened = 0
    for found in _BRACKET.finditer(text):
        match found[0]:
            case "[" | "{":
                depth, opened = depth + 1, opened + 1
                if depth > MOST_NESTING:
                    raise BadJson(f"the JSON is nested deeper than {MOST_NESTING} levels")
                if opened > MOST_CONTAINERS:
                    raise BadJson(f"the JSON holds more than {MOST_CONTAINERS} lists and objects")
            case "]" | "}":
                depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise BadJson("a name stands twice in one JSON object")
    return value


def _no_constant(_: str) -> Any:
    raise BadJson("NaN and Infinity are not JSON")


def _small_int(digits: str) -> int:
    if len(digits) > 18:
        raise BadJson("a number is too large")
    return int(digits)


def _finite_float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):  # 1e400: no JSON writer could give it back
        raise BadJson("a number is too large")
    return number

"""Every error as application/problem+json (RFC 9457): a code, a sentence, never the input."""

import math
import random
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app import errors
from app.api.dependencies import In
from app.api.strict_json import BadJson

STATUS: dict[type[errors.TwofoldError], int] = {
    errors.InvalidInput: 422,
    errors.NotAuthenticated: 401,
    errors.NotAllowed: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.IdempotencyMismatch: 422,
    errors.LostFence: 409,
    errors.QuotaExceeded: 429,
    errors.Overloaded: 503,
    errors.Unavailable: 503,
}
"""Anything else that reaches a client is a defect, and a 500."""

_HTTP_CODES = {
    400: ("bad_request", "Bad request"),
    404: ("not_found", "Not found"),
    405: ("method_not_allowed", "Method not allowed"),
    408: ("request_timeout", "Request timeout"),
    413: ("too_large", "Content too large"),
    415: ("unsupported_media_type", "Unsupported media type"),
    503: ("overloaded", "Not available at the moment"),
}

_TITLES = {
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    409: "Conflict",
    422: "Invalid input",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available at the moment",
}

log = structlog.get_logger(__name__)


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    title: str | None = None,
    errors: Sequence[dict[str, str]] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": title or _TITLES.get(status, "Error"),
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": getattr(request.state, "request_id", ""),
    }
    if errors:
        content["errors"] = list(errors)
    return JSONResponse(
        content, status_code=status, headers=headers, media_type="application/problem+json"
    )


def install(app: FastAPI) -> None:
    app.add_exception_handler(errors.TwofoldError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _defect)


async def answer(request: Request, error: Exception) -> JSONResponse:
    """For what is refused outside a route, where no exception handler is asked."""
    return await (_ours if isinstance(error, errors.TwofoldError) else _http)(request, error)


def retry_after(seconds: float) -> str:
    """Up to half as much again, drawn: those who were refused together come back apart."""
    return str(math.ceil(max(1.0, seconds) * random.uniform(1.0, 1.5)))


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.TwofoldError)
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    if status == 500:
        return await _defect(request, error)
    headers: dict[str, str] = {}
    if isinstance(error, errors.Overloaded):
        headers["Retry-After"] = retry_after(error.retry_after_seconds)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return problem(request, status, error.code, error.message, headers=headers)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [_described(one) for one in error.errors()]
    return problem(
        request,
        422,
        "invalid_input",
        "; ".join(f"{one['field']}: {one['message']}" for one in found[:3]),
        errors=found[:20],
    )


def _described(error: dict[str, Any]) -> dict[str, str]:
    source, *path = error["loc"] or ("body",)
    place = [str(part) for part in (_known(path) if source == "body" else path)]
    where = ".".join(place) or str(source)
    if error["type"] == "extra_forbidden":
        return {"field": where, "message": "has an unknown field"}
    if error["type"] in ("unstorable_text", "empty_text"):
        return {"field": where, "message": error["msg"]}
    return {"field": where, "message": _SAID.get(error["type"], error["msg"])}


def _known(path: Sequence[str | int]) -> Iterator[str | int]:
    """The way into a body as far as it is ours: the name of an unknown field, or a name in a
    free-form object, is the client's own text and is not sent back."""
    fields = {name for schema in In.__subclasses__() for name in schema.model_fields}
    return takewhile(lambda part: isinstance(part, int) or part in fields, path)


_SAID = {
    "missing": "is required",
    "string_unicode": "is not valid Unicode text",
    "model_attributes_type": "must be a JSON object",
}


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code, title = _HTTP_CODES.get(error.status_code, ("http_error", "Error"))
    if isinstance(error, BadJson):
        code = "bad_json"
    detail = {
        404: "there is nothing at this address",
        405: "this address does not take this method",
        413: "the body is larger than this server takes",
        503: "this server has more to read than it can hold; try again shortly",
    }.get(error.status_code, str(error.detail))
    headers = dict(error.headers) if error.headers else None
    return problem(request, error.status_code, code, detail, title=title, headers=headers)


async def _defect(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected error", exc_info=error, path=request.scope.get("route_path", ""))
    return problem(
        request, 500, "internal", "something went wrong here; the request_id finds it in the log"
    )

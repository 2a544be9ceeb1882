"""The one way in: who asks, may they, is there room? Asked before a body is read.

Deny by default. When it starts, the server lists its routes (`app.state.declared`), each with
what it declares; one that declares nothing stops it from starting. A request that fits no line
of that list gets no further, whatever else is added to the application later.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute, iter_route_contexts
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import errors
from app.api.admission import COSTS, Admission, Cost
from app.api.auth import DECLARATIONS, Declaration, calls_of, let_through, needed, who
from app.api.dependencies import Services
from app.errors import ConfigurationError, Overloaded, TwofoldError


@dataclass(frozen=True, slots=True)
class Declared:
    """One address, and what its route says of who may call it."""

    path: str
    pattern: re.Pattern[str]
    methods: frozenset[str]
    who: Declaration
    costs: frozenset[Cost] = frozenset()


def declared_routes(app: FastAPI) -> list[Declared]:
    """Raises ConfigurationError where one declares nothing."""
    return list(_declared(app.routes))


def _declared(routes: Sequence[BaseRoute]) -> Iterator[Declared]:
    for found in iter_route_contexts(routes):
        route = found.original_route
        if isinstance(route, APIRoute):
            calls = set(calls_of(found.dependant))
            declaration = next((DECLARATIONS[one] for one in DECLARATIONS if one in calls), None)
            if declaration is not None:
                costs = frozenset(COSTS[one] for one in COSTS if one in calls)
                methods = frozenset(found.methods or ())
                path = found.path_format or ""
                yield Declared(path, found.path_regex, methods, declaration, costs)
                continue
        elif isinstance(route, Mount) and getattr(route.app, "open_to_everybody", False):
            yield Declared(
                found.path or "", found.path_regex, frozenset({"GET", "HEAD"}), "everybody"
            )
            continue
        raise ConfigurationError(
            f"{found.path or type(route).__name__} declares no scope; see app/api/auth.py"
        )


def documented(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the scope that each operation needs."""
    document = app.openapi()
    document.setdefault("components", {})["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "An API key"},
        "session": {"type": "apiKey", "in": "cookie", "name": "twofold_session"},
    }
    for declared in app.state.declared:
        for method, operation in document["paths"].get(declared.path, {}).items():
            if method.upper() in declared.methods:
                scope = needed(declared.who, method.upper())
                names = [str(scope)] if scope else []
                operation["security"] = (
                    [] if declared.who == "everybody" else [{"key": names}, {"session": names}]
                )
    return document


class Door:
    def __init__(self, app: ASGIApp, most_waiting_bytes: int) -> None:
        self._app = app
        self._bodies = _Bodies(most_waiting_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:  # there are no WebSockets here
            await send({"type": "websocket.close", "code": 1008, "reason": ""})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        services: Services = scope["app"].state.services
        with ExitStack() as held:
            try:
                await self._enter(request, services, held)
            except (TwofoldError, HTTPException) as error:
                if isinstance(error, Overloaded):
                    services.admission.refused[error.code] += 1
                await (await errors.answer(request, error))(scope, receive, send)
                return
            await self._app(scope, held.enter_context(self._bodies.counted(receive)), send)

    async def _enter(self, request: Request, services: Services, held: ExitStack) -> None:
        admission: Admission = services.admission
        declared = _find(request.app.state.declared, request.scope)
        request.scope["route_path"] = declared.path  # for the log: an address is a stranger's text
        held.enter_context(admission.request(declared.costs))
        principal = None
        if declared.who != "everybody":
            principal = let_through(declared.who, request.method, await who(request, services))
        request.state.principal = principal
        held.enter_context(admission.costs(declared.costs, request, principal))


def _find(routes: Sequence[Declared], scope: Scope) -> Declared:
    """Raises HTTPException 404 or 405."""
    path, method = get_route_path(scope), scope["method"]
    others: set[str] = set()
    for declared in routes:
        if declared.pattern.match(path):
            if method in declared.methods:
                return declared
            others |= declared.methods
    if others:
        raise HTTPException(405, headers={"Allow": ", ".join(sorted(others))})
    raise HTTPException(404)


class _Bodies:
    """Bytes of bodies that this process holds; many large ones at once must not fill it."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0

    @contextmanager
    def counted(self, receive: Receive) -> Iterator[Receive]:
        mine = 0

        async def counting() -> Message:
            nonlocal mine
            message = await receive()
            size = len(message.get("body", b""))
            mine += size
            self._held += size
            if self._held > self._most:
                raise HTTPException(503, headers={"Retry-After": errors.retry_after(1.0)})
            return message

        try:
            yield counting
        finally:
            self._held -= mine

"""Who is asking, and whether they may. Deny by default: a route without a scope does not start."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from itsdangerous import BadSignature, URLSafeTimedSerializer

from app.api.dependencies import App, Services
from app.database import api_keys
from app.database.api_keys import ApiKey, Scope
from app.errors import ConfigurationError, NotAllowed, NotAuthenticated

COOKIE = "twofold_session"
SESSION_SECONDS = 30 * 24 * 3600
PAGE_HEADER = "x-twofold-page"


@dataclass(frozen=True, slots=True)
class Principal:
    owner: str
    """Whose data this is; stands in the WHERE of every query for it."""
    scope: Scope
    name: str
    key_id: str | None = None

    @property
    def is_guest(self) -> bool:
        return self.key_id is None


async def who(request: Request, services: Services) -> Principal | None:
    """By `Authorization: Bearer`, else by the session cookie; None for nobody."""
    header = request.headers.get("authorization")
    if header is not None:
        kind, _, key = header.partition(" ")
        if kind.casefold() != "bearer":
            raise NotAuthenticated("use `Authorization: Bearer <API key>`")
        return await by_key(key.strip(), services)
    cookie = request.cookies.get(COOKIE)
    if cookie is None:
        return None
    if request.method not in ("GET", "HEAD") and PAGE_HEADER not in request.headers:
        # Another site can send our cookie along with a form, but never with this header.
        raise NotAllowed(f"with a session cookie this needs the header {PAGE_HEADER}", code="csrf")
    return await _by_cookie(cookie, services)


async def by_key(key: str, services: Services) -> Principal:
    """Raises NotAuthenticated."""
    found = await services.database.read(lambda c: api_keys.find(c, key, pepper=services.secret))
    if found is None:
        raise NotAuthenticated("this API key is not known, or was revoked")
    return await _principal(found, services)


def new_guest() -> Principal:
    return Principal(f"guest:{uuid4().hex}", Scope.USER, "guest")


def cookie_for(principal: Principal, services: Services) -> str:
    subject = f"key:{principal.key_id}" if principal.key_id else principal.owner
    return _signer(services).dumps(subject)


async def _by_cookie(cookie: str, services: Services) -> Principal | None:
    try:
        subject = _signer(services).loads(cookie, max_age=SESSION_SECONDS)
    except BadSignature:
        return None
    kind, _, key_id = str(subject).partition(":")
    if kind == "guest":
        guest = Principal(str(subject), Scope.USER, "guest")
        return guest if services.settings.guests else None
    found = await services.database.read(lambda c: api_keys.get_living(c, key_id))
    return await _principal(found, services) if found else None


async def _principal(key: ApiKey, services: Services) -> Principal:
    if key.last_used_at is None or datetime.now(UTC) - key.last_used_at > timedelta(minutes=1):
        await services.database.write(lambda c: api_keys.mark_used(c, key.id))
    return Principal(f"key:{key.id}", key.scope, key.name, key.id)


def _signer(services: Services) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(services.secret, salt="twofold-session")


# --- the scopes a route can declare ---


async def user(request: Request, services: App) -> Principal:
    principal = await who(request, services)
    if principal is None:
        raise NotAuthenticated("send an API key, or start a session")
    return principal


async def admin(principal: Annotated[Principal, Depends(user)]) -> Principal:
    if principal.scope is not Scope.ADMIN:
        raise NotAllowed("this needs a key of scope admin")
    return principal


async def everybody() -> None:
    """Declares that a route is open to all."""


User = Annotated[Principal, Depends(user)]
Admin = Annotated[Principal, Depends(admin)]
DeclaredScope = Literal["user", "admin", "everybody"]

_SCOPES: dict[Any, DeclaredScope] = {user: "user", admin: "admin", everybody: "everybody"}


def declared_scopes(router: APIRouter) -> list[tuple[APIRoute, DeclaredScope]]:
    """Each route with its scope. Raises ConfigurationError where one declares none."""
    scopes: list[tuple[APIRoute, DeclaredScope]] = []
    for route in router.routes:
        if isinstance(route, APIRoute):
            declared = [call for call in _calls(route.dependant) if call in _SCOPES]
            if not declared:
                raise ConfigurationError(f"{route.path} declares no scope; see app/api/auth.py")
            scopes.append((route, "admin" if admin in declared else _SCOPES[declared[0]]))
    return scopes


def _calls(dependant: Any) -> Iterator[Any]:
    yield dependant.call
    for part in dependant.dependencies:
        yield from _calls(part)

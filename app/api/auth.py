"""Who is asking, and what they may do.

A route declares who may call it (`User`, `Admin`, `anybody_known`, `everybody`); `door.py` reads
the declarations and lets nobody through who may not pass. Here they are checked once more, where
the route is served: two locks on each door.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import Depends, Request
from itsdangerous import BadSignature, URLSafeTimedSerializer

from app.api.dependencies import Services
from app.api.principal import Principal
from app.database.api_keys import USER, ApiKey, Scope
from app.errors import NotAllowed, NotAuthenticated

GUEST_SECONDS = 30 * 24 * 3600
PAGE_HEADER = "x-twofold-page"
READING = ("GET", "HEAD")


async def who(request: Request, services: Services) -> Principal | None:
    """By `Authorization: Bearer`, else by the session cookie; None for nobody."""
    header = request.headers.get("authorization")
    if header is not None:
        kind, _, key = header.partition(" ")
        if kind.casefold() != "bearer":
            raise NotAuthenticated("use `Authorization: Bearer <API key>`")
        return await by_key(key.strip(), services)
    cookie = request.cookies.get(cookie_name(services))
    if cookie is None:
        return None
    if request.method not in READING and PAGE_HEADER not in request.headers:
        # Another site can send our cookie along with a form, but never with this header.
        raise NotAllowed(f"with a session cookie this needs the header {PAGE_HEADER}", code="csrf")
    return await _by_cookie(cookie, services)


async def by_key(key: str, services: Services) -> Principal:
    """Raises NotAuthenticated."""
    found = await services.keys.of_key(key)
    if found is None:
        raise NotAuthenticated("this API key is not known, has expired, or was revoked")
    return _holder(found)


def new_guest() -> Principal:
    return _guest(f"guest:{uuid4().hex}")


def _guest(owner: str) -> Principal:
    return Principal(owner, USER, "guest")


def _holder(key: ApiKey) -> Principal:
    return Principal(f"key:{key.id}", key.scopes, key.name, key.id)


# --- the pages' cookie ---


def cookie_name(services: Services) -> str:
    """With the prefix, browsers take it over https only, for this host only: neither a
    subdomain nor plain http can put a session of its own in the place of ours."""
    return "__Host-twofold_session" if services.settings.secure_cookies else "twofold_session"


def cookie_for(principal: Principal, session_id: str | None, services: Services) -> str:
    subject = principal.owner if session_id is None else f"key:{session_id}"
    return _signer(services).dumps(subject)


def session_in(request: Request, services: Services) -> str | None:
    """The id of the key's session that this browser has; it may have ended."""
    kind, _, value = _subject(request.cookies.get(cookie_name(services), ""), services)
    return value if kind == "key" else None


async def _by_cookie(cookie: str, services: Services) -> Principal | None:
    kind, _, value = _subject(cookie, services)
    if kind == "guest" and services.settings.guests:
        return _guest(f"guest:{value}")
    if kind == "key":
        found = await services.keys.of_session(value)
        return _holder(found) if found else None
    return None


def _subject(cookie: str, services: Services) -> tuple[str, str, str]:
    try:
        return str(_signer(services).loads(cookie, max_age=GUEST_SECONDS)).partition(":")
    except BadSignature:
        return "", "", ""


def _signer(services: Services) -> URLSafeTimedSerializer:
    # Signs with the last of the list, and takes the signatures of all.
    return URLSafeTimedSerializer(list(reversed(services.secrets)), salt="twofold-session")


# --- who may call a route ---

Declaration = Literal["user", "admin", "anybody_known", "everybody"]


async def user(request: Request) -> Principal:
    """May chat."""
    return _passed("user", request)


async def admin(request: Request) -> Principal:
    """May look at everything of the operator's (GET), or change it (any other method)."""
    return _passed("admin", request)


async def anybody_known(request: Request) -> Principal:
    """Has a key or a session, whatever it is good for."""
    return _passed("anybody_known", request)


async def everybody() -> None:
    """Declares that a route is open to all."""


User = Annotated[Principal, Depends(user)]
Admin = Annotated[Principal, Depends(admin)]
Known = Annotated[Principal, Depends(anybody_known)]

DECLARATIONS: Mapping[Callable[..., Awaitable[Any]], Declaration] = {
    # What asks for more comes first: a route that declares two of them means both.
    admin: "admin",
    user: "user",
    anybody_known: "anybody_known",
    everybody: "everybody",
}


def needed(declaration: Declaration, method: str) -> Scope | None:
    """The scope that a key must have to call a route of this declaration with this method."""
    if declaration == "user":
        return Scope.CHAT
    if declaration == "admin":
        return Scope.ADMIN_READ if method in READING else Scope.ADMIN_WRITE
    return None


def let_through(
    declaration: Declaration, method: str, principal: Principal | None
) -> Principal | None:
    """Raises NotAuthenticated or NotAllowed."""
    if declaration == "everybody":
        return principal
    if principal is None:
        raise NotAuthenticated("send an API key, or start a session")
    scope = needed(declaration, method)
    if scope is not None and scope not in principal.scopes:
        raise NotAllowed(f"this needs a key of scope {scope}")
    return principal


def _passed(declaration: Declaration, request: Request) -> Principal:
    principal: Principal | None = getattr(request.state, "principal", None)
    passed = let_through(declaration, request.method, principal)
    assert passed is not None
    return passed


def calls_of(dependant: Any) -> Iterator[Any]:
    """Everything that a route depends on, at any depth."""
    yield dependant.call
    for part in dependant.dependencies:
        yield from calls_of(part)

"""Sessions of our pages: a cookie that no script can read, for a guest or for a key's holder."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from app.api import admission, auth
from app.api.auth import Known, everybody
from app.api.dependencies import App, In, Out, Services
from app.api.principal import Principal
from app.api.strict_json import StrictRoute
from app.database import api_keys
from app.database.api_keys import Scope
from app.errors import NotAllowed, NotAuthenticated

router = APIRouter(prefix="/v1/session", tags=["session"], route_class=StrictRoute)


class NewSession(In):
    key: Annotated[str, Field(max_length=200)] | None = None
    """An API key; without one this starts a guest's session, where guests are welcome."""


class Session(Out):
    scopes: list[Scope]
    name: str
    guest: bool


@router.post("", dependencies=[Depends(everybody), Depends(admission.signing_in)])
async def start(new: NewSession, request: Request, response: Response, app: App) -> Session:
    """Always a new session: one that somebody else put into this browser is not taken over,
    and one of a key that was here before ends."""
    session_id = None
    if new.key is not None:
        try:
            principal = await auth.by_key(new.key.strip(), app)
        except NotAuthenticated:
            app.admission.sign_in_failed(request)
            raise
        key_id = principal.key_id
        assert key_id is not None
        session_id = await app.database.write(lambda c: api_keys.start_session(c, key_id))
    elif app.settings.guests:
        principal = auth.new_guest()
    else:
        raise NotAllowed("guests are not welcome here; sign in with an API key", code="no_guests")
    await _end(request, app)
    response.set_cookie(
        auth.cookie_name(app),
        auth.cookie_for(principal, session_id, app),
        max_age=auth.GUEST_SECONDS if principal.is_guest else api_keys.SESSION_SECONDS,
        path="/",
        httponly=True,
        samesite="strict",
        secure=_is_secure(request, app),
    )
    return _shown(principal)


@router.get("")
async def show(principal: Known) -> Session:
    return _shown(principal)


@router.delete("", status_code=204, dependencies=[Depends(everybody)])
async def end(request: Request, response: Response, app: App) -> None:
    """A key's session ends for good, also for whoever has a copy of its cookie."""
    await _end(request, app)
    response.delete_cookie(
        auth.cookie_name(app),
        path="/",
        httponly=True,
        samesite="strict",
        secure=_is_secure(request, app),
    )


async def _end(request: Request, app: Services) -> None:
    session_id = auth.session_in(request, app)
    if session_id is not None:
        await app.database.write(lambda c: api_keys.end_session(c, session_id))
        await app.keys.refresh()


def _is_secure(request: Request, app: Services) -> bool:
    """By https, as uvicorn or the proxy it trusts tells; or because the operator says so."""
    return app.settings.secure_cookies or request.url.scheme == "https"


def _shown(principal: Principal) -> Session:
    return Session(scopes=sorted(principal.scopes), name=principal.name, guest=principal.is_guest)

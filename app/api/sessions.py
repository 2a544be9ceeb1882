"""Sessions of our pages: a cookie that no script can read, for a guest or for a key's holder."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from app.api import auth
from app.api.auth import Principal, User, everybody
from app.api.dependencies import App, In, Out
from app.api.strict_json import StrictRoute
from app.database.api_keys import Scope
from app.errors import NotAllowed

router = APIRouter(prefix="/v1/session", tags=["session"], route_class=StrictRoute)


class NewSession(In):
    key: Annotated[str, Field(max_length=200)] | None = None
    """An API key; without one this starts a guest's session, where guests are welcome."""


class Session(Out):
    scope: Scope
    name: str
    guest: bool


@router.post("", dependencies=[Depends(everybody)])
async def start(new: NewSession, request: Request, response: Response, app: App) -> Session:
    if new.key is not None:
        principal = await auth.by_key(new.key.strip(), app)
    elif app.settings.guests:
        principal = auth.new_guest()
    else:
        raise NotAllowed("guests are not welcome here; sign in with an API key", code="no_guests")
    response.set_cookie(
        auth.COOKIE,
        auth.cookie_for(principal, app),
        max_age=auth.SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=app.settings.secure_cookies,
    )
    return _shown(principal)


@router.get("")
async def show(principal: User) -> Session:
    return _shown(principal)


@router.delete("", status_code=204, dependencies=[Depends(everybody)])
async def end(response: Response) -> None:
    response.delete_cookie(auth.COOKIE, httponly=True, samesite="strict")


def _shown(principal: Principal) -> Session:
    return Session(scope=principal.scope, name=principal.name, guest=principal.is_guest)

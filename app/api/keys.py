"""API keys: make, list, revoke. A key is shown once, when it is made."""

from datetime import datetime

from fastapi import APIRouter, Depends

from app.api.auth import admin
from app.api.dependencies import App, Id, In, Out
from app.api.strict_json import ShortText, StrictRoute
from app.database import api_keys
from app.database.api_keys import Scope

router = APIRouter(
    prefix="/admin/keys", tags=["keys"], route_class=StrictRoute, dependencies=[Depends(admin)]
)


class NewKey(In):
    name: ShortText
    scope: Scope = Scope.USER


class Key(Out):
    id: str
    name: str
    scope: Scope
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class KeyOnce(Key):
    key: str
    """The only time it is shown; we keep a hash."""


class KeyList(Out):
    items: list[Key]


@router.get("")
async def index(app: App) -> KeyList:
    found = await app.database.read(api_keys.everything)
    return KeyList(items=[Key.model_validate(one) for one in found])


@router.post("", status_code=201)
async def create(new: NewKey, app: App) -> KeyOnce:
    made, key = await app.database.write(
        lambda c: api_keys.create(c, new.name[:100], new.scope, pepper=app.secret)
    )
    return KeyOnce(**Key.model_validate(made).model_dump(), key=key)


@router.delete("/{key_id}", status_code=204)
async def revoke(key_id: Id, app: App) -> None:
    """Its sessions end with it."""
    await app.database.write(lambda c: api_keys.revoke(c, key_id))

"""API keys: make, list, revoke. A key is shown once, when it is made."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, Field

from app.api.auth import admin
from app.api.dependencies import App, Id, In, Out
from app.api.strict_json import ShortText, StrictRoute
from app.database import api_keys
from app.database.api_keys import ApiKey, Scope
from app.errors import InvalidInput

router = APIRouter(
    prefix="/admin/keys", tags=["keys"], route_class=StrictRoute, dependencies=[Depends(admin)]
)


ScopeName = Literal["chat", "admin:read", "admin:write", "user", "admin"]


class NewKey(In):
    name: ShortText
    scopes: Annotated[tuple[ScopeName, ...], Field(min_length=1, max_length=5)] = ("chat",)
    """`user` stands for chat, `admin` for all; `admin:write` brings `admin:read` along."""
    expires_at: AwareDatetime | None = None
    """None: it lives until it is revoked."""


class Key(Out):
    id: str
    name: str
    scopes: list[Scope]
    prefix: str
    created_at: datetime
    expires_at: datetime | None
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
    return KeyList(items=[_shown(one) for one in found])


@router.post("", status_code=201)
async def create(new: NewKey, app: App) -> KeyOnce:
    scopes = api_keys.scopes_named(new.scopes)
    if new.expires_at is not None and new.expires_at <= datetime.now(UTC):
        raise InvalidInput("expires_at is not in the future")
    made, key = await app.database.write(
        lambda c: api_keys.create(
            c, new.name[:100], scopes, pepper=app.secret, expires_at=new.expires_at
        )
    )
    return KeyOnce(**_shown(made).model_dump(), key=key)


@router.delete("/{key_id}", status_code=204)
async def revoke(key_id: Id, app: App) -> None:
    """Its sessions end with it; other replicas know within a second."""
    await app.database.write(lambda c: api_keys.revoke(c, key_id))
    await app.keys.refresh()


def _shown(key: ApiKey) -> Key:
    return Key(
        id=key.id,
        name=key.name,
        scopes=sorted(key.scopes),
        prefix=key.prefix,
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
    )

"""API keys, stored as a keyed hash: the table alone opens no door."""

import hashlib
import hmac
import secrets
import string
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, insert, or_, select, update

from app.database.tables import api_keys, now
from app.errors import NotFound

_ALPHABET = string.ascii_letters + string.digits
_PREFIX_LENGTH, _SECRET_LENGTH, _CHECKSUM_LENGTH = 8, 32, 6


class Scope(StrEnum):
    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: str
    name: str
    scope: Scope
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


def create(connection: Connection, name: str, scope: Scope, *, pepper: bytes) -> tuple[ApiKey, str]:
    """The row, and the key itself, which cannot be shown again."""
    prefix, secret = _draw(_PREFIX_LENGTH), _draw(_SECRET_LENGTH)
    key = f"tf_{prefix}_{secret}"
    key += _checksum(key)
    row_id = uuid4().hex
    connection.execute(
        insert(api_keys).values(
            id=row_id,
            name=name,
            scope=scope,
            prefix=prefix,
            hash=_hash(key, pepper),
            created_at=now(),
        )
    )
    row = connection.execute(select(api_keys).where(api_keys.c.id == row_id)).one()
    return _from_row(row), key


def find(connection: Connection, key: str, *, pepper: bytes) -> ApiKey | None:
    """The living key; None for anything else."""
    if not looks_like_a_key(key):
        return None
    row = connection.execute(
        select(api_keys).where(
            api_keys.c.prefix == key.split("_")[1], api_keys.c.revoked_at.is_(None)
        )
    ).one_or_none()
    if row is None or not hmac.compare_digest(row.hash, _hash(key, pepper)):
        return None
    return _from_row(row)


def get_living(connection: Connection, key_id: str) -> ApiKey | None:
    row = connection.execute(
        select(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    ).one_or_none()
    return _from_row(row) if row else None


def everything(connection: Connection) -> list[ApiKey]:
    rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at.desc()))
    return [_from_row(row) for row in rows]


def revoke(connection: Connection, key_id: str) -> None:
    revoked = connection.execute(
        update(api_keys)
        .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=now())
    )
    if revoked.rowcount == 0:
        raise NotFound("living API key")


def mark_used(connection: Connection, key_id: str) -> None:
    """At most once a minute: a row must not be written with every request."""
    connection.execute(
        update(api_keys)
        .where(
            api_keys.c.id == key_id,
            or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < now() - 60),
        )
        .values(last_used_at=now())
    )


def looks_like_a_key(key: str) -> bool:
    """Right shape and checksum: most typing errors never reach the database."""
    parts = key.split("_")
    return (
        len(parts) == 3
        and parts[0] == "tf"
        and len(parts[1]) == _PREFIX_LENGTH
        and len(parts[2]) == _SECRET_LENGTH + _CHECKSUM_LENGTH
        and key.isascii()
        and key.isprintable()
        and hmac.compare_digest(_checksum(key[:-_CHECKSUM_LENGTH]), key[-_CHECKSUM_LENGTH:])
    )


def _draw(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    value = zlib.crc32(text.encode())
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        value, digit = divmod(value, len(_ALPHABET))
        digits += _ALPHABET[digit]
    return digits


def _hash(key: str, pepper: bytes) -> str:
    return hmac.new(pepper, key.encode(), hashlib.sha256).hexdigest()


def _from_row(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        scope=Scope(row.scope),
        prefix=row.prefix,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        last_used_at=datetime.fromtimestamp(row.last_used_at, UTC) if row.last_used_at else None,
        revoked_at=datetime.fromtimestamp(row.revoked_at, UTC) if row.revoked_at else None,
    )

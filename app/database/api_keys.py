"""API keys, stored as a keyed hash: the table alone opens no door.

Whoever loses a right (a revoked key, an ended session) raises `access.revision` in the same
commit: replicas look at that one number, and forget what they know when it has risen.
"""

import hashlib
import hmac
import secrets
import string
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, Row, bindparam, delete, insert, or_, select, update

from app.database.tables import access, api_keys, key_sessions, now
from app.errors import ConfigurationError, InvalidInput, NotFound

_ALPHABET = string.ascii_letters + string.digits
_PREFIX_LENGTH, _SECRET_LENGTH, _CHECKSUM_LENGTH = 8, 32, 6

SESSION_SECONDS = 7 * 24 * 3600
MOST_SESSIONS = 50
"""Of one key at once; one more ends the oldest."""


class Scope(StrEnum):
    CHAT = "chat"
    ADMIN_READ = "admin:read"
    ADMIN_WRITE = "admin:write"


USER: Final = frozenset({Scope.CHAT})
ADMIN: Final = frozenset(Scope)

ALIASES: Final[Mapping[str, frozenset[Scope]]] = {"user": USER, "admin": ADMIN}
"""Short names for the sets of scopes that most keys have."""


def scopes_named(names: Iterable[str]) -> frozenset[Scope]:
    """Scopes by their names or aliases. Whoever may change things may look at them.

    Raises InvalidInput."""
    found: set[Scope] = set()
    for name in names:
        if name in ALIASES:
            found |= ALIASES[name]
        elif name in list(Scope):
            found.add(Scope(name))
        else:
            raise InvalidInput(f"there is no such scope; choose from {', '.join(SCOPE_NAMES)}")
    if not found:
        raise InvalidInput("a key needs at least one scope")
    return frozenset(found | {Scope.ADMIN_READ} if Scope.ADMIN_WRITE in found else found)


SCOPE_NAMES: Final = (*(str(scope) for scope in Scope), *ALIASES)


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: str
    name: str
    scopes: frozenset[Scope]
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key that is not revoked, and what proves that somebody holds it."""

    key: ApiKey
    hash: str
    pepper: str | None
    ends_at: float | None
    """Seconds since 1970, by the database's clock: the key's expiry or, if that comes first,
    its session's. None: never."""


def create(
    connection: Connection,
    name: str,
    scopes: Collection[Scope],
    *,
    pepper: bytes,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """The row, and the key itself, which cannot be shown again."""
    prefix, secret = _draw(_PREFIX_LENGTH), _draw(_SECRET_LENGTH)
    key = f"tf_{prefix}_{secret}"
    key += _checksum(key)
    row_id = uuid4().hex
    connection.execute(
        insert(api_keys).values(
            id=row_id,
            name=name,
            scopes=" ".join(sorted(scopes_named(scopes))),
            prefix=prefix,
            hash=hash_of(key, pepper),
            pepper=mark_of(pepper),
            created_at=now(),
            expires_at=expires_at.timestamp() if expires_at else None,
        )
    )
    row = connection.execute(select(api_keys).where(api_keys.c.id == row_id)).one()
    return _from_row(row), key


def everything(connection: Connection) -> list[ApiKey]:
    rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at.desc()))
    return [_from_row(row) for row in rows]


def revoke(connection: Connection, key_id: str) -> None:
    """Its sessions end with it."""
    revoked = connection.execute(
        update(api_keys)
        .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=now())
    )
    if revoked.rowcount == 0:
        raise NotFound("living API key")
    connection.execute(delete(key_sessions).where(key_sessions.c.key_id == key_id))
    _tell_replicas(connection)


def mark_used(connection: Connection, key_ids: Collection[str]) -> None:
    """At most once a minute: a row must not be written with every request."""
    connection.execute(
        update(api_keys)
        .where(
            api_keys.c.id.in_(key_ids),
            or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < now() - 60),
        )
        .values(last_used_at=now())
    )


# --- what replicas remember ---


def revision(connection: Connection) -> tuple[int, float]:
    """And what time it is by the database's clock."""
    row = connection.execute(select(access.c.revision, now())).one()
    return row[0], row[1]


def living(
    connection: Connection, prefixes: Collection[str], session_ids: Collection[str]
) -> tuple[dict[str, StoredKey], dict[str, StoredKey]]:
    """What there is of these: keys by prefix, and the keys behind sessions. A key that has
    expired is among them: only its reader knows what time it is then."""
    of_prefixes: dict[str, StoredKey] = {}
    of_sessions: dict[str, StoredKey] = {}
    if prefixes:
        rows = connection.execute(
            select(api_keys).where(api_keys.c.prefix.in_(prefixes), api_keys.c.revoked_at.is_(None))
        )
        of_prefixes = {row.prefix: _stored(row, row.expires_at) for row in rows}
    if session_ids:
        rows = connection.execute(
            select(
                api_keys,
                key_sessions.c.id.label("session_id"),
                key_sessions.c.expires_at.label("session_ends_at"),
            )
            .join_from(key_sessions, api_keys)
            .where(key_sessions.c.id.in_(session_ids), api_keys.c.revoked_at.is_(None))
        )
        of_sessions = {
            row.session_id: _stored(
                row, min(row.session_ends_at, row.expires_at or row.session_ends_at)
            )
            for row in rows
        }
    return of_prefixes, of_sessions


def start_session(connection: Connection, key_id: str) -> str:
    """The id of a session that lasts SESSION_SECONDS, unless somebody ends it before."""
    session_id = uuid4().hex
    connection.execute(delete(key_sessions).where(key_sessions.c.expires_at < now()))
    oldest = connection.scalars(
        select(key_sessions.c.id)
        .where(key_sessions.c.key_id == key_id)
        .order_by(key_sessions.c.created_at.desc(), key_sessions.c.id)
        .offset(MOST_SESSIONS - 1)
    ).all()
    if oldest:
        connection.execute(delete(key_sessions).where(key_sessions.c.id.in_(oldest)))
        _tell_replicas(connection)
    connection.execute(
        insert(key_sessions).values(
            id=session_id, key_id=key_id, created_at=now(), expires_at=now() + SESSION_SECONDS
        )
    )
    return session_id


def end_session(connection: Connection, session_id: str) -> None:
    """Does nothing where it has ended already."""
    ended = connection.execute(delete(key_sessions).where(key_sessions.c.id == session_id))
    if ended.rowcount:
        _tell_replicas(connection)


def _tell_replicas(connection: Connection) -> None:
    connection.execute(update(access).values(revision=access.c.revision + 1))


# --- the pepper ---


def check_pepper(connection: Connection, peppers: Sequence[bytes]) -> None:
    """All servers of one database need the same secret, or each would refuse the keys that the
    others made. The first one leaves a mark of its own; `peppers` begins with the present one.

    Raises ConfigurationError."""
    marks = [mark_of(pepper) for pepper in peppers]
    known = connection.scalar(select(access.c.pepper).with_for_update())
    if known is not None and known not in marks:
        raise ConfigurationError(
            "this server's secret is not the one that the database's keys were made with; "
            "set TWOFOLD_SECRET to the same on every server, or, when the secret is lost, "
            "run `twofold keys start-over`, which ends every key"
        )
    if known != marks[0]:
        connection.execute(update(access).values(pepper=marks[0]))


def start_over(connection: Connection, pepper: bytes) -> int:
    """For a secret that is lost or known to strangers: no key and no session of old lives on.
    Returns how many keys it revoked."""
    revoked = connection.execute(
        update(api_keys).where(api_keys.c.revoked_at.is_(None)).values(revoked_at=now())
    )
    connection.execute(delete(key_sessions))
    connection.execute(update(access).values(pepper=mark_of(pepper)))
    _tell_replicas(connection)
    return revoked.rowcount


def rehash(connection: Connection, hashes: Mapping[str, str], pepper: bytes) -> None:
    """By key id: keys that were used while the secret is being changed go over to the new one."""
    connection.execute(
        update(api_keys)
        .where(api_keys.c.id == bindparam("key_id"))
        .values(hash=bindparam("new_hash"), pepper=mark_of(pepper)),
        [{"key_id": key_id, "new_hash": new} for key_id, new in hashes.items()],
    )


def under_another_pepper(connection: Connection, pepper: bytes) -> set[str]:
    """Ids of living keys that would end if the other secret were dropped now."""
    return set(
        connection.scalars(
            select(api_keys.c.id).where(
                api_keys.c.revoked_at.is_(None),
                or_(api_keys.c.pepper.is_(None), api_keys.c.pepper != mark_of(pepper)),
            )
        )
    )


def mark_of(pepper: bytes) -> str:
    """Tells two secrets apart, and says nothing else of either."""
    return hmac.new(pepper, b"twofold: which pepper is this?", hashlib.sha256).hexdigest()[:16]


# --- the key itself ---


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


def prefix_of(key: str) -> str:
    """Of a text that looks like a key."""
    return key.split("_")[1]


def hash_of(key: str, pepper: bytes) -> str:
    return hmac.new(pepper, key.encode(), hashlib.sha256).hexdigest()


def _draw(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    value = zlib.crc32(text.encode())
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        value, digit = divmod(value, len(_ALPHABET))
        digits += _ALPHABET[digit]
    return digits


def _stored(row: Row[Any], ends_at: float | None) -> StoredKey:
    return StoredKey(_from_row(row), row.hash, row.pepper, ends_at)


def _from_row(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=frozenset(map(Scope, row.scopes.split())),
        prefix=row.prefix,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        expires_at=_time(row.expires_at),
        last_used_at=_time(row.last_used_at),
        revoked_at=_time(row.revoked_at),
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)

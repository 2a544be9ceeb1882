"""Who holds which key, known to this replica without asking the database at each request.

One small query every POLL_SECONDS sees whether anybody, anywhere, has lost a right; then all
that is remembered is forgotten, and read again by whoever is next. What is not remembered is
looked up, and all who ask at the same moment share a query: a flood of wrong keys costs a few
queries a second and no memory.
"""

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import Connection

from app.database import api_keys
from app.database.api_keys import ApiKey, StoredKey
from app.database.database import Database
from app.errors import Overloaded, TwofoldError, Unavailable

POLL_SECONDS = 0.4
MOST_STALE_SECONDS = 3.0
"""A database that does not answer for longer: we do not know who may do what, so nobody may."""
NOTE_USE_SECONDS = 60.0
MOST_KNOWN = 10_000
MOST_WRONG = 2_000
MOST_LOOKUPS = 200
"""Different keys that may wait for the next query; whoever comes then is told to come again."""
LOOKUP_PAUSE_SECONDS = 0.02

_NO_HASH: Final = "0" * 64

K = TypeVar("K")
V = TypeVar("V")

log = structlog.get_logger(__name__)

_Name = tuple[str, str]
"""("prefix", …) or ("session", …): what a stored key is found by."""


@dataclass(slots=True)
class _Known:
    stored: StoredKey
    noted_at: float
    """When we last told the database that it is used (monotonic)."""


@dataclass(slots=True)
class _Looking:
    found: "asyncio.Future[_Known | None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class KeyRing:
    """`peppers`: the present secret, and perhaps the one it takes the place of."""

    def __init__(self, database: Database, peppers: Sequence[bytes]) -> None:
        self._database = database
        self._peppers = tuple(peppers)
        self._revision = -1
        self._checked_at = float("-inf")
        self._ahead = 0.0
        """The database's clock minus ours (monotonic)."""
        self._known: OrderedDict[_Name, _Known] = OrderedDict()
        self._wrong: OrderedDict[str, None] = OrderedDict()
        """Digests of keys that were looked up in vain. A key that is made later is another one:
        they are drawn at random."""
        self._asked: dict[_Name, _Looking] = {}
        self._looking_up: asyncio.Task[None] | None = None
        self._checking: asyncio.Task[None] | None = None
        self._used: set[str] = set()
        self._moved: dict[str, str] = {}
        """Key id → its hash under the present secret."""
        self._beats: list[asyncio.Task[None]] = []
        # Not the database's reading threads: slow readers must not delay `refresh`. Two, for one
        # may hang on a connection that went away.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="key-ring")

    async def start(self) -> None:
        await self.refresh()
        # Two tasks: a slow commit must not keep us from seeing who lost a right.
        self._beats = [
            asyncio.create_task(self._regularly(self.refresh)),
            asyncio.create_task(self._regularly(self._write_down)),
        ]

    async def close(self) -> None:
        """Afterwards nothing of it reads any more: the database may be closed."""
        for task in (*self._beats, self._looking_up, self._checking):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, TwofoldError):
                    await task
        with suppress(TwofoldError):
            await self._write_down()
        # A task that is cancelled leaves its thread running.
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def of_key(self, key: str) -> ApiKey | None:
        """The living key that this text is; None for anything else. A right prefix with a wrong
        secret takes the same way, and so the same time, as a prefix that nobody has."""
        if not api_keys.looks_like_a_key(key):
            return None
        await self._be_fresh()
        digests = [api_keys.hash_of(key, pepper) for pepper in self._peppers]
        name = ("prefix", api_keys.prefix_of(key))
        known = self._known.get(name)
        if known is None or not _proves(digests, known.stored.hash):
            if digests[0] in self._wrong:
                return None
            known = await self._look_up(name)
            proved = _proves(digests, known.stored.hash if known else _NO_HASH)
            if known is None or not proved:
                _remember(self._wrong, digests[0], None, most=MOST_WRONG)
                return None
        if not hmac.compare_digest(known.stored.hash, digests[0]):
            self._moved[known.stored.key.id] = digests[0]
        return self._used_now(name, known)

    async def of_session(self, session_id: str) -> ApiKey | None:
        """The key behind a session that nobody has ended. The id must come from a cookie that
        we signed: nobody else can make us look."""
        await self._be_fresh()
        name = ("session", session_id)
        known = self._known.get(name) or await self._look_up(name)
        return self._used_now(name, known) if known else None

    async def refresh(self) -> None:
        """Sees what has changed up to now, by us or by another replica."""
        revision, database_time = await asyncio.get_running_loop().run_in_executor(
            self._threads, self._database.read_now, api_keys.revision
        )
        now = time.monotonic()
        self._ahead = database_time - now
        if revision != self._revision:
            self._revision = revision
            self._known.clear()
            self._wrong.clear()
        self._checked_at = now

    # --- inside ---

    def _used_now(self, name: _Name, known: _Known) -> ApiKey | None:
        now = time.monotonic()
        if known.stored.ends_at is not None and known.stored.ends_at <= now + self._ahead:
            return None
        if name in self._known:
            self._known.move_to_end(name)
        if now - known.noted_at > NOTE_USE_SECONDS:
            known.noted_at = now
            self._used.add(known.stored.key.id)
        return known.stored.key

    async def _be_fresh(self) -> None:
        """A process that was stopped and woke up knows things of yesterday: it looks first."""
        if time.monotonic() - self._checked_at <= MOST_STALE_SECONDS:
            return
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self.refresh())
            self._checking.add_done_callback(_observe)
        try:
            async with asyncio.timeout(MOST_STALE_SECONDS):
                await asyncio.shield(self._checking)
        except (TimeoutError, TwofoldError) as error:
            raise Unavailable("the database does not answer, so no key can be checked") from error

    async def _look_up(self, name: _Name) -> _Known | None:
        looking = self._asked.get(name)
        if looking is None:
            if len(self._asked) >= MOST_LOOKUPS:
                raise Overloaded("too many unknown keys are being looked up; try again shortly")
            looking = self._asked[name] = _Looking()
            looking.found.add_done_callback(_observe)
            if self._looking_up is None or self._looking_up.done():
                self._looking_up = asyncio.create_task(self._look_all_up())
        return await asyncio.shield(looking.found)

    async def _look_all_up(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                found = await self._found(list(asked))
            except Exception as error:
                for looking in asked.values():
                    looking.found.set_exception(error)
            else:
                for name, looking in asked.items():
                    looking.found.set_result(found.get(name))
            await asyncio.sleep(LOOKUP_PAUSE_SECONDS)

    async def _found(self, names: Sequence[_Name]) -> dict[_Name, _Known]:
        prefixes = [value for kind, value in names if kind == "prefix"]
        sessions = [value for kind, value in names if kind == "session"]

        def read(
            connection: Connection,
        ) -> tuple[int, tuple[dict[str, StoredKey], dict[str, StoredKey]]]:
            # The revision first: what is read after it is at least as new.
            seen, _ = api_keys.revision(connection)
            return seen, api_keys.living(connection, prefixes, sessions)

        revision, (of_prefixes, of_sessions) = await self._database.read(read)
        found = {
            (kind, name): _Known(stored, self._last_noted(stored.key))
            for kind, all_stored in (("prefix", of_prefixes), ("session", of_sessions))
            for name, stored in all_stored.items()
        }
        if revision >= self._revision:  # else somebody lost a right while we were reading
            for one, known in found.items():
                _remember(self._known, one, known, most=MOST_KNOWN)
        return found

    def _last_noted(self, key: ApiKey) -> float:
        if key.last_used_at is None:
            return float("-inf")
        return key.last_used_at.timestamp() - self._ahead

    async def _regularly(self, beat: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await beat()
            except TwofoldError as error:
                log.warning("cannot follow changes of keys", error=error.code)
            except Exception:  # a defect of ours; without these looks nobody would be let in
                log.exception("cannot follow changes of keys")

    async def _write_down(self) -> None:
        """Which keys were used, and their hashes under the present secret."""
        if used := set(self._used):
            await self._database.write(lambda c: api_keys.mark_used(c, used))
            self._used -= used
        if moved := dict(self._moved):
            await self._database.write(lambda c: api_keys.rehash(c, moved, self._peppers[0]))
            for key_id in moved:
                self._moved.pop(key_id, None)


def _proves(digests: Sequence[str], stored: str) -> bool:
    """Compares with every digest, whichever it is that fits."""
    return sum(hmac.compare_digest(stored, digest) for digest in digests) > 0


def _remember(into: OrderedDict[K, V], key: K, value: V, *, most: int) -> None:
    into[key] = value
    into.move_to_end(key)
    while len(into) > most:
        into.popitem(last=False)


def _observe(done: "asyncio.Future[Any]") -> None:
    """Whoever waited may be gone; asyncio must not complain that nobody heard of the error."""
    if not done.cancelled():
        done.exception()

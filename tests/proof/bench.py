"""What the rows of the proof share: databases, servers, and people who talk to them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from app.database import api_keys, intents, model_versions
from app.database.api_keys import ADMIN, USER
from app.database.database import Database
from app.database.migration import migrate
from tests.postgresql import PostgreSQL
from tests.proof.checks import Finding, compare, compare_api, read_rows
from tests.proof.fleet import Fleet, Process
from tests.proof.load import Doors, Truth
from tests.proof.plan import Plan
from tests.proof.server import SECRET
from tests.proof.stand_ins import GREETINGS

Kind = Literal["sqlite", "postgresql"]
OnProgress = Callable[[int, int, str], None]
"""(done, of, what is being done)"""


@dataclass
class Result:
    """A row of the table."""

    row: str
    database: str
    done: str
    """What was done, with how much of it."""
    counts: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    """The promises that did not hold."""
    skipped: str = ""
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        if self.skipped:
            return "skipped"
        return "broken" if self.broken else "kept"

    def blame(self, findings: list[Finding], most: int = 5) -> None:
        kinds = dict.fromkeys(one.kind for one in findings)
        for kind in kinds:
            details = [one.detail for one in findings if one.kind == kind]
            self.broken += [f"{kind}: {one}" for one in details[:most]]
            if len(details) > most:
                self.broken.append(f"{kind}: and {len(details) - most} more")

    def require(self, holds: bool, promise: str) -> None:
        if not holds:
            self.broken.append(promise)


@dataclass
class Bench:
    folder: Path
    fleet: Fleet
    seed: int
    postgresql: PostgreSQL | None

    def place(self, kind: Kind) -> "Place":
        """A fresh database with keys, an intent, examples and a live model version."""
        place = Place(self, kind)
        database = Database(place.url)
        try:
            database.write_now(migrate)
            place.keys = database.write_now(_furnish)
        finally:
            database.close()
        return place


_numbers = iter(range(10**9))


@dataclass
class Place:
    """One database, and the servers on it."""

    bench: Bench
    kind: Kind
    keys: Mapping[str, str] = field(default_factory=dict)
    truth: Truth = field(default_factory=Truth)

    def __post_init__(self) -> None:
        self.data_dir = self.bench.folder / f"place-{next(_numbers)}"
        self.data_dir.mkdir()
        if self.kind == "sqlite":
            self.url = f"sqlite:///{self.data_dir / 'twofold.db'}"
        else:
            assert self.bench.postgresql is not None
            self.url = self.bench.postgresql.fresh()

    def doors(self, *places: int, head_seconds: float = 30.0) -> Doors:
        users = {name: key for name, key in self.keys.items() if name != "admin"}
        ports = [self.bench.fleet.ports[one] for one in places or (0,)]
        return Doors(ports, users, self.keys["admin"], head_seconds)

    def plan(self, **options: Any) -> Plan:
        return Plan(self.url, str(self.data_dir), **options)

    async def start(self, **options: Any) -> Process:
        return await self.bench.fleet.start(self.plan(**options))

    @asynccontextmanager
    async def serving(self, **options: Any) -> AsyncGenerator[Process]:
        process = await self.start(**options)
        try:
            await process.until_started()
            yield process
        finally:
            await process.end()

    async def findings(self, server_options: Mapping[str, Any] | None = None) -> list[Finding]:
        """Of a database that nobody writes to any more."""
        rows = await asyncio.to_thread(read_rows, self.url)
        found = compare(self.truth, rows)
        async with self.serving(**(server_options or {})):
            found += await compare_api(self.doors(0), self.truth, rows["turns"])
        return found


def _furnish(connection: Any) -> dict[str, str]:
    keys: dict[str, str] = {}
    pepper = SECRET.encode()
    people = [(f"user {number}", USER) for number in range(8)]
    for name, scopes in (*people, ("operator", ADMIN)):
        made, key = api_keys.create(connection, name, scopes, pepper=pepper)
        keys["admin" if scopes is ADMIN else made.id] = key
    intents.create(
        connection, "greet", title="Greet", replies=list(GREETINGS), example_texts=["hello", "hi"]
    )
    number = model_versions.add(
        connection,
        b"stands in for a network",
        data_hash="0" * 64,
        intents=1,
        examples=2,
        evaluation={"accuracy": 1.0},
        training_job_id=None,
    )
    # A version that no job made would look like one that a job has left behind.
    model_versions.promote(connection, number, by="proof")
    return keys

"""Names the moments of a server's work, from outside: the product knows nothing of them.

The product's functions are wrapped where they stand. A function that is not there any more is
an error, and a point that no process ever passes makes the proof fail: neither goes unseen.
"""

import asyncio
import functools
import os
import signal
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.sql import ClauseElement, visitors

from app import training_runner
from app.database import accepting, conversations, leases, model_versions, training_jobs, turns
from app.live import LiveAssistant
from tests.proof.plan import Kill

Tell = Callable[[Mapping[str, Any]], None]

# Operation: (module, function, is there anything to commit?)
OPERATIONS: Mapping[str, tuple[Any, str, Callable[[Any], bool]]] = {
    "create conversation": (conversations, "create", lambda _: True),
    "accept": (accepting, "accept", lambda turn: not turn.replayed),
    "begin": (turns, "begin", lambda turn: turn is not None),
    "append": (turns, "grow", lambda _: True),
    "finish": (turns, "finish", lambda _: True),
    "cancel": (turns, "cancel", lambda _: True),
    "adopt": (leases, "adopt_orphans", bool),
    "create job": (training_jobs, "create", lambda _: True),
    "claim job": (training_jobs, "claim", lambda job: job is not None),
    "report job": (training_jobs, "report", lambda _: True),
    "close job": (training_jobs, "close", lambda _: True),
    "promote": (model_versions, "promote", lambda _: True),
}

TURN_POINTS: Mapping[str, int] = {
    # Point: at most this passage. A server that lives longer is killed less often.
    "request: received": 6,
    "utterance: read": 6,
    "accept: number drawn, no row yet": 6,
    "accept: before commit": 6,
    "accept: after commit": 6,
    "reply: sent whole": 4,
    "stream: accepted sent": 4,
    "stream: delta sent": 20,
    "stream: done sent": 3,
    "begin: before commit": 2,
    "begin: after commit": 2,
    "generator: asked": 5,
    "generator: first piece": 5,
    "generator: last piece": 4,
    "append: before commit": 4,
    "append: after commit": 4,
    "finish: before commit": 4,
    "finish: after commit": 4,
    "cancel: before commit": 1,
    "cancel: after commit": 1,
    "adopt: before commit": 1,
    "adopt: after commit": 1,
    "create conversation: before commit": 1,
    "create conversation: after commit": 1,
}
TRAINING_POINTS: Mapping[str, int] = {
    "create job: before commit": 1,
    "create job: after commit": 1,
    "claim job: before commit": 1,
    "claim job: after commit": 1,
    "training: child started": 1,
    "report job: before commit": 1,
    "report job: after commit": 1,
    "model version: row there, job still open": 1,
    "close job: before commit": 1,
    "close job: after commit": 1,
}
PROMOTION_POINTS: Mapping[str, int] = {
    "promotion: version tried out": 2,
    "promote: before commit": 2,
    "promote: after commit": 2,
    "promotion: switched": 2,
    "promotion: answered": 2,
}
ALL_POINTS = {**TURN_POINTS, **TRAINING_POINTS, **PROMOTION_POINTS}


class Points:
    """Counts the passages of the one point that ends this process."""

    def __init__(self, kill: Kill | None, tell: Tell) -> None:
        self._kill = kill
        self._tell = tell
        self._passages = 0
        self._counting = threading.Lock()

    async def left(self, point: str) -> None:
        """`passed`, once what was handed to the socket has gone out: the loop writes later."""
        if self._kill is not None and point == self._kill.point:
            await asyncio.sleep(0.002)
        self.passed(point)

    def passed(self, point: str) -> None:
        if self._kill is None or point != self._kill.point:
            return
        with self._counting:
            self._passages += 1
            if self._passages == self._kill.passage:
                self._tell({"event": "killed", "point": point})
                os.kill(os.getpid(), signal.SIGKILL)


class Transactions(threading.local):
    """Of each thread: the operation that runs, and those that wait for their commit."""

    def __init__(self) -> None:
        self.running: str | None = None
        self.uncommitted: list[str] = []

    @contextmanager
    def run(self, operation: str) -> Iterator[None]:
        before, self.running = self.running, operation
        try:
            yield
        finally:
            self.running = before


def install(points: Points, transactions: Transactions, statements: "Statements") -> None:
    for name, (module, function, writes) in OPERATIONS.items():
        wrap(module, function, functools.partial(_operation, name, writes, transactions))
    wrap(DefaultDialect, "do_commit", functools.partial(_commit, points, transactions))
    wrap(DefaultDialect, "do_rollback", functools.partial(_rollback, transactions))
    wrap(model_versions, "add", functools.partial(_after, points, _ROW_OF_VERSION))
    wrap(LiveAssistant, "read", functools.partial(_after_async, points, "utterance: read"))
    tried, switched = "promotion: version tried out", "promotion: switched"
    wrap(LiveAssistant, "try_out", functools.partial(_after_async, points, tried))
    wrap(LiveAssistant, "refresh", functools.partial(_after_async, points, switched))
    wrap(training_runner, "_start", functools.partial(_after_async, points, _CHILD_STARTED))

    def _before(statement: str) -> str:
        if transactions.running == "accept" and statement.startswith("INSERT INTO turns"):
            points.passed("accept: number drawn, no row yet")
        return statement

    statements.before.append(_before)


_ROW_OF_VERSION = "model version: row there, job still open"
_CHILD_STARTED = "training: child started"


def wrap(owner: Any, name: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    if not hasattr(owner, name):
        raise LookupError(
            f"{owner.__name__}.{name} is gone: tell tests/proof/points.py its new name"
        )
    setattr(owner, name, around(getattr(owner, name)))


def replace_constant(module: Any, name: str, value: float) -> None:
    if not isinstance(getattr(module, name, None), float):
        raise LookupError(f"{module.__name__}.{name} is gone: tell tests/proof its new name")
    setattr(module, name, value)


def replace_in_statements(module: Any, old: float, new: float) -> None:
    """Statements that were built when the module was imported have taken its constants along."""

    def rebind(parameter: Any) -> None:
        if parameter.value == old:
            parameter.value = new

    for one in list(vars(module).values()):
        if isinstance(one, ClauseElement):
            visitors.traverse(one, {}, {"bindparam": rebind})
        elif type(one).__name__ == "Prepared":
            for _, constants, _ in one._ready.values():
                constants.update({name: new for name, value in constants.items() if value == old})


def _operation(
    name: str,
    writes: Callable[[Any], bool],
    transactions: Transactions,
    operation: Callable[..., Any],
) -> Callable[..., Any]:
    @functools.wraps(operation)
    def observed(*args: Any, **kwargs: Any) -> Any:
        with transactions.run(name):
            result = operation(*args, **kwargs)
        if writes(result):
            transactions.uncommitted.append(name)
        return result

    return observed


def _commit(
    points: Points, transactions: Transactions, commit: Callable[..., Any]
) -> Callable[..., Any]:
    def observed(*args: Any) -> None:
        names = list(dict.fromkeys(transactions.uncommitted))
        transactions.uncommitted.clear()
        for name in names:
            points.passed(f"{name}: before commit")
        commit(*args)
        for name in names:
            points.passed(f"{name}: after commit")

    return observed


def _rollback(transactions: Transactions, rollback: Callable[..., Any]) -> Callable[..., Any]:
    def observed(*args: Any) -> None:
        transactions.uncommitted.clear()
        rollback(*args)

    return observed


def _after(points: Points, point: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def observed(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        points.passed(point)
        return result

    return observed


def _after_async(
    points: Points, point: str, function: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(function)
    async def observed(*args: Any, **kwargs: Any) -> Any:
        result = await function(*args, **kwargs)
        points.passed(point)
        return result

    return observed


class Statements:
    """What hears of each statement at the driver itself, below everything that is ours."""

    def __init__(self) -> None:
        self.before: list[Callable[[str], str]] = []
        """May change the statement, or raise what the driver would raise."""
        self.failed: list[Callable[[Exception], None]] = []

    def listen(self) -> None:
        """To all connections that are opened from now on."""

        @event.listens_for(Engine, "do_connect")
        def _connect(dialect: Any, _record: Any, _args: Any, options: dict[str, Any]) -> None:
            if dialect.name == "sqlite":
                options["factory"] = self._sqlite_connection()
            else:
                options["cursor_factory"] = self._observed(psycopg.Cursor)

    def _sqlite_connection(self) -> type[sqlite3.Connection]:
        cursor_type = self._observed(sqlite3.Cursor)

        class ObservedConnection(sqlite3.Connection):
            def cursor(self, factory: Any = cursor_type) -> Any:
                return super().cursor(factory)

        return ObservedConnection

    def _observed(self, cursor_type: Any) -> Any:
        heard = self

        class ObservedCursor(cursor_type):  # type: ignore[misc]
            def execute(self, statement: Any, *args: Any, **options: Any) -> Any:
                return heard._run(super().execute, statement, *args, **options)

            def executemany(self, statement: Any, *args: Any, **options: Any) -> Any:
                return heard._run(super().executemany, statement, *args, **options)

        return ObservedCursor

    def _run(self, execute: Callable[..., Any], statement: Any, *args: Any, **options: Any) -> Any:
        try:
            if isinstance(statement, str):
                for hear in self.before:
                    statement = hear(statement)
            return execute(statement, *args, **options)
        except Exception as error:
            for hear_failure in self.failed:
                hear_failure(error)
            raise


class ObservedResponses:
    """An ASGI application around the server's: passes the points of what leaves the process."""

    def __init__(self, app: Any, points: Points) -> None:
        self._app = app
        self._points = points

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "GET"):
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        posts_turn = scope["method"] == "POST" and path.endswith("/turns")
        if posts_turn:
            self._points.passed("request: received")
        streams = False

        async def observed(message: Any) -> None:
            nonlocal streams
            await send(message)
            if message["type"] == "http.response.start":
                kinds = [value for name, value in message["headers"] if name == b"content-type"]
                streams = any(kind.startswith(b"text/event-stream") for kind in kinds)
            elif streams:
                for event_name in ("accepted", "delta", "done"):
                    if f"event: {event_name}\n".encode() in message.get("body", b""):
                        await self._points.left(f"stream: {event_name} sent")
            elif not message.get("more_body"):
                if posts_turn:
                    await self._points.left("reply: sent whole")
                elif path.endswith("/promote"):
                    await self._points.left("promotion: answered")

        await self._app(scope, receive, observed)

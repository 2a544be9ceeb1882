"""What turns took, in total and one by one. Nothing that anybody said is read here."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, Row, case, func, select, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import Integer

from app.database import cursor
from app.database.tables import turns
from app.dialogue.cost import PAID, Effort
from app.dialogue.routing import Route
from app.dialogue.turn import OVER_BUDGET, TurnStatus
from generator.interface import TokensBy, Usage


@dataclass(frozen=True, slots=True)
class Span:
    """A time, its end left out; UTC seconds since 1970."""

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over turns; `…_turns` count those that what is named alike was measured for."""

    turns: int = 0
    failed: int = 0
    unmeasured: int = 0
    """A generator was asked that does not tell what it took, or nothing came of it."""
    estimated: int = 0
    """Their engine gave no count of its tokens."""
    over_budget: int = 0
    """Nothing was generated for them, as the day's budget was spent."""
    classify_cpu_ms: float = 0.0
    generator_cpu_ms: float = 0.0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    paid_prompt_tokens: int = 0
    """Of engines elsewhere, as the reply's."""
    paid_reply_tokens: int = 0
    classify_ms: float = 0.0
    classify_turns: int = 0
    search_ms: float = 0.0
    search_turns: int = 0
    first_piece_ms: float = 0.0
    first_piece_turns: int = 0
    total_ms: float = 0.0
    total_turns: int = 0

    def __add__(self, other: Self) -> Self:
        names = [one.name for one in fields(self)]
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in names))

    @property
    def effort(self) -> Effort:
        cpu_seconds = (self.classify_cpu_ms + self.generator_cpu_ms) / 1000
        return Effort(cpu_seconds, self.paid_prompt_tokens, self.paid_reply_tokens)


@dataclass(frozen=True, slots=True)
class Group:
    """Turns of one day that went one way."""

    day: date
    route: str | None
    """None: it ended before it was decided."""
    intent: str | None
    generator: str | None
    model_version: int | None
    totals: Totals


@dataclass(frozen=True, slots=True)
class Line:
    """One turn. Milliseconds, and tokens."""

    id: str
    conversation_id: str
    created_at: datetime
    status: str
    route: str | None
    intent: str | None
    model_version: int | None
    generator: str | None
    degraded: str | None
    classify_ms: float | None
    search_ms: float | None
    first_piece_ms: float | None
    total_ms: float | None
    classify_cpu_ms: float | None
    generator_cpu_ms: float | None
    prompt_tokens: int | None
    reply_tokens: int | None
    tokens_by: str | None

    @property
    def effort(self) -> Effort:
        cpu_seconds = ((self.classify_cpu_ms or 0.0) + (self.generator_cpu_ms or 0.0)) / 1000
        by = TokensBy(self.tokens_by) if self.tokens_by else None
        return Effort.of(Usage(cpu_seconds, self.prompt_tokens, self.reply_tokens, by))


def groups(connection: Connection, span: Span) -> list[Group]:
    """In the order of their days."""
    day = day_of(turns.c.created_at)
    keys = (day, turns.c.route, turns.c.intent, turns.c.generator, turns.c.model_version)
    rows = connection.execute(
        select(*keys, *_SUMS.values()).where(within(span)).group_by(*keys).order_by(day)
    )
    return [_group(row) for row in rows]


def _group(row: Row[Any]) -> Group:
    values: list[Any] = list(row)
    days, route, intent, generator, model_version = values[:5]
    day = date(1970, 1, 1) + timedelta(days=days)
    return Group(day, route, intent, generator, model_version, Totals(*values[5:]))


def by(
    found: Iterable[Group], key: Callable[[Group], Hashable], *, most_first: bool = True
) -> Mapping[Any, Totals]:
    summed: dict[Hashable, Totals] = {}
    for one in found:
        summed[key(one)] = summed.get(key(one), Totals()) + one.totals
    if not most_first:
        return summed
    return dict(sorted(summed.items(), key=lambda item: -item[1].turns))


def lines(
    connection: Connection, span: Span, *, limit: int, after: str | None = None
) -> tuple[list[Line], str | None]:
    """The newest first, and the cursor that leads to older ones."""
    query = (
        select(*_LINE)
        .where(within(span))
        .order_by(turns.c.created_at.desc(), turns.c.id.desc())
        .limit(limit + 1)
    )
    if after is not None:
        query = query.where(
            tuple_(turns.c.created_at, turns.c.id) < tuple_(*cursor.position(after))
        )
    rows = connection.execute(query).all()
    shown = rows[:limit]
    more = len(rows) > limit
    last = cursor.after(shown[-1].created_at, shown[-1].id) if more else None
    return [_line(row) for row in shown], last


def within(span: Span) -> ColumnElement[bool]:
    return (turns.c.created_at >= span.since) & (turns.c.created_at < span.until)


class day_of(FunctionElement[int]):
    """Days since 1970."""

    type = Integer()
    inherit_cache = True


@compiles(day_of, "sqlite")
def _day_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} / 86400.0 AS INTEGER)"


@compiles(day_of, "postgresql")
def _day_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    return f"floor({compiler.process(element.clauses, **options)} / 86400.0)::integer"


def _count(which: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.sum(case((which, 1), else_=0))


def _sum(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(column), 0)


_IS_PAID = turns.c.tokens_by.in_(PAID)
_SUMS: dict[str, ColumnElement[Any]] = {
    "turns": func.count(),
    "failed": _count(turns.c.status == TurnStatus.FAILED),
    "unmeasured": _count((turns.c.route == Route.GENERATE) & turns.c.generator_cpu_ms.is_(None)),
    "estimated": _count(turns.c.tokens_by == TokensBy.ESTIMATE),
    "over_budget": _count(turns.c.degraded == OVER_BUDGET),
    "classify_cpu_ms": _sum(turns.c.classify_cpu_ms),
    "generator_cpu_ms": _sum(turns.c.generator_cpu_ms),
    "prompt_tokens": _sum(turns.c.prompt_tokens),
    "reply_tokens": _sum(turns.c.reply_tokens),
    "paid_prompt_tokens": _sum(case((_IS_PAID, turns.c.prompt_tokens), else_=0)),
    "paid_reply_tokens": _sum(case((_IS_PAID, turns.c.reply_tokens), else_=0)),
}
for _stage in ("classify", "search", "first_piece", "total"):
    _SUMS[f"{_stage}_ms"] = _sum(turns.c[f"{_stage}_ms"])
    _SUMS[f"{_stage}_turns"] = func.count(turns.c[f"{_stage}_ms"])
assert list(_SUMS) == [one.name for one in fields(Totals)]

_LINE = [turns.c[one.name] for one in fields(Line)]


def _line(row: Row[Any]) -> Line:
    return Line(**{**row._mapping, "created_at": datetime.fromtimestamp(row.created_at, UTC)})

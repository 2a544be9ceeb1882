"""The ledger: what turns took and cost, by day, intent and route, and one by one."""

import csv
import io
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from app.api.auth import admin
from app.api.dependencies import App, Cursor, Limit, Out
from app.api.strict_json import StrictRoute
from app.database import ledger
from app.database.ledger import Span
from app.dialogue.cost import Prices
from app.dialogue.pressure import Pressure
from app.dialogue.routing import Route
from app.errors import InvalidInput
from app.settings import Settings
from app.spending import Spending

router = APIRouter(
    prefix="/admin/ledger",
    tags=["ledger"],
    route_class=StrictRoute,
    dependencies=[Depends(admin)],
)

USUAL_DAYS = 30
AT_ONCE = 1000


async def span(
    since: Annotated[AwareDatetime | None, Query()] = None,
    until: Annotated[AwareDatetime | None, Query()] = None,
) -> Span:
    """From `since` on, before `until`; the last thirty days without."""
    end = until or datetime.now(UTC) + timedelta(minutes=1)
    start = since or end - timedelta(days=USUAL_DAYS)
    if start >= end:
        raise InvalidInput("`since` must be before `until`")
    return Span(start.timestamp(), end.timestamp())


During = Annotated[Span, Depends(span)]


class PriceList(Out):
    currency: str
    cpu_second: float
    thousand_prompt_tokens: float
    thousand_reply_tokens: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            currency=settings.currency,
            cpu_second=settings.price_per_cpu_second,
            thousand_prompt_tokens=settings.price_per_1000_prompt_tokens,
            thousand_reply_tokens=settings.price_per_1000_reply_tokens,
        )


class Means(Out):
    """Milliseconds; None where no turn had that stage."""

    classify_ms: float | None
    search_ms: float | None
    first_piece_ms: float | None
    total_ms: float | None


class Totals(Out):
    turns: int
    failed: int
    cost: float
    """Of what was measured, at today's prices."""
    unmeasured: int
    """Turns whose generator did not tell what it took: their cost lacks it."""
    over_budget: int
    """Turns that nothing was generated for, as the day's budget was spent."""
    estimated: int
    """Turns whose engine gave no count of tokens: they are estimated by characters."""
    classify_cpu_seconds: float
    generator_cpu_seconds: float
    prompt_tokens: int
    reply_tokens: int
    means: Means


class OfDay(Out):
    day: date
    """In UTC."""
    routes: dict[str, int]
    totals: Totals


class OfRoute(Out):
    route: Route | None
    """None: the turn ended before it was decided."""
    totals: Totals


class OfIntent(Out):
    intent: str | None
    route: Route | None
    totals: Totals


class OfGenerator(Out):
    generator: str | None
    totals: Totals


class OfVersion(Out):
    model_version: int | None
    totals: Totals


class Budget(Out):
    """Of generating, today (UTC)."""

    limit: float
    cost: float
    """So far, on all replicas: replies to people and those that the proof asks for."""
    pressure: Pressure
    """On the replica that says this."""
    ends_at: datetime


class Ledger(Out):
    since: datetime
    until: datetime
    prices: PriceList
    budget: Budget | None
    """None where the settings have none."""
    totals: Totals
    by_day: list[OfDay]
    by_route: list[OfRoute]
    by_intent: list[OfIntent]
    by_generator: list[OfGenerator]
    """Who wrote the replies; None: nobody was asked."""
    by_version: list[OfVersion]


class Line(Out):
    id: str
    conversation_id: str
    created_at: datetime
    status: str
    route: Route | None
    intent: str | None
    model_version: int | None
    generator: str | None
    degraded: str | None
    cost: float
    classify_ms: float | None
    search_ms: float | None
    first_piece_ms: float | None
    total_ms: float | None
    classify_cpu_ms: float | None
    generator_cpu_ms: float | None
    prompt_tokens: int | None
    reply_tokens: int | None
    tokens_by: str | None
    """Who counted them: `engine`, `estimate` (the engine did not), or `network` (one that runs
    here, and costs its CPU time)."""


class LinePage(Out):
    items: list[Line]
    next_cursor: str | None


@router.get("")
async def index(during: During, app: App) -> Ledger:
    """Totals. What the server does beside reading and answering (HTTP, database) is not in them."""
    found = await app.database.read(lambda c: ledger.groups(c, during))
    prices = prices_of(app.settings)

    def shown(key: Any, **options: bool) -> list[tuple[Any, Totals]]:
        summed = ledger.by(found, key, **options)
        return [(name, _shown(totals, prices)) for name, totals in summed.items()]

    ways = ledger.by(found, lambda one: (one.day, one.route))
    whole = sum((one.totals for one in found), ledger.Totals())
    return Ledger(
        since=datetime.fromtimestamp(during.since, UTC),
        until=datetime.fromtimestamp(during.until, UTC),
        prices=PriceList.of(app.settings),
        budget=_budget(app.spending),
        totals=_shown(whole, prices),
        by_day=[
            OfDay(day=day, routes=_routes_of(day, ways), totals=totals)
            for day, totals in shown(lambda one: one.day, most_first=False)
        ],
        by_route=[OfRoute(route=name, totals=one) for name, one in shown(lambda one: one.route)],
        by_intent=[
            OfIntent(intent=intent, route=route, totals=one)
            for (intent, route), one in shown(lambda one: (one.intent, one.route))
        ],
        by_generator=[
            OfGenerator(generator=name, totals=one)
            for name, one in shown(lambda one: one.generator)
        ],
        by_version=[
            OfVersion(model_version=number, totals=one)
            for number, one in shown(lambda one: one.model_version)
        ],
    )


@router.get("/turns")
async def lines(during: During, app: App, limit: Limit = 50, cursor: Cursor = None) -> LinePage:
    """Turn by turn, the newest first; nothing that was said."""
    prices = prices_of(app.settings)
    found, older = await app.database.read(
        lambda c: ledger.lines(c, during, limit=limit, after=cursor)
    )
    return LinePage(items=[_line(one, prices) for one in found], next_cursor=older)


@router.get(
    "/turns.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}}, "description": "All of them, as a table"}},
)
async def table(during: During, app: App) -> StreamingResponse:
    return StreamingResponse(
        _rows(during, app),
        media_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="ledger.csv"'},
    )


async def _rows(during: Span, app: App) -> AsyncIterator[str]:
    prices = prices_of(app.settings)
    yield _csv([list(Line.model_fields)])
    older: str | None = None
    while True:
        page = partial(ledger.lines, span=during, limit=AT_ONCE, after=older)
        found, older = await app.database.read(page)
        yield _csv([_line(one, prices).model_dump(mode="json").values() for one in found])
        if older is None:
            return


def _csv(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def prices_of(settings: Settings) -> Prices:
    return Prices(
        cpu_second=settings.price_per_cpu_second,
        thousand_prompt_tokens=settings.price_per_1000_prompt_tokens,
        thousand_reply_tokens=settings.price_per_1000_reply_tokens,
    )


def _budget(spending: Spending) -> Budget | None:
    if not spending.budget or spending.day is None:
        return None
    return Budget(
        limit=spending.budget,
        cost=spending.cost,
        pressure=spending.pressure(),
        ends_at=datetime.combine(spending.day + timedelta(days=1), time(tzinfo=UTC)),
    )


def _line(line: ledger.Line, prices: Prices) -> Line:
    return Line(**asdict(line), cost=line.effort.cost(prices))


def _routes_of(day: date, ways: Mapping[Any, ledger.Totals]) -> dict[str, int]:
    return {route: ways[day, route].turns for route in Route if (day, route) in ways}


def _shown(totals: ledger.Totals, prices: Prices) -> Totals:
    def mean(stage: str) -> float | None:
        measured = getattr(totals, f"{stage}_turns")
        return getattr(totals, f"{stage}_ms") / measured if measured else None

    return Totals(
        turns=totals.turns,
        failed=totals.failed,
        cost=totals.effort.cost(prices),
        unmeasured=totals.unmeasured,
        over_budget=totals.over_budget,
        estimated=totals.estimated,
        classify_cpu_seconds=totals.classify_cpu_ms / 1000,
        generator_cpu_seconds=totals.generator_cpu_ms / 1000,
        prompt_tokens=totals.prompt_tokens,
        reply_tokens=totals.reply_tokens,
        means=Means(
            classify_ms=mean("classify"),
            search_ms=mean("search"),
            first_piece_ms=mean("first_piece"),
            total_ms=mean("total"),
        ),
    )

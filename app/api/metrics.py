"""Figures of this replica, as Prometheus reads them. Its scrape needs a key of scope admin:read."""

from collections.abc import Iterator

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse

from app.api.auth import admin
from app.api.dependencies import App, Services
from app.database import drift
from app.database.drift import Look
from app.dialogue.pressure import Pressure

router = APIRouter(tags=["health"], dependencies=[Depends(admin)])

MOVES = ("confidence", "instant")


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(app: App) -> PlainTextResponse:
    version = app.live.model_version
    look = None
    if version is not None:
        look = await app.database.read(lambda c: drift.newest(c, version))
    return PlainTextResponse(
        "".join(f"{line}\n" for line in _lines(app, look)),
        media_type="text/plain; version=0.0.4; charset=utf-8",
    )


def _lines(app: Services, look: Look | None) -> Iterator[str]:
    places = app.turns.places
    yield from _gauge("twofold_model_version", "The live one", app.live.model_version or 0)
    yield from _gauge("twofold_open_turns", "Turns that are being answered", places.open)
    yield from _gauge("twofold_generating_turns", "Of these, by a generator", places.generating)
    yield from _gauge(
        "twofold_waiting_writes", "Operations before the writer", app.database.waiting_writes
    )
    yield "# HELP twofold_refused_total Requests that found no room, by the error's code"
    yield "# TYPE twofold_refused_total counter"
    for code, count in sorted(app.admission.refused.items()):
        yield f'twofold_refused_total{{code="{code}"}} {count}'
    yield "# HELP twofold_drift_alarm Messages are no longer like the calibration's"
    yield "# TYPE twofold_drift_alarm gauge"
    for move in MOVES:
        yield f'twofold_drift_alarm{{moved="{move}"}} {int(bool(look and move in look.moved))}'
    yield from _gauge(
        "twofold_drift_messages", "Compared at the last look", look.messages if look else 0
    )
    yield from _gauge(
        "twofold_usual_traffic",
        "As much is called in scope as the certificate takes for granted",
        int(look.usual if look else True),
    )
    now = app.spending.pressure()
    yield "# HELP twofold_pressure What speaks against generating on this replica"
    yield "# TYPE twofold_pressure gauge"
    for one in Pressure:
        if one is not Pressure.NONE:
            yield f'twofold_pressure{{by="{one}"}} {int(now is one)}'
    if app.spending.budget:
        yield from _gauge("twofold_generation_budget", "What a day may cost", app.spending.budget)
        yield from _gauge("twofold_generation_cost", "Of today, on all replicas", app.spending.cost)


def _gauge(name: str, says: str, value: float) -> tuple[str, str, str]:
    return f"# HELP {name} {says}", f"# TYPE {name} gauge", f"{name} {value}"

"""Whether messages are still like those that the live version was calibrated on."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from fastapi import APIRouter, Depends

from app.api.auth import admin
from app.api.dependencies import App, Out
from app.api.strict_json import StrictRoute
from app.database import drift, model_versions
from app.database.drift import Look
from intent.drift import FALSE_ALARMS

router = APIRouter(
    prefix="/admin/drift", tags=["drift"], route_class=StrictRoute, dependencies=[Depends(admin)]
)


class State(StrEnum):
    NO_VERSION = "no_version"
    TOO_FEW = "too_few"  # messages since it is live
    NO_WINDOW = "no_window"  # an older version, or one with too few utterances to compare with
    STEADY = "steady"
    DRIFTED = "drifted"


class Moved(Out):
    p_value: float
    """Of the mixture of calibration utterances that explains it best."""
    expected: list[float]
    seen: list[float]


class Drift(Out):
    state: State
    model_version: int | None
    moved: list[str]
    """`confidence`: how the confidences are distributed; `instant`: the share of messages that the
    network is sure enough of."""
    alarm_since: datetime | None
    looked_at: datetime | None
    looks: int
    messages: int
    """That were compared at the last look."""
    confidence: Moved | None
    """Shares of the messages, from the lowest bin of confidences to the highest."""
    edges: list[float]
    """Of those bins."""
    instant: Moved | None
    """The share that is answered at once, and the rest."""
    usual_traffic: bool
    """As much is called in scope as the certificate takes for granted; else an instant answer
    takes more."""
    false_alarms: float
    """Of versions whose messages never change, how many ever raise an alarm at most."""


@router.get("")
async def show(app: App) -> Drift:
    """The last look, at the last messages of all replicas together."""
    live, look = await app.database.read(
        lambda c: (
            (live := model_versions.live(c)).model_version,
            drift.newest(c, live.model_version) if live.model_version is not None else None,
        )
    )
    found: Mapping[str, Any] = (look.found if look else None) or {}
    return Drift(
        state=_state(live, look),
        model_version=live,
        moved=list(look.moved) if look else [],
        alarm_since=look.alarm_since if look else None,
        looked_at=look.looked_at if look else None,
        looks=look.looks if look else 0,
        messages=look.messages if look else 0,
        confidence=Moved(**found["confidence"]) if found else None,
        edges=found.get("edges", []),
        instant=Moved(**found["instant"]) if found and found["instant"] else None,
        usual_traffic=look.usual if look else True,
        false_alarms=FALSE_ALARMS,
    )


def _state(live: int | None, look: Look | None) -> State:
    if live is None:
        return State.NO_VERSION
    if look is None:
        return State.TOO_FEW
    if look.found is None:
        return State.NO_WINDOW
    return State.DRIFTED if look.moved else State.STEADY

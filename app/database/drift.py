"""The looks at whether the live version's messages drift, one by one and by all replicas together.

A look is a row's compare-and-set: whichever replica is first does it, and its number says how much
of the allowed error it may spend.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from app.database import model_versions
from app.database.tables import drift, now, turns
from app.dialogue.routing import Basis, Cause
from intent.certificate import CONFIDENCE_EDGES, Calibration, certify
from intent.drift import (
    FEWEST,
    Drift,
    Shares,
    Window,
    comparable,
    compare,
    is_usual,
    surely_answered,
)
from intent.interface import Promise

WINDOW = 1_000
"""Messages that are compared; fewer while a version is new."""
GOES_ON = 0.5
"""A message that goes on with what was said before, at least so likely, is not compared."""
STEP = 100
"""A look follows after so many new ones."""
ON_CERTIFICATE = (Basis.CERTIFIED, Basis.OTHER_TRAFFIC, Basis.UNDER_PRESSURE)


@dataclass(frozen=True, slots=True)
class Look:
    """The newest at one version."""

    model_version: int
    looks: int
    messages: int
    """That were compared."""
    usual: bool
    """As much is called in scope as the certificate takes for granted."""
    moved: tuple[str, ...]
    """`confidence`, `instant`, or both; empty where there is no alarm."""
    found: Mapping[str, Any] | None
    """What was compared; None where the version has no window to compare with."""
    alarm_since: datetime | None
    looked_at: datetime


def newest(connection: Connection, model_version: int) -> Look | None:
    row = connection.execute(
        select(drift).where(drift.c.model_version == model_version)
    ).one_or_none()
    if row is None:
        return None
    return Look(
        model_version=row.model_version,
        looks=row.looks,
        messages=row.messages,
        usual=row.usual,
        moved=tuple(row.moved),
        found=row.found,
        alarm_since=datetime.fromtimestamp(row.alarm_since, UTC) if row.alarm_since else None,
        looked_at=datetime.fromtimestamp(row.looked_at, UTC),
    )


def usual(connection: Connection, model_version: int | None) -> bool:
    found = connection.scalar(select(drift.c.usual).where(drift.c.model_version == model_version))
    return found is not False


def is_due(connection: Connection) -> bool:
    """So many new messages came that the live version deserves another look."""
    number = model_versions.live(connection).model_version
    if number is None:
        return False
    last = connection.scalar(select(drift.c.looked_at).where(drift.c.model_version == number))
    query = select(turns.c.id).where(read_by(number)).limit(FEWEST if last is None else STEP)
    if last is not None:
        query = query.where(turns.c.created_at > last)
    count = connection.scalar(select(func.count()).select_from(query.subquery()))
    return bool(count == (FEWEST if last is None else STEP))


def look(connection: Connection, promise: Promise) -> Look | None:
    """Compares the last messages with the calibration, and notes what came of it; None where
    another replica was first."""
    number = model_versions.live(connection).model_version
    if number is None:
        return None
    before = connection.execute(select(drift).where(drift.c.model_version == number)).one_or_none()
    looks = before.looks + 1 if before else 1
    version = model_versions.get(connection, number)
    window, decisions = _window(connection, number)
    counted = model_versions.counted(version)
    found: Drift | None = None
    if counted is not None and comparable(counted) and window.messages >= FEWEST:
        sure, expected = _sure(counted, promise, decisions)
        found = compare(counted, promise, replace(window, instant=sure), expected, look=looks)
    moved = found.moved if found else ()
    values = {
        "looks": looks,
        "messages": window.messages,
        "usual": counted is None
        or is_usual(counted, promise, window.called_in_scope, window.messages),
        "moved": list(moved),
        "found": asdict(found) if found else None,
        "alarm_since": ((before and before.alarm_since) or now()) if moved else None,
        "looked_at": now(),
    }
    return newest(connection, number) if _note(connection, number, looks, values) else None


def _note(connection: Connection, number: int, looks: int, values: dict[str, Any]) -> bool:
    if looks > 1:
        noted = connection.execute(
            update(drift)
            .where(drift.c.model_version == number, drift.c.looks == looks - 1)
            .values(values)
        )
        return noted.rowcount == 1
    try:
        with connection.begin_nested():
            connection.execute(insert(drift).values(model_version=number, **values))
    except IntegrityError:
        return False
    return True


def _window(connection: Connection, number: int) -> tuple[Window, list[dict[str, Any]]]:
    decisions = [
        decision
        for decision in connection.scalars(
            select(turns.c.decision)
            .where(read_by(number))
            .order_by(turns.c.created_at.desc(), turns.c.id.desc())
            .limit(WINDOW)
        )
        if stands_alone(decision)
    ]
    confidences = [0] * (len(CONFIDENCE_EDGES) + 1)
    for one in decisions:
        confidences[bisect_right(CONFIDENCE_EDGES, one["confidence"])] += 1
    called_in_scope = sum(one["in_scope"] for one in decisions)
    return Window(tuple(confidences), called_in_scope), decisions


def stands_alone(decision: dict[str, Any]) -> bool:
    """As the calibration's messages are: not picked from options, no follow-up. Decisions of
    older releases do not say what the network made of the scope."""
    goes_on = (decision.get("goes_on") or 0.0) >= GOES_ON
    return (
        decision.get("in_scope") is not None
        and decision["cause"] not in (Cause.CHOSEN, Cause.FOLLOW_UP)
        and not goes_on
    )


def _sure(
    counted: Calibration, promise: Promise, decisions: Sequence[dict[str, Any]]
) -> tuple[int, Shares | None]:
    """Of how many messages the network was sure enough, whether or not there was a reply to say,
    and which shares of the calibration utterances it is as sure of. By the usual threshold, also
    of messages that met another, as something pressed or traffic was unusual; None where there is
    no such threshold, or it changed meanwhile."""
    bases = {one["basis"] for one in decisions}
    if bases <= set(ON_CERTIFICATE):
        certificate = certify(counted, promise)
        if certificate.point is None:
            return 0, None
        least, floors = certificate.point.threshold, certificate.floors
        sure = sum(
            one["assurance"] >= max(least, floors.get(one.get("intent") or "", 0.0))
            for one in decisions
        )
        return sure, Shares(certificate.point.answered, certificate.point.let_through)
    thresholds = {one["threshold"] for one in decisions}
    sure = sum(one["in_scope"] and one["assurance"] >= one["threshold"] for one in decisions)
    if bases == {Basis.FIXED} and len(thresholds) == 1:
        return sure, surely_answered(counted, *thresholds)
    return sure, None


def read_by(*numbers: int) -> ColumnElement[bool]:
    """Turns that one of these versions has decided on."""
    return turns.c.model_version.in_(numbers) & turns.c.route.is_not(None)

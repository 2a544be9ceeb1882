"""Looks at whether the live version's messages drift, whenever enough new ones have come."""

import asyncio

import structlog

from app.database import drift
from app.database.database import Database
from app.errors import TwofoldError
from intent.interface import Promise

POLL_SECONDS = 10.0

log = structlog.get_logger(__name__)


class DriftWatch:
    def __init__(self, database: Database, promise: Promise) -> None:
        self._database = database
        self._promise = promise

    async def run_forever(self) -> None:
        while True:
            try:
                await self.look_if_due()
            except TwofoldError as error:
                log.warning("cannot look for drift", error=error.code)
            except Exception:  # a defect of ours; without it an alarm would never come
                log.exception("cannot look for drift")
            await asyncio.sleep(POLL_SECONDS)

    async def look_if_due(self) -> drift.Look | None:
        if not await self._database.read(drift.is_due):
            return None
        found = await self._database.write(lambda c: drift.look(c, self._promise))
        if found is not None and found.moved:
            log.warning(
                "messages drift from what the live version was calibrated on",
                model_version=found.model_version,
                moved=list(found.moved),
            )
        return found

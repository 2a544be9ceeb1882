"""What generating costs today, on all replicas together, and what that leaves.

Each replica adds what its own replies take to the day's row, every second, and reads the sum. So
all of them come to the same conclusion within about a second; and as a day's sum only grows, no
conclusion is taken back before midnight (UTC). What is being written when the budget is spent is
still finished: the day may cost more than the budget by that, and by what one second brings.
"""

import asyncio
from datetime import date

import structlog

from app.database import spending
from app.database.database import Database
from app.dialogue.cost import Effort, Prices
from app.dialogue.pressure import Pressure, Strain
from app.errors import TwofoldError
from app.turn_places import TurnPlaces

BEAT_SECONDS = 1.0
NEARLY = 0.8
"""Of the budget: from here on it presses."""

log = structlog.get_logger(__name__)


class Spending:
    def __init__(
        self, database: Database, places: TurnPlaces, prices: Prices, budget: float
    ) -> None:
        """`budget`: what a day may cost; 0: as much as it does, and nothing is counted."""
        self.budget = budget
        self._database = database
        self._places = places
        self._prices = prices
        self._strain = Strain()
        self.day: date | None = None
        """That is counted; None where nothing is."""
        self._known = Effort()
        """Of all replicas, as the database had it last."""
        self._untold = Effort()
        """Of this one, since."""

    def spend(self, effort: Effort) -> None:
        if self.budget:
            self._untold += effort

    @property
    def cost(self) -> float:
        """Of today, as far as this replica knows."""
        return (self._known + self._untold).cost(self._prices)

    def pressure(self) -> Pressure:
        is_strained = self._strain.of(self._places.generating, self._places.limits.generating)
        if self.budget and self.cost >= self.budget:
            return Pressure.SPENT
        if self.budget and self.cost >= NEARLY * self.budget:
            return Pressure.BUDGET
        return Pressure.OVERLOAD if is_strained else Pressure.NONE

    async def run_forever(self) -> None:
        while self.budget:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                await self.exchange()
            except TwofoldError as error:
                log.warning("cannot count what generating costs", error=error.code)
            except Exception:  # a defect of ours; uncounted, the budget would be without end
                log.exception("cannot count what generating costs")

    async def exchange(self) -> None:
        """Tells what is untold, and hears what all others spent."""
        if not self.budget:
            return
        telling = self._untold
        if telling != Effort():
            await self._database.write(lambda c: spending.add(c, telling))
            self._untold -= telling
            self._known += telling
        day, known = await self._database.read(spending.today)
        if day != self.day:
            log.info("a new day for the generators' budget", day=day.isoformat())
        self.day, self._known = day, known

"""What a day's generating costs, counted by all replicas together."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import update

from app.database.database import Database
from app.database.tables import spending as table
from app.dialogue.cost import Effort, Prices
from app.dialogue.pressure import Pressure
from app.dialogue.turn import Turn, TurnStatus
from app.spending import Spending
from app.turn_places import TurnLimits, TurnPlaces

PRICES = Prices(cpu_second=1.0, thousand_prompt_tokens=10.0, thousand_reply_tokens=20.0)


def replica(database: Database, budget: float = 100.0) -> Spending:
    return Spending(database, TurnPlaces(TurnLimits(generating=4)), PRICES, budget)


def play(*steps: Callable[[], Awaitable[Any]]) -> None:
    async def run() -> None:
        for step in steps:
            await step()

    asyncio.run(run())


def test_what_one_replica_spends_all_know_when_they_have_heard_of_it(database: Database) -> None:
    here, there = replica(database), replica(database)
    here.spend(Effort(cpu_seconds=50.0))
    there.spend(Effort(prompt_tokens=2_000, reply_tokens=500))
    assert (here.cost, there.cost) == (50.0, 30.0)
    play(here.exchange, there.exchange, here.exchange)
    assert (here.cost, there.cost) == (80.0, 80.0)
    assert here.pressure() is there.pressure() is Pressure.BUDGET
    there.spend(Effort(cpu_seconds=20.0))
    assert (here.pressure(), there.pressure()) == (Pressure.BUDGET, Pressure.SPENT)
    play(there.exchange, here.exchange)
    assert here.pressure() is Pressure.SPENT
    late = replica(database)
    play(late.exchange)
    assert late.pressure() is Pressure.SPENT


def test_a_count_that_was_too_high_is_mended(database: Database) -> None:
    """An engine's own count replaces our estimate when it comes."""
    here = replica(database)
    here.spend(Effort(reply_tokens=3_000))
    play(here.exchange)
    here.spend(Effort(reply_tokens=-1_000))
    play(here.exchange)
    assert here.cost == 40.0


def test_the_next_day_begins_with_nothing_spent(database: Database) -> None:
    here = replica(database)
    here.spend(Effort(cpu_seconds=100.0))
    play(here.exchange)
    assert here.pressure() is Pressure.SPENT
    database.write_now(lambda c: c.execute(update(table).values(day=table.c.day - 1)))
    play(here.exchange)
    assert (here.cost, here.pressure()) == (0.0, Pressure.NONE)


def test_without_a_budget_nothing_is_counted_and_nothing_presses(database: Database) -> None:
    here = replica(database, budget=0.0)
    here.spend(Effort(cpu_seconds=1e9))
    play(here.exchange)
    assert (here.cost, here.pressure(), here.day) == (0.0, Pressure.NONE, None)


def test_full_places_press_and_a_budget_presses_harder(database: Database) -> None:
    places = TurnPlaces(TurnLimits(generating=4))
    here = Spending(database, places, PRICES, 100.0)
    for number in range(3):
        assert here.pressure() is Pressure.NONE
        turn = Turn(str(number), "c", "ada", number, TurnStatus.GENERATING, "hello")
        places.hold(number, turn)
    assert here.pressure() is Pressure.OVERLOAD
    here.spend(Effort(cpu_seconds=80.0))
    assert here.pressure() is Pressure.BUDGET

"""A small version of `make proof`: it holds, and it sees what is planted."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.proof.bench import Bench, Kind, Result
from tests.proof.fleet import Fleet
from tests.proof.kills import kills
from tests.proof.one_key import one_key
from tests.proof.planted import trap
from tests.proof.points import ALL_POINTS, OPERATIONS

DEADLINE_SECONDS = 200.0


class Fresh:
    """The tests' own PostgreSQL, as far as these rows need one."""

    def __init__(self, fresh: Callable[[], str]) -> None:
        self.fresh = fresh


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture
def prove(
    kind: Kind, tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[[Callable[[Bench], Coroutine[Any, Any, Any]]], Any]:
    """Runs a row with servers of its own; the seed is always the same."""
    postgresql = None
    if kind == "postgresql":
        postgresql = Fresh(request.getfixturevalue("postgresql"))

    def run(row: Callable[[Bench], Coroutine[Any, Any, Any]]) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(DEADLINE_SECONDS), Fleet(tmp_path) as fleet:
                return await row(Bench(tmp_path, fleet, 1, postgresql))  # type: ignore[arg-type]

        return asyncio.run(limited())

    return run


def nothing(*_: object) -> None:
    pass


def test_six_kills_cost_nothing(kind: Kind, prove: Callable[..., Result]) -> None:
    result = prove(lambda bench: kills(bench, kind, 6, nothing))
    assert result.broken == []
    assert result.counts["kills"] == 6


def test_a_server_that_forgets_keys_is_found_out(kind: Kind, prove: Callable[..., Any]) -> None:
    assert prove(lambda bench: trap(bench, kind, "no idempotency", 6))["doubled"] > 0


def test_ten_posts_with_one_key_are_one_turn(kind: Kind, prove: Callable[..., Result]) -> None:
    assert prove(lambda bench: one_key(bench, kind, 10, nothing)).broken == []


def test_every_point_of_an_operation_belongs_to_one_that_is_wrapped() -> None:
    """A typing error in a point's name would be noticed only after minutes of killing."""
    ends = (": before commit", ": after commit")
    named = {one.rsplit(":", 1)[0] for one in ALL_POINTS if one.endswith(ends)}
    assert named == set(OPERATIONS)

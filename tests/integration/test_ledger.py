"""What turns took, as the ledger adds it up."""

import csv
from datetime import UTC, datetime, timedelta

import pytest

from app.database import ledger, turns
from app.database.database import Database
from app.database.ledger import Span
from app.dialogue.turn import Reply
from app.settings import Settings
from generator.interface import TokensBy, Usage
from generator.scripted import ScriptedGenerator
from tests.integration.conftest import Served, serving
from tests.integration.routes import assert_problem
from tests.unit.app import stored

ENGINE = ScriptedGenerator(["Once."], usage=Usage(0.0, 2000, 500, TokensBy.ENGINE))
NETWORK = ScriptedGenerator(["Once."], usage=Usage(3.0, 2000, 500, TokensBy.NETWORK))


@pytest.fixture
def priced(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "price_per_cpu_second": 0.25,
            "price_per_1000_prompt_tokens": 1.0,
            "price_per_1000_reply_tokens": 4.0,
            "currency": "EUR",
        }
    )


def get(served: Served, path: str = "", **query: str):
    response = served.client.get(f"/admin/ledger{path}", params=query, headers=served.admin)
    assert response.status_code == 200, response.text
    return response


def talk(served: Served) -> None:
    mine = served.conversation()
    for text in ("hello", "bye", "hello", "no more order", "tell me a story"):
        assert served.say(mine, text).json()["status"] == "done"


def test_turns_are_added_up_by_day_route_intent_generator_and_version(priced: Settings) -> None:
    with serving(priced, ENGINE) as served:
        talk(served)
        found = get(served).json()
        assert {one["route"]: one["totals"]["turns"] for one in found["by_route"]} == {
            "instant": 3,
            "clarify": 1,
            "generate": 1,
        }
        (day,) = found["by_day"]
        assert day["day"] == datetime.now(UTC).date().isoformat()
        assert day["routes"] == {"instant": 3, "clarify": 1, "generate": 1}
        assert found["by_intent"][0]["intent"] == "greet"
        assert found["by_intent"][0]["totals"]["turns"] == 2
        assert {one["generator"] for one in found["by_generator"]} == {None, "scripted"}
        assert [one["model_version"] for one in found["by_version"]] == [1]
        assert found["totals"]["turns"] == 5
        assert found["prices"]["currency"] == "EUR"


@pytest.mark.parametrize(
    ("generator", "least"),
    [(ENGINE, 2 * 1.0 + 0.5 * 4.0), (NETWORK, 3.0 * 0.25)],
    ids=["an engine by its tokens", "what runs here by its CPU"],
)
def test_a_reply_costs_what_its_generator_took(
    priced: Settings, generator: ScriptedGenerator, least: float
) -> None:
    with serving(priced, generator) as served:
        talk(served)
        found = get(served).json()
        (generated,) = (one["totals"] for one in found["by_route"] if one["route"] == "generate")
        # The search and the intent network take some CPU time of their own.
        assert least < generated["cost"] < least + 0.25
        assert (generated["prompt_tokens"], generated["reply_tokens"]) == (2000, 500)
        instant = next(one["totals"] for one in found["by_route"] if one["route"] == "instant")
        assert 0 < instant["classify_cpu_seconds"] < 0.5
        assert instant["generator_cpu_seconds"] == instant["prompt_tokens"] == 0
        assert found["totals"]["unmeasured"] == 0


def test_what_no_generator_tells_is_said_to_be_missing(priced: Settings) -> None:
    with serving(priced) as served:
        talk(served)
        totals = get(served).json()["totals"]
        assert (totals["turns"], totals["unmeasured"]) == (5, 1)


def test_turn_by_turn_as_pages_and_as_a_table(priced: Settings) -> None:
    with serving(priced, ENGINE) as served:
        talk(served)
        first = get(served, "/turns", limit="2").json()
        rest = get(served, "/turns", limit="100", cursor=first["next_cursor"]).json()
        items = [*first["items"], *rest["items"]]
        assert [one["route"] for one in items] == ["generate", "clarify", *["instant"] * 3]
        assert rest["next_cursor"] is None
        assert items[0]["tokens_by"] == "engine"
        assert items[0]["search_ms"] > 0
        assert items[1]["generator_cpu_ms"] is None
        table = get(served, "/turns.csv")
        assert table.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(table.text.splitlines()))
        assert [one["id"] for one in rows] == [one["id"] for one in items]
        assert float(rows[0]["cost"]) == pytest.approx(items[0]["cost"])
        assert "tell me a story" not in table.text


def test_only_the_time_that_was_asked_for_counts(priced: Settings) -> None:
    with serving(priced) as served:
        talk(served)
        now = datetime.now(UTC)
        yesterday = (now - timedelta(days=1)).isoformat()
        assert get(served, since=yesterday).json()["totals"]["turns"] == 5
        assert get(served, until=yesterday).json()["totals"]["turns"] == 0
        assert get(served, until=yesterday).json()["by_day"] == []
        url = "/admin/ledger"
        asked = {"since": now.isoformat(), "until": yesterday}
        assert_problem(served.client.get(url, params=asked, headers=served.admin), 422)
        assert_problem(served.client.get(url, headers=served.user), 403)


def test_a_turn_that_ended_early_keeps_what_it_took_until_then(database: Database) -> None:
    turn = database.write_now(stored.accept(stored.conversation(database)))
    half = Reply("Half a", usage=Usage(2.0))
    database.write_now(lambda c: turns.grow(c, {(turn.id, turn.fence): half}))
    database.write_now(lambda c: turns.cancel(c, "ada", turn.id))
    (group,) = database.read_now(lambda c: ledger.groups(c, Span(0, 1e12)))
    assert group.totals.generator_cpu_ms == pytest.approx(2000)

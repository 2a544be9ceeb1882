"""A budget for generating, and what it moves: between certified thresholds, and never beyond."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from app.errors import ConfigurationError
from app.main import create_app
from app.settings import Settings
from generator.interface import TokensBy, Usage
from generator.scripted import ScriptedGenerator
from intent.certificate import Calibration, certify
from intent.interface import Certificate, Promise
from tests.fakes import FakeClassifier, prediction
from tests.integration.conftest import Served, serving

COUNTED = Calibration(
    basis="held_out",
    thresholds=(0.9, 0.5),
    expected=((0.8, 0.001, 0.01), (0.95, 0.06, 0.4)),
    floors=(),
    inside=1_000,
    outside=100,
    answered=(800, 950),
    wrong=(0, 60),
    let_through=(0, 40),
    all_wrong=60,
    intents=4,
    in_scope=(950, 20),
)
"""At 0.5 one answer in ten is wrong."""
PREDICTIONS = {
    "hello": prediction(("greet", 0.99), ("goodbye", 0.01), assurance=0.95),
    "bye": prediction(("goodbye", 0.7), ("greet", 0.02), assurance=0.6),
    "well": prediction(("goodbye", 0.4), ("greet", 0.02), assurance=0.1),
}
FOX = ScriptedGenerator(["A story."], usage=Usage(0.0, 0, 1_000, TokensBy.ENGINE))
"""Takes one unit of money for each reply."""


class Counted(FakeClassifier):
    def certify(self, promise: Promise) -> Certificate:
        return certify(COUNTED, promise)


def limited(settings: Settings, **more: Any) -> Settings:
    limits = {
        "generation_budget": 5.0,
        "price_per_cpu_second": 1e-9,
        "price_per_1000_reply_tokens": 1.0,
        "max_wrong_instant_under_pressure": 0.2,
        "proof_share": 0.0,
    }
    return settings.model_copy(update=limits | more)


def serving_counted(settings: Settings) -> Any:
    return serving(settings, FOX, load=lambda _: Counted(PREDICTIONS))


def say(served: Served, text: str) -> dict[str, Any]:
    response = served.say(served.conversation(), text)
    assert response.status_code == 201, response.text
    return response.json()


def explained(served: Served, text: str) -> dict[str, Any]:
    return served.client.post("/v1/route", json={"text": text}, headers=served.user).json()


def metrics(served: Served) -> str:
    return served.client.get("/metrics", headers=served.admin).text


def budget(served: Served) -> dict[str, Any] | None:
    return served.client.get("/admin/ledger", headers=served.admin).json()["budget"]


def decided(turn: dict[str, Any]) -> tuple[Any, ...]:
    one = turn["decision"]
    return one["route"], one["cause"], one["basis"], one["threshold"], one["pressure"]


def test_a_budget_that_nears_its_end_moves_to_the_certified_point_of_the_looser_promise(
    settings: Settings,
) -> None:
    with serving_counted(limited(settings)) as served:
        assert decided(say(served, "bye")) == ("generate", "unsure", "certified", 0.9, "none")
        for _ in range(3):
            say(served, "tell me a story")
        assert 'twofold_pressure{by="budget"} 1' in metrics(served)
        instant = ("instant", "confident", "under_pressure", 0.5, "budget")
        turn = say(served, "bye")
        assert decided(turn) == instant
        told = explained(served, "bye")
        assert told["decision"] == turn["decision"]
        assert told["certificate"]["point"]["threshold"] == 0.9
        assert told["certificate_under_pressure"]["promise"]["max_wrong_instant"] == 0.2
        assert told["certificate_under_pressure"]["point"]["threshold"] == 0.5
        assert decided(say(served, "hello"))[:2] == ("instant", "confident")
        found = budget(served)
        assert found is not None
        assert (found["limit"], found["pressure"]) == (5.0, "budget")
        assert found["cost"] == pytest.approx(4.0, abs=1e-3)


def test_where_it_is_spent_nothing_is_generated_and_each_turn_says_so(settings: Settings) -> None:
    with serving_counted(limited(settings)) as served:
        for _ in range(5):
            assert say(served, "tell me a story")["degraded"] is None
        asked = len(FOX.calls)
        refused = say(served, "tell me a story")
        assert (refused["status"], refused["degraded"], refused["generator"]) == (
            "done",
            "budget",
            "fixed",
        )
        assert decided(refused)[-1] == "spent"
        unsure = say(served, "well")
        assert decided(unsure)[:2] == ("clarify", "not_afforded")
        assert unsure["degraded"] is None
        assert say(served, "hello")["decision"]["route"] == "instant"
        assert len(FOX.calls) == asked
        assert 'twofold_pressure{by="spent"} 1' in metrics(served)
        cost = re.search(r"^twofold_generation_cost (\S+)$", metrics(served), re.MULTILINE)
        assert cost is not None
        assert float(cost[1]) == pytest.approx(5.0, abs=1e-3)
        ledger = served.client.get("/admin/ledger", headers=served.admin).json()
        assert ledger["totals"]["over_budget"] == 1
        assert ledger["totals"]["unmeasured"] == 0


def test_who_erases_what_they_had_generated_gets_no_money_back(settings: Settings) -> None:
    with serving_counted(limited(settings)) as served:
        for _ in range(5):
            mine = served.conversation()
            assert served.say(mine, "tell me a story").json()["degraded"] is None
            erased = served.client.delete(f"/v1/conversations/{mine}", headers=served.user)
            assert erased.status_code < 300
        assert say(served, "tell me a story")["degraded"] == "budget"


def test_a_restarted_server_knows_what_was_spent(settings: Settings) -> None:
    with serving_counted(limited(settings)) as served:
        for _ in range(5):
            say(served, "tell me a story")
    app = create_app(limited(settings), generator=FOX, load=lambda _: Counted(PREDICTIONS))
    from fastapi.testclient import TestClient

    with TestClient(app):
        assert app.state.services.spending.pressure() == "spent"


def test_without_a_looser_promise_pressure_moves_no_threshold(settings: Settings) -> None:
    with serving_counted(limited(settings, max_wrong_instant_under_pressure=None)) as served:
        for _ in range(4):
            say(served, "tell me a story")
        assert decided(say(served, "bye")) == ("generate", "unsure", "certified", 0.9, "budget")
        assert explained(served, "bye")["certificate_under_pressure"] is None


def test_without_a_budget_there_is_none_to_show(served: Served) -> None:
    assert budget(served) is None
    assert "twofold_generation_budget" not in metrics(served)
    assert 'twofold_pressure{by="spent"} 0' in metrics(served)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_wrong_instant_under_pressure": 0.01}, "at least TWOFOLD_MAX_WRONG_INSTANT"),
        (
            {"max_wrong_instant_under_pressure": 0.1, "instant_threshold": 0.7},
            "unset one of the two",
        ),
        ({"generation_budget": -1}, "greater than or equal to 0"),
        ({"generation_budget": "inf"}, "finite"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Settings(_env_file=None, **options)


@pytest.mark.parametrize(
    ("generators", "price"),
    [("remote", "price_per_cpu_second"), ("embedded", "price_per_1000_reply_tokens")],
)
def test_a_budget_for_what_has_no_price_is_refused(
    settings: Settings, generators: str, price: str
) -> None:
    free = {"generators": generators, "generation_budget": 1.0, "price_per_cpu_second": 0.0}
    with pytest.raises(ConfigurationError, match="never be spent; set TWOFOLD_PRICE_PER"):
        create_app(settings.model_copy(update=free | {price: 1.0}), generator=FOX)

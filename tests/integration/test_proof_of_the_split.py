"""What the split saved, as the ledger tells it, on streams whose truth is known."""

import random
from typing import Any

import pytest
from sqlalchemy import bindparam, insert

from app.database import reanswers
from app.database.reanswers import Reanswer
from app.database.tables import now, turns
from app.settings import Settings
from generator.agreement import Agreement, Missing
from generator.interface import TokensBy, Usage
from tests.integration.conftest import Served, serving
from tests.unit.app import stored

SHARE = 0.1
TURNS = 1500
ALIKE = Agreement(0.9, Missing(), Missing())
CONTRADICTING = Agreement(0.9, Missing(("14",), ("30",)), Missing())


@pytest.fixture
def priced(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "proof_share": 0.0,
            "price_per_cpu_second": 0.5,
            "price_per_1000_prompt_tokens": 1.0,
            "price_per_1000_reply_tokens": 2.0,
        }
    )


def stream(served: Served, seed: int) -> dict[str, float]:
    """Instant turns of three days, a tenth of them answered again; what is true of all of them."""
    draw = random.Random(seed)
    database = served.services.database
    mine = stored.conversation(database)
    decision = {"cause": "confident"}
    rows: list[dict[str, Any]] = []
    again: list[Reanswer] = []
    truth = {"cost": 0.0, "prompt_tokens": 0.0, "differing": 0.0}
    for seq in range(1, TURNS + 1):
        day = seq % 3
        asked = 200 + 300 * day + draw.randrange(400)
        said = round(draw.gammavariate(2, 30))
        differs = draw.random() < 0.08
        turn_id = f"{draw.getrandbits(128):032x}"
        rows.append(
            {
                "id": turn_id,
                "conversation_id": mine,
                "owner": "ada",
                "seq": seq,
                "status": "done",
                "text": f"question {seq}",
                "reply": "It takes 14 days.",
                "route": "instant",
                "intent": "return_item",
                "decision": decision,
                "classify_cpu_ms": 2.0,
                "total_ms": 5.0,
                "age": 86_400.0 * day + 60,
            }
        )
        truth["cost"] += asked / 1000 + 2 * said / 1000 - 0.5 * 0.002
        truth["prompt_tokens"] += asked
        truth["differing"] += differs
        if draw.random() < SHARE:
            again.append(
                Reanswer(
                    turn_id,
                    "It takes 30 days." if differs else "14 days.",
                    "remote",
                    True,
                    CONTRADICTING if differs else ALIKE,
                    Usage(0.0, asked, said, TokensBy.ENGINE),
                    20.0,
                    1005.0,
                )
            )

    def store(connection: Any) -> None:
        connection.execute(insert(turns).values(created_at=now() - bindparam("age")), rows)
        for one in again:
            reanswers.store(connection, one)

    database.write_now(store)
    return truth


def proof(served: Served, **query: str) -> dict[str, Any]:
    response = served.client.get("/admin/ledger/proof", params=query, headers=served.admin)
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_a_stream_with_known_costs_gives_back_the_truth(priced: Settings) -> None:
    with serving(priced) as served:
        truth = stream(served, seed=4)
        found = proof(served)
        assert found["instant_turns"] == TURNS
        assert 100 < found["compared"] < 200
        cost, tokens = found["saved"]["cost"], found["saved"]["prompt_tokens"]
        assert cost["total_low"] < truth["cost"] < cost["total_high"]
        assert cost["total_high"] - cost["total_low"] < 0.2 * truth["cost"]
        assert tokens["total_low"] < truth["prompt_tokens"] < tokens["total_high"]
        assert found["saved"]["seconds"]["mean"] == pytest.approx(1.0)
        differing = found["differing"]
        assert differing["low"] < truth["differing"] / TURNS < differing["high"]
        assert differing["count"] == found["differing_in"]["values"]["count"] > 0
        assert found["differing_in"]["meaning"]["count"] == 0
        balance = found["balance"]
        assert balance["spent"] == pytest.approx(TURNS * 0.002 * 0.5)
        low, high = balance["without"][1:]
        assert low < truth["cost"] + balance["spent"] < high
        assert 0.98 < balance["saved_share"][1] < balance["saved_share"][0] < 1

        first = proof(served, limit="3")
        assert len(first["items"]) == 3
        one = first["items"][0]
        assert one["text"].startswith("question ")
        assert (one["reply"], one["reanswer"]) == ("It takes 14 days.", "It takes 30 days.")
        assert one["agreement"]["values"] == {"first": ["14"], "second": ["30"]}
        assert one["differs_in"] == ["values"]
        rest = proof(served, limit="200", cursor=first["next_cursor"])
        assert len(rest["items"]) + 3 == differing["count"]
        assert rest["next_cursor"] is None


def test_before_anything_was_compared_nothing_is_claimed(priced: Settings) -> None:
    with serving(priced) as served:
        assert served.say(served.conversation(), "hello").json()["decision"]["route"] == "instant"
        found = proof(served)
        assert (found["instant_turns"], found["compared"]) == (1, 0)
        assert set(found["saved"].values()) == {None}
        assert found["balance"]["without"] is None
        assert (found["differing"]["share"], found["differing"]["high"]) == (None, 1.0)
        nobody = served.client.get("/admin/ledger/proof", headers=served.user)
        assert nobody.status_code == 403

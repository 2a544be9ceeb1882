"""Odd but honest input is served, and no drawn text breaks a turn."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.integration.conftest import Served
from tests.integration.routes import assert_problem

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "text",
    [
        "a" * 4000,
        "é" * 4000,
        "😀" * 4000,
        "word " * 799,
        "'\" ; DROP TABLE turns; --",
        '" OR "" NEAR/3 *',
        "& | ! <-> ():*",
        "__ _ ___",
        "\u0301\u0301",
        "{name} {0} %s %(x)s ${x}",
        "<script>alert(1)</script>",
        "٣ ½ ²",
        "ﷺ" * 1000,
        "a\u200bb",
        "AND OR NOT",
    ],
)
def test_odd_but_honest_text_is_answered(served: Served, text: str) -> None:
    got = served.say(served.conversation(), text)
    assert got.status_code == 201, got.text[:300]
    assert got.json()["status"] == "done", got.json()["error"]


def test_a_document_of_odd_but_honest_text_is_kept(served: Served) -> None:
    for text in (
        f"# {'long heading ' * 100}\n\nText.",
        f"# A\n\n## {'section ' * 200}\n\nText.",
        "a" * 400_000,
        " ".join(f"w{number:x}" for number in range(80_000)),
        "\u0958" * 100_000,
    ):
        got = served.client.put("/admin/documents/odd", json={"text": text}, headers=served.admin)
        assert got.status_code in (200, 413, 422), got.text[:300]
        if got.status_code != 200:
            assert_problem(got)


def test_no_text_breaks_a_turn(served: Served) -> None:
    served.client.put(
        "/admin/documents/delivery", json={"text": "It takes 3 days."}, headers=served.admin
    )
    conversation = served.conversation()

    @_bounded(60)
    @given(st.text(st.characters(codec=None), max_size=60))
    def any_text(text: str) -> None:
        body = json.dumps({"text": text}).encode()
        got = served.client.post(
            f"/v1/conversations/{conversation}/turns", content=body, headers=served.user | JSON
        )
        if got.status_code == 201:
            assert got.json()["status"] == "done"
        else:
            assert_problem(got, 422)

    any_text()


def _bounded(examples: int) -> Any:
    return hypothesis_settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

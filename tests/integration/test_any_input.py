"""Odd but honest input is served, and no drawn input of any kind breaks the server."""

import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.integration.conftest import Served
from tests.integration.routes import assert_problem, things_of_ada

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


def test_no_request_that_the_api_document_suggests_breaks_the_server(served: Served) -> None:
    """schemathesis draws requests of every route, right ones and wrong ones."""
    things = things_of_ada(served)
    headers = served.admin
    document = schemathesis.openapi.from_dict(served.client.app.openapi())
    for found in document.get_all_operations():
        operation = found.ok()
        modes = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
        drawn = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))

        @_bounded(8)
        @given(drawn, st.booleans())
        def requests(case: Any, existing: bool) -> None:
            if existing:
                case.path_parameters = {name: things[name] for name in case.path_parameters or {}}
            sent = case.as_transport_kwargs(base_url="http://testserver")
            got = served.client.request(
                case.method,
                sent["url"],
                params=sent.get("params"),
                content=sent.get("data") if isinstance(sent.get("data"), bytes) else None,
                json=sent.get("json"),
                headers={**_sendable(sent.get("headers")), **headers},
            )
            assert got.status_code < 500, got.text[:500]
            if got.status_code >= 400:
                assert_problem(got)

        requests()


def _sendable(headers: Any) -> dict[str, str]:
    ours = ("authorization", "cookie")
    return {
        name: value
        for name, value in dict(headers or {}).items()
        if name.casefold() not in ours and str(value).isascii() and str(value).isprintable()
    }


def _bounded(examples: int) -> Any:
    return hypothesis_settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

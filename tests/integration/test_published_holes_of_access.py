"""Holes that were found in other chat servers, one test each: whose door was open, and how."""

import statistics
import time
from typing import Any

from tests.integration.conftest import Served, serving
from tests.integration.routes import assert_problem, routes, table_contents, things_of_ada

PAGE = {"X-Twofold-Page": "1"}


def test_a_conversation_is_not_continued_by_whoever_knows_its_id(served: Served) -> None:
    """Chat servers that took the conversation's or the sender's id from the request as proof."""
    conversation = served.conversation()
    first = served.say(conversation, "hello").json()
    before = table_contents(served)
    guest = _guest(served)
    for headers in (served.other, served.admin, guest):
        for more in (
            {},
            {"Idempotency-Key": "0123456789abcdef"},
            {"X-User-Id": "ada", "X-Forwarded-User": "ada", "X-Conversation-Owner": "ada"},
            {"Accept": "text/event-stream"},
        ):
            got = served.client.post(
                f"/v1/conversations/{conversation}/turns",
                json={"text": "and what did she say?"},
                headers=headers | more,
            )
            assert_problem(got, 404)
        for path in (
            f"/v1/conversations/{conversation}/turns",
            f"/v1/turns/{first['id']}",
            f"/v1/turns/{first['id']}/events",
        ):
            assert_problem(served.client.get(path, headers=headers), 404)
    for field in ("owner", "user_id", "sender", "conversation_id"):
        got = served.client.post(
            "/v1/conversations", json={field: conversation}, headers=served.other
        )
        assert_problem(got, 422)
    assert table_contents(served) == before


def test_a_session_that_was_there_before_the_sign_in_is_not_taken_over(served: Served) -> None:
    """Session fixation: the attacker puts a session of their own into the victim's browser, and
    waits for the victim to sign in with it."""
    planted = _guest(served)["Cookie"]
    key = served.admin["Authorization"].removeprefix("Bearer ")
    got = served.client.post("/v1/session", json={"key": key}, headers={"Cookie": planted})
    mine = got.headers["set-cookie"].split(";")[0]
    assert mine != planted
    attacker = served.client.get("/v1/session", headers={"Cookie": planted}).json()
    assert attacker == {"scopes": ["chat"], "name": "guest", "guest": True}

    # The same with a session of the attacker's own key.
    stolen = _signed_in(served, served.user)
    got = served.client.post("/v1/session", json={"key": key}, headers={"Cookie": stolen})
    served.client.cookies.clear()
    assert got.headers["set-cookie"].split(";")[0] != stolen
    assert_problem(served.client.get("/v1/session", headers={"Cookie": stolen}), 401)


def test_a_copied_cookie_is_worth_nothing_after_the_sign_out(served: Served) -> None:
    """Signed cookies that live on until they expire, whoever signs out."""
    copied, other = (_signed_in(served, served.admin) for _ in range(2))
    assert served.client.get("/admin/keys", headers={"Cookie": copied}).status_code == 200
    gone = served.client.delete("/v1/session", headers={"Cookie": copied} | PAGE)
    assert gone.status_code == 204
    assert_problem(served.client.get("/admin/keys", headers={"Cookie": copied}), 401)
    assert_problem(served.client.get("/v1/session", headers={"Cookie": copied}), 401)
    # Another browser of the same key stays where it is.
    assert served.client.get("/admin/keys", headers={"Cookie": other}).status_code == 200


def test_a_key_is_taken_from_the_header_alone(served: Served) -> None:
    """Keys in addresses end in logs, histories and Referer headers: we take none from there, so
    that nobody gets used to it."""
    key = served.admin["Authorization"].removeprefix("Bearer ")
    for query in ("key", "api_key", "apikey", "token", "access_token", "authorization"):
        got = served.client.get(f"/admin/keys?{query}={key}")
        assert_problem(got, 401)
        assert key not in got.text
    for name in ("X-API-Key", "Api-Key", "Cookie", "X-Auth-Token", "Proxy-Authorization"):
        assert_problem(served.client.get("/admin/keys", headers={name: key}), 401)
    sessions = {"twofold_session": key, "session": key}
    for name, value in sessions.items():
        cookie = {"Cookie": f"{name}={value}"}
        assert_problem(served.client.get("/admin/keys", headers=cookie), 401)
    for path in ("/", "/admin"):
        page = served.client.get(path)
        assert page.headers["referrer-policy"] == "no-referrer"


def test_signing_in_leads_nowhere_else(served: Served) -> None:
    """Open redirect: `?next=https://evil.example` after a sign-in. We redirect nobody."""
    key = served.admin["Authorization"].removeprefix("Bearer ")
    for name in ("next", "url", "redirect", "redirect_uri", "return_to", "continue", "rd"):
        for aim in ("https://evil.example", "//evil.example", "/\\evil.example", "%0d%0aX: y"):
            for path in ("/", "/admin", "/v1/session"):
                got = served.client.get(f"{path}?{name}={aim}", follow_redirects=False)
                assert got.status_code in (200, 401)
                assert "location" not in got.headers
                assert "evil.example" not in got.text
            got = served.client.post(
                f"/v1/session?{name}={aim}",
                json={"key": key},
                headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"},
                follow_redirects=False,
            )
            served.client.cookies.clear()
            assert got.status_code == 200
            assert "location" not in got.headers
            assert "domain" not in got.headers["set-cookie"].casefold()
    things = things_of_ada(served)
    for route in routes(served):
        got = served.client.request(
            route.method,
            route.url(things),
            json=route.body,
            headers=served.user | {"Host": "evil.example"},
            follow_redirects=False,
        )
        assert got.status_code not in range(300, 400)
        assert "evil.example" not in str(got.headers)


def test_the_time_an_answer_takes_does_not_tell_whether_a_prefix_is_known(settings) -> None:
    """Keys found by their prefix and compared only where the prefix is right: the time tells
    which prefixes there are. That both take the same steps is shown in test_key_ring.py; here
    the two are timed, alternately, and must not be told apart by more than the noise."""
    many = settings.model_copy(update={"failed_sign_ins_per_minute_per_address": 100_000})
    with serving(many, teach=False) as served:
        key = served.user["Authorization"].removeprefix("Bearer ")
        assert served.client.get("/v1/session", headers=served.user).status_code == 200
        right, unknown = key.split("_")[1], "Zz9Zz9Zz"
        took: dict[str, list[float]] = {right: [], unknown: []}
        for number in range(60):
            for prefix in (right, unknown) if number % 2 else (unknown, right):
                header = {"Authorization": f"Bearer {_forged(prefix, number)}"}
                start = time.perf_counter()
                assert served.client.get("/v1/session", headers=header).status_code == 401
                took[prefix].append(time.perf_counter() - start)
        ours, theirs = (statistics.median(one) for one in took.values())
        assert 0.5 < ours / theirs < 2.0


def test_a_wrong_key_is_not_told_apart_from_one_that_was_revoked_or_never_was(
    served: Served,
) -> None:
    """Different messages for unknown, wrong and revoked keys are a list of keys."""
    made = served.client.post("/admin/keys", json={"name": "x"}, headers=served.admin).json()
    served.client.delete(f"/admin/keys/{made['id']}", headers=served.admin)
    right = served.user["Authorization"].split("_")[1]
    answers = set()
    for key in (made["key"], _forged(right, 1), _forged("Zz9Zz9Zz", 1), "tf_x", "x"):
        got = served.client.get("/v1/session", headers={"Authorization": f"Bearer {key}"})
        request_id = got.headers["x-request-id"]
        answers.add((got.status_code, got.text.replace(request_id, "-")))
        got = served.client.post("/v1/session", json={"key": key})
        answers.add((got.status_code, got.text.replace(got.headers["x-request-id"], "-")))
    assert len(answers) == 1


def test_on_https_no_subdomain_and_no_plain_http_can_plant_a_session(settings) -> None:
    """Cookie tossing: a cookie of the same name, set by a neighbour."""
    secure = settings.model_copy(update={"secure_cookies": True})
    with serving(secure, teach=False) as served:
        got = served.client.post("/v1/session", json={})
        sent = got.headers["set-cookie"]
        assert sent.startswith("__Host-twofold_session=")
        assert {"secure", "path=/", "httponly", "samesite=strict"} <= {
            part.strip().casefold() for part in sent.split(";")
        }
        value = sent.split(";")[0].partition("=")[2]
        served.client.cookies.clear()
        plain = {"Cookie": f"twofold_session={value}"}
        assert_problem(served.client.get("/v1/session", headers=plain), 401)
        real = {"Cookie": f"__Host-twofold_session={value}"}
        assert served.client.get("/v1/session", headers=real).status_code == 200


def test_a_session_over_https_is_for_https_even_where_nobody_set_it_so(served: Served) -> None:
    got = served.client.post("https://testserver/v1/session", json={})
    sent = got.headers["set-cookie"]
    assert "secure" in {part.strip().casefold() for part in sent.split(";")}


def _guest(served: Served) -> dict[str, str]:
    cookie = served.client.post("/v1/session", json={}).headers["set-cookie"].split(";")[0]
    served.client.cookies.clear()
    return {"Cookie": cookie} | PAGE


def _signed_in(served: Served, headers: dict[str, str]) -> str:
    key = headers["Authorization"].removeprefix("Bearer ")
    got: Any = served.client.post("/v1/session", json={"key": key})
    served.client.cookies.clear()
    return str(got.headers["set-cookie"].split(";")[0])


def _forged(prefix: str, number: int) -> str:
    from app.database.api_keys import _checksum

    key = f"tf_{prefix}_{number:032d}"
    return key + _checksum(key)

"""Who may do what: keys, sessions, scopes."""

import zlib
from string import ascii_letters, digits

from fastapi.testclient import TestClient
from itsdangerous import URLSafeTimedSerializer

from tests.integration.conftest import Served, serving
from tests.integration.routes import assert_problem, routes, table_contents, things_of_ada

OPEN = {
    ("POST", "/v1/session"),
    ("DELETE", "/v1/session"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
}
FOR_BROWSERS = {"/", "/admin", "/static", "/openapi.json"}
EVERY_SCOPE = ["admin:read", "admin:write", "chat"]
COOKIE = "twofold_session"
PAGE = {"X-Twofold-Page": "1"}


def test_without_credentials_only_the_open_routes_answer(served: Served) -> None:
    things = things_of_ada(served)
    for route in routes(served):
        got = served.client.request(route.method, route.url(things), json=route.body)
        if (route.method, route.path) in OPEN:
            assert got.status_code in (200, 204, 401), route
            continue
        assert assert_problem(got, 401)["code"] == "not_authenticated", route
        assert got.headers["www-authenticate"] == "Bearer"


def test_what_is_not_in_the_api_document_is_for_browsers_and_carries_no_data(
    served: Served,
) -> None:
    documented = {route.path for route in routes(served)}
    declared = {one.path for one in served.client.app.state.declared}
    assert declared - documented == FOR_BROWSERS


def test_a_user_may_not_do_what_admins_do(served: Served) -> None:
    things = things_of_ada(served)
    before = table_contents(served)
    refused = [route for route in routes(served) if route.is_admin]
    for route in refused:
        got = served.client.request(
            route.method, route.url(things), json=route.body, headers=served.user
        )
        assert assert_problem(got, 403)["code"] == "not_allowed", route
    assert len(refused) > 20
    assert table_contents(served) == before


def test_an_admin_may_do_what_users_do(served: Served) -> None:
    conversation = served.conversation(served.admin)
    got = served.client.get(f"/v1/conversations/{conversation}", headers=served.admin)
    assert got.status_code == 200


def test_only_a_whole_living_key_of_ours_is_taken(served: Served) -> None:
    key = served.user["Authorization"].removeprefix("Bearer ")
    wrong = [
        "Bearer",
        "Bearer ",
        f"Basic {key}",
        f"Bearer {key}x",
        f"Bearer {key[:-1]}",
        f"Bearer {key.swapcase()}",
        f"Bearer {_with_another_secret(key)}",
        f"Bearer {key} {key}",
        key,
        "Bearer tf__",
        "Bearer tf_a_b_c",
        "Bearer null",
        "Bearer ' OR 1=1 --",
        b"Bearer tf_\xff\xfe_\x80",
        b"Bearer \x00",
        "Bearer " + "x" * 20_000,
    ]
    for value in wrong:
        got = served.client.get("/v1/assistant", headers={"Authorization": value})
        assert assert_problem(got, 401)["code"] == "not_authenticated", value
        started = served.client.post("/v1/session", json={"key": str(value)[7:190] or "x"})
        assert_problem(started, 401)
    for value in (f"bearer {key}", f"BEARER  {key} "):
        got = served.client.get("/v1/assistant", headers={"Authorization": value})
        assert got.status_code == 200


def test_a_key_is_shown_once_and_never_stored(served: Served) -> None:
    made = served.client.post("/admin/keys", json={"name": "till"}, headers=served.admin)
    assert made.status_code == 201
    key = made.json()["key"]
    works = served.client.get("/v1/assistant", headers={"Authorization": f"Bearer {key}"})
    assert works.status_code == 200
    secret = key.split("_")[2]
    listed = served.client.get("/admin/keys", headers=served.admin)
    shown = next(one for one in listed.json()["items"] if one["id"] == made.json()["id"])
    assert "key" not in shown
    for place in (listed.text, repr(table_contents(served))):
        assert shown["prefix"] in place
        assert secret not in place
        assert secret[:-6] not in place  # the same without its checksum


def test_a_key_has_the_scope_it_was_made_with(served: Served) -> None:
    for named, has, read, write, chat in (
        (["user"], ["chat"], 403, 403, 200),
        (["admin"], ["admin:read", "admin:write", "chat"], 200, 201, 200),
        (["chat", "admin:read"], ["admin:read", "chat"], 200, 403, 200),
        (["admin:read"], ["admin:read"], 200, 403, 403),
        (["admin:write"], ["admin:read", "admin:write"], 200, 201, 403),
    ):
        made = served.client.post(
            "/admin/keys", json={"name": "x", "scopes": named}, headers=served.admin
        ).json()
        headers = {"Authorization": f"Bearer {made['key']}"}
        assert made["scopes"] == has
        assert served.client.get("/v1/session", headers=headers).json()["scopes"] == has
        assert served.client.get("/admin/keys", headers=headers).status_code == read
        another = served.client.post("/admin/keys", json={"name": "y"}, headers=headers)
        assert another.status_code == write
        assert served.client.get("/v1/conversations", headers=headers).status_code == chat
    plain = served.client.post("/admin/keys", json={"name": "x"}, headers=served.admin).json()
    assert plain["scopes"] == ["chat"]
    for wrong in ([], ["god"], ["chat"] * 6, "chat", None, [1]):
        body = {"name": "x", "scopes": wrong}
        assert_problem(served.client.post("/admin/keys", json=body, headers=served.admin), 422)


def test_a_revoked_key_and_its_sessions_end_at_once(served: Served) -> None:
    made = served.client.post("/admin/keys", json={"name": "till"}, headers=served.admin).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    with _browser(served) as browser:
        assert browser.post("/v1/session", json={"key": made["key"]}).status_code == 200
        assert browser.get("/v1/assistant").status_code == 200
        assert served.client.get("/v1/assistant", headers=headers).status_code == 200
        url = f"/admin/keys/{made['id']}"
        assert served.client.delete(url, headers=served.admin).status_code == 204
        assert_problem(served.client.get("/v1/assistant", headers=headers), 401)
        assert_problem(browser.get("/v1/assistant"), 401)
        assert_problem(browser.post("/v1/session", json={"key": made["key"]}), 401)
        assert_problem(served.client.delete(url, headers=served.admin), 404)


def test_a_session_has_the_rights_and_the_data_of_its_key(served: Served) -> None:
    conversation = served.conversation()
    with _browser(served) as browser:
        key = served.user["Authorization"].removeprefix("Bearer ")
        started = browser.post("/v1/session", json={"key": f" {key} "})
        expected = {"scopes": ["chat"], "name": "ada", "guest": False}
        assert started.json() == browser.get("/v1/session").json() == expected
        assert browser.get(f"/v1/conversations/{conversation}").status_code == 200
        assert_problem(browser.get("/admin/keys"), 403)
        key = served.admin["Authorization"].removeprefix("Bearer ")
        assert browser.post("/v1/session", json={"key": key}).json()["scopes"] == EVERY_SCOPE
        assert browser.get("/admin/keys").status_code == 200
        assert_problem(browser.get(f"/v1/conversations/{conversation}"), 404)


def test_signing_out_ends_the_session_in_this_browser(served: Served) -> None:
    with _browser(served) as browser:
        browser.post("/v1/session", json={})
        assert browser.delete("/v1/session").status_code == 204
        assert COOKIE not in browser.cookies
        assert_problem(browser.get("/v1/session"), 401)


def test_every_guest_has_a_conversation_list_of_their_own(served: Served) -> None:
    with _browser(served) as one, _browser(served) as another:
        for browser in (one, another):
            got = browser.post("/v1/session", json={})
            assert got.json() == {"scopes": ["chat"], "name": "guest", "guest": True}
        made = one.post("/v1/conversations", json={}, headers=PAGE).json()
        assert one.get("/v1/conversations").json()["items"] == [made]
        assert another.get("/v1/conversations").json()["items"] == []
        assert_problem(one.get("/admin/keys"), 403)


def test_guests_are_let_in_only_where_the_server_says_so(settings) -> None:
    with serving(settings) as served, _browser(served) as browser:
        browser.post("/v1/session", json={})
        cookie = browser.cookies[COOKIE]
    closed = settings.model_copy(update={"guests": False})
    with serving(closed, teach=False) as served, _browser(served) as browser:
        assert assert_problem(browser.post("/v1/session", json={}), 403)["code"] == "no_guests"
        assert COOKIE not in browser.cookies
        assert_problem(_with_cookie(served, cookie), 401)  # from the days when they were


def test_with_a_cookie_every_change_needs_the_header_of_our_pages(served: Served) -> None:
    things = things_of_ada(served)
    with _browser(served) as browser:
        key = served.admin["Authorization"].removeprefix("Bearer ")
        browser.post("/v1/session", json={"key": key})
        before = table_contents(served)
        for route in routes(served):
            if route.method == "GET" or route.path == "/v1/session":
                continue
            got = browser.request(route.method, route.url(things), json=route.body)
            assert assert_problem(got, 403)["code"] == "csrf", route
        assert table_contents(served) == before
        assert browser.post("/v1/conversations", json={}, headers=PAGE).status_code == 201


def test_scripts_and_other_sites_cannot_get_at_the_cookie(settings) -> None:
    for secure in (False, True):
        changed = settings.model_copy(update={"secure_cookies": secure})
        with serving(changed, teach=False) as served, _browser(served) as browser:
            sent = browser.post("/v1/session", json={}).headers["set-cookie"]
            flags = {part.strip().casefold() for part in sent.split(";")[1:]}
            assert {"httponly", "samesite=strict", "path=/"} <= flags
            assert ("secure" in flags) is secure
            assert not any(flag.startswith("domain") for flag in flags)


def test_a_forged_or_altered_cookie_is_no_session(served: Served) -> None:
    with _browser(served) as browser:
        browser.post("/v1/session", json={})
        cookie = browser.cookies[COOKIE]
    assert _with_cookie(served, cookie).status_code == 200
    body, stamp, signature = cookie.split(".")
    admin_id = served.client.get("/admin/keys", headers=served.admin).json()["items"][0]["id"]
    forger = URLSafeTimedSerializer(b"guessed" * 8, salt="twofold-session")
    other_salt = URLSafeTimedSerializer(served.services.secret, salt="something-else")
    stolen_body = forger.dumps(f"key:{admin_id}").split(".")[0]
    for forged in (
        forger.dumps(f"key:{admin_id}"),
        other_salt.dumps(f"key:{admin_id}"),
        f"{stolen_body}.{stamp}.{signature}",
        f"{body}.{stamp.swapcase()}.{signature}",
        f"{body}.{stamp}.{signature[::-1]}",
        f"{body}.{stamp}.",
        body,
        "",
        "....",
        "x" * 4000,
        "%00%ff",
    ):
        assert_problem(_with_cookie(served, forged), 401)


def test_a_key_in_the_header_counts_more_than_a_cookie(served: Served) -> None:
    with _browser(served) as browser:
        browser.post("/v1/session", json={})
        got = browser.get("/v1/session", headers=served.admin)
        assert got.json()["scopes"] == EVERY_SCOPE
        refused = browser.get("/v1/session", headers={"Authorization": "Bearer tf_wrong"})
        assert_problem(refused, 401)


def _browser(served: Served) -> TestClient:
    """Another client of the same server, with a cookie jar of its own."""
    return _Browser(served.client)


class _Browser(TestClient):
    def __init__(self, client: TestClient) -> None:
        super().__init__(client.app, raise_server_exceptions=False)
        self.portal = client.portal  # the server runs already, in that client's thread

    def __enter__(self) -> "_Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.portal = None
        self.close()


def _with_cookie(served: Served, cookie: str):
    return served.client.get("/v1/session", headers={"Cookie": f"{COOKIE}={cookie}"})


def _with_another_secret(key: str) -> str:
    """Well formed, checksum and all, but not the one we gave."""
    prefix = key.split("_")[1]
    forged = f"tf_{prefix}_{'a' * 32}"
    value, checksum = zlib.crc32(forged.encode()), ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        checksum += (ascii_letters + digits)[digit]
    return forged + checksum

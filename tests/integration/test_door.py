"""Deny by default: what declares no scope does not start, and cannot be reached."""

from collections.abc import Callable

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.staticfiles import StaticFiles
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.websockets import WebSocketDisconnect

from app.api.auth import admin, everybody, user
from app.api.door import declared_routes
from app.errors import ConfigurationError
from app.main import create_app
from tests.integration.conftest import Served, serving
from tests.integration.routes import assert_problem


async def endpoint() -> str:
    return "reached"


async def answer(request: object) -> PlainTextResponse:
    return PlainTextResponse("reached")


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("reached")


def nested() -> APIRouter:
    inner, outer = APIRouter(), APIRouter()
    inner.get("/forgotten")(endpoint)
    outer.include_router(inner, prefix="/x")
    return outer


def application() -> FastAPI:
    mounted = FastAPI()
    mounted.get("/forgotten", dependencies=[Depends(everybody)])(endpoint)
    return mounted


FORGOTTEN: dict[str, Callable[[FastAPI], object]] = {
    "a route": lambda app: app.get("/x/forgotten")(endpoint),
    "a route of a router in a router": lambda app: app.include_router(nested()),
    "a plain Starlette route": lambda app: app.add_route("/x/forgotten", answer),
    "one put into the list of routes": lambda app: app.router.routes.insert(
        0, Route("/x/forgotten", answer)
    ),
    "a mounted application": lambda app: app.mount("/x", application()),
    "a mounted function": lambda app: app.router.routes.append(Mount("/x", answer)),
    "mounted files": lambda app: app.mount("/x", StaticFiles(directory=".")),
    "a mount of everything": lambda app: app.router.routes.insert(0, Mount("", application())),
    "a WebSocket": lambda app: app.add_api_websocket_route("/x/forgotten", socket),
    "an included router with a mount": lambda app: app.include_router(
        APIRouter(routes=[Mount("/x", application())])
    ),
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_a_server_with_a_route_of_no_scope_does_not_start(settings, monkeypatch, what) -> None:
    app = create_app(settings)
    FORGOTTEN[what](app)
    with pytest.raises(ConfigurationError, match="declares no scope"), TestClient(app):
        pass

    from app import main

    router = APIRouter()
    router.get("/forgotten")(endpoint)
    monkeypatch.setattr(main, "ROUTERS", (*main.ROUTERS, router))
    with pytest.raises(ConfigurationError, match="/forgotten declares no scope"):
        create_app(settings)


@pytest.mark.parametrize("what", FORGOTTEN)
def test_what_is_added_to_a_running_server_cannot_be_reached(settings, what) -> None:
    with serving(settings, teach=False) as served:
        FORGOTTEN[what](served.client.app)
        for headers in ({}, served.admin):
            for path in ("/x/forgotten", "/x/forgotten/", "/x/README.md", "/x"):
                got = served.client.get(path, headers=headers)
                assert "reached" not in got.text
                assert assert_problem(got, 404)["code"] == "not_found"
        with pytest.raises(WebSocketDisconnect), served.client.websocket_connect("/x/forgotten"):
            pass
        if what != "a mount of everything":
            assert served.client.get("/livez").status_code == 200


def test_a_method_added_to_an_address_of_a_running_server_cannot_be_reached(settings) -> None:
    with serving(settings, teach=False) as served:
        served.client.app.router.routes.insert(
            0, Route("/v1/assistant", answer, methods=["GET", "TRACE", "PURGE"])
        )
        got = served.client.request("PURGE", "/v1/assistant", headers=served.admin)
        assert_problem(got, 405)
        assert got.headers["allow"] == "GET"
        # The address is still what it was declared to be: the key is asked for first.
        assert_problem(served.client.get("/v1/assistant"), 401)


def test_a_route_is_held_to_what_it_declares_twice(settings) -> None:
    """Even if the door found another line of its list, the route itself asks again."""
    with serving(settings, teach=False) as served:
        app = served.client.app
        everyone = [one for one in app.state.declared if one.path == "/livez"]
        wide_open = [
            one.__class__(one.path, one.pattern, one.methods, "everybody")
            for one in app.state.declared
        ]
        app.state.declared = everyone + wide_open
        assert_problem(served.client.get("/admin/keys"), 401)
        assert_problem(served.client.get("/v1/conversations"), 401)


def test_of_two_declarations_the_stricter_one_counts() -> None:
    app, router = FastAPI(openapi_url=None, docs_url=None, redoc_url=None), APIRouter()
    router.get("/both", dependencies=[Depends(everybody), Depends(admin)])(endpoint)
    router.get("/other", dependencies=[Depends(user), Depends(everybody)])(endpoint)
    app.include_router(router, prefix="/x", dependencies=[Depends(everybody)])
    assert [(one.path, one.who) for one in declared_routes(app)] == [
        ("/x/both", "admin"),
        ("/x/other", "user"),
    ]


def test_an_address_is_right_or_absent(served: Served) -> None:
    """No redirect to a tidier address: a Location made of the Host header leads anywhere."""
    for path in (
        "/v1/conversations/",
        "/v1//conversations",
        "http://testserver//evil.example/",
        "/admin/",
        "/V1",
    ):
        got = served.client.get(
            path, headers=served.user | {"Host": "evil.example"}, follow_redirects=False
        )
        assert_problem(got, 404)
        assert "location" not in got.headers


def test_credentials_are_asked_for_before_a_body_is_read(served: Served) -> None:
    for headers in ({}, {"Authorization": "Bearer tf_wrong"}):
        path = f"/v1/conversations/{'0' * 32}/turns"
        got = served.client.post(
            path, content=b"{", headers=headers | {"Content-Type": "application/json"}
        )
        assert_problem(got, 401)  # not 400: nobody has looked at the body


def test_the_api_document_says_which_scope_each_operation_needs(served: Served) -> None:
    document = served.client.get("/openapi.json").json()
    paths = document["paths"]
    assert paths["/admin/keys"]["get"]["security"][0] == {"key": ["admin:read"]}
    assert paths["/admin/keys"]["post"]["security"][0] == {"key": ["admin:write"]}
    assert paths["/v1/conversations"]["post"]["security"][0] == {"key": ["chat"]}
    assert paths["/v1/session"]["get"]["security"][0] == {"key": []}
    assert paths["/livez"]["get"]["security"] == []
    for operations in paths.values():
        assert all("security" in operation for operation in operations.values())

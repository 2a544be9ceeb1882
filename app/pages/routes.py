"""Serves the two pages and their static files. All are public and carry no data:
the scripts fetch it from the API with the session's cookie."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from starlette.responses import Response
from starlette.types import Scope

from app.api.auth import everybody
from app.api.door import documented

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

PAGE_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        # The file names carry no version: browsers ask each time, and mostly hear 304.
        "Cache-Control": "no-cache",
    }
)

router = APIRouter(include_in_schema=False, dependencies=[Depends(everybody)])


@router.get("/")
async def chat_page(request: Request) -> HTMLResponse:
    return _templates.TemplateResponse(request, "chat.html", headers=PAGE_HEADERS)


@router.get("/admin")
async def admin_page(request: Request) -> HTMLResponse:
    return _templates.TemplateResponse(request, "admin.html", headers=PAGE_HEADERS)


@router.get("/openapi.json")
async def openapi(request: Request) -> JSONResponse:
    return JSONResponse(documented(request.app))


def mount_static(app: FastAPI) -> None:
    """Add `/static` to the server; the pages come with `router`."""
    app.mount("/static", _PageFiles(directory=_HERE / "static"), name="static")


class _PageFiles(StaticFiles):
    open_to_everybody = True  # for app/api/door.py, which lets nothing pass that does not say so

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(PAGE_HEADERS)
        return response


_HERE = Path(__file__).parent
_templates = Jinja2Templates(directory=_HERE / "templates")

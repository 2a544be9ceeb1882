"""Every request gets an id; every response says it, and forbids what browsers need not do."""

import asyncio
import time
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger("http")

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class BodyLimitMiddleware:
    """413 for a body that is too large, 408 for one that is too slow, 415 for a compressed one
    (a few bytes can unpack to gigabytes); told like any other error: Starlette's own limit
    answers in plain text, before our handlers are asked."""

    def __init__(self, app: ASGIApp, most_bytes: int, most_seconds: float) -> None:
        self.app = app
        self.most_bytes = most_bytes
        self.most_seconds = most_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "")
        too_large = announced.isdecimal() and int(announced[:20]) > self.most_bytes
        encoded = headers.get("content-encoding", "identity").strip().casefold() != "identity"
        deadline = asyncio.get_running_loop().time() + self.most_seconds
        received = 0
        whole = False

        async def receive_within_limit() -> Message:
            nonlocal received, whole
            if whole:
                return await receive()  # tells when the client leaves: that may take its time
            if too_large:
                raise HTTPException(413)
            if encoded:
                raise HTTPException(415, "send the body as it is, without a Content-Encoding")
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                late = {"Connection": "close"}
                raise HTTPException(408, "the body took too long", late) from None
            received += len(message.get("body", b""))
            if received > self.most_bytes:
                raise HTTPException(413)
            whole = not message.get("more_body", False)
            return message

        await self.app(scope, receive_within_limit, send)


class RequestIdMiddleware:
    """Logs method, route, status and milliseconds; never an address as it was sent, a query, a
    header or a body: people put keys and words into all of them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        start = time.perf_counter()
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_headers)
            finally:
                log.debug(
                    "request",
                    method=scope["method"],
                    path=scope.get("route_path", ""),
                    status=status,
                    milliseconds=round((time.perf_counter() - start) * 1000, 2),
                )

"""A small HTTP client: it must notice what others smooth over, a reply that breaks off."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


class Broken(Exception):
    """The connection ended before the reply did; nobody knows what became of the request."""


@dataclass
class Response:
    status: int
    headers: Mapping[str, str]
    _reader: asyncio.StreamReader = field(repr=False)

    async def json(self) -> Any:
        content = b"".join([chunk async for chunk in self._chunks()])
        return json.loads(content) if content else None

    async def events(self) -> AsyncGenerator[tuple[str, str | None, Any]]:
        """(name, id, data) of each server-sent event; Broken when the stream was cut."""
        buffered = b""
        async for chunk in self._chunks():
            *blocks, buffered = (buffered + chunk).split(b"\n\n")
            for block in blocks:
                fields = dict(
                    line.split(": ", 1) for line in block.decode().splitlines() if ": " in line
                )
                if "event" in fields:
                    yield fields["event"], fields.get("id"), json.loads(fields["data"])

    async def _chunks(self) -> AsyncGenerator[bytes]:
        try:
            if self.headers.get("transfer-encoding") == "chunked":
                while size := int(await self._reader.readuntil(b"\r\n"), 16):
                    yield (await self._reader.readexactly(size + 2))[:-2]
            elif length := int(self.headers.get("content-length", 0)):
                yield await self._reader.readexactly(length)
        except (OSError, EOFError, ValueError) as error:
            raise Broken from error


@asynccontextmanager
async def request(
    port: int,
    method: str,
    path: str,
    *,
    key: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = 30.0,
) -> AsyncGenerator[Response]:
    """`seconds`: until the reply begins. Raises Broken."""
    content = b"" if body is None else json.dumps(body).encode()
    fields = {
        "Host": "proof",
        "Authorization": f"Bearer {key}",
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        **(headers or {}),
    }
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
    writer: asyncio.StreamWriter | None = None
    try:
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
                writer.write(head.encode() + b"\r\n" + content)
                await writer.drain()
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        except (OSError, EOFError, TimeoutError) as error:
            raise Broken from error
        pairs = (line.split(": ", 1) for line in lines if line)
        answered = {name.casefold(): value for name, value in pairs}
        yield Response(int(first.split(" ", 2)[1]), answered, reader)
    finally:
        if writer is not None:
            writer.transport.abort()


async def call(port: int, method: str, path: str, **options: Any) -> tuple[int, Any]:
    """Status and JSON. Raises Broken."""
    async with request(port, method, path, **options) as response:
        return response.status, await response.json()

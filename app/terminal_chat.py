"""A chat in the terminal, over the same HTTP API as everybody's."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2
from rich.console import Console

from app.errors import InvalidInput, Unavailable

HELP = "Type a message; an empty line or Ctrl-D ends the chat."


def run(url: str, key: str) -> None:
    console = Console(highlight=False)
    headers = {"x-twofold-page": "1"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    try:
        with httpx2.Client(base_url=url, headers=headers, timeout=120) as client:
            if not key:
                _checked(client.post("/v1/session", json={}))
            face = _checked(client.get("/v1/assistant"))
            console.print(f"[bold]{face['name']}[/bold]: {face['greeting']}\n[dim]{HELP}[/dim]")
            conversation = _checked(client.post("/v1/conversations", json={}))["id"]
            while text := _ask(console):
                _turn(client, console, conversation, text, face["name"])
    except httpx2.TransportError as error:
        raise Unavailable(f"no server answers at {url}; start one with `twofold serve`") from error


def _ask(console: Console) -> str:
    try:
        return console.input("[bold cyan]you[/bold cyan]: ").strip()
    except (EOFError, KeyboardInterrupt):
        return ""


def _turn(client: httpx2.Client, console: Console, conversation: str, text: str, name: str) -> None:
    headers = {"Accept": "text/event-stream", "Idempotency-Key": uuid4().hex}
    path = f"/v1/conversations/{conversation}/turns"
    with client.stream("POST", path, json={"text": text}, headers=headers) as response:
        if response.is_error:
            response.read()
            console.print(f"[red]{response.json()['detail']}[/red]")
            return
        console.print(f"[bold]{name}[/bold]: ", end="")
        for event, data in _events(response.iter_lines()):
            if event == "delta":
                console.print(data["text"], end="", markup=False)
            elif event in ("done", "failed"):
                console.print(f"\n[dim]{_aside(data['turn'])}[/dim]")


def _events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    event = ""
    for line in lines:
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield event, json.loads(line.removeprefix("data: "))


def _aside(turn: dict[str, Any]) -> str:
    decision, timing = turn["decision"] or {}, turn["timing"]
    parts = [decision.get("route", turn["status"]), decision.get("intent") or ""]
    if timing["total_ms"] is not None:
        parts.append(f"{timing['total_ms']:.1f} ms")
    parts += [f"from “{one['document']} › {one['title']}”" for one in turn["citations"][:1]]
    return " · ".join(part for part in parts if part)


def _checked(response: httpx2.Response) -> Any:
    if response.is_error:
        raise InvalidInput(str(response.json().get("detail", response.status_code)))
    return response.json()

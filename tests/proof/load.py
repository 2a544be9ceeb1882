"""Good clients: they keep what was acknowledged, and try again when a connection breaks.

What they have heard is the truth that the database is held against later (`checks`).
"""

import asyncio
import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tests.proof import http
from tests.proof.http import Broken

RETRY_SECONDS = 0.01
REFUSED_SECONDS = 0.1
FINAL = ("done", "failed", "cancelled")


class Refused(Exception):
    """429 or 503, or something unexpected: to be tried again, but not at once."""


class Gone(Exception):
    """404 for something that was acknowledged."""


@dataclass
class Said:
    """One utterance, and all that was heard of it."""

    owner: str
    conversation: str
    text: str
    key: str
    posted_at: float
    turn: str | None = None
    seq: int | None = None
    acknowledged_at: float | None = None
    final: Mapping[str, Any] | None = None
    """The turn as it was when somebody said that it was final."""
    streams: list[str] = field(default_factory=list)
    """The text of each stream that was heard to its end."""
    cancelled: bool = False
    """A cancellation of it was acknowledged while it was open."""
    contradictions: list[tuple[str, str]] = field(default_factory=list)
    """(kind, detail): where two answers about it do not agree."""

    def hear(self, turn: Mapping[str, Any]) -> None:
        """A turn in a reply is an acknowledgement: what it says has to stay true."""
        if self.turn is None:
            self.turn, self.seq = turn["id"], turn["seq"]
            self.acknowledged_at = time.monotonic()
        elif self.turn != turn["id"]:
            self.contradictions.append(("doubled", f"{self.key} is {self.turn} and {turn['id']}"))
        elif self.seq != turn["seq"]:
            self.contradictions.append(("out of order", f"{self.turn} has two numbers"))
        if turn["text"] != self.text:
            self.contradictions.append(("altered", f"{self.turn} has another text"))
        if turn["status"] in FINAL:
            seen = (turn["status"], turn["reply"])
            if self.final is not None and seen != (self.final["status"], self.final["reply"]):
                self.contradictions.append(("altered", f"{self.turn} has two ends"))
            self.final = turn


@dataclass
class Truth:
    """Everything that servers have acknowledged to anybody."""

    said: list[Said] = field(default_factory=list)
    conversations: dict[str, str] = field(default_factory=dict)
    """Id: owner."""
    jobs: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)
    """Id: how it ended, once that was told."""
    promotions: dict[int, int] = field(default_factory=dict)
    """Epoch: model version."""
    unexpected: list[str] = field(default_factory=list)
    """Replies that no server should have given."""
    refused: int = 0
    """Answered with 429 or 503, to be tried again."""


@dataclass
class Doors:
    """Where servers listen, and the keys of those who come in."""

    ports: Sequence[int]
    users: Mapping[str, str]
    """Owner: API key."""
    admin: str
    head_seconds: float = 30.0
    """A server that has not begun to answer by then is given up for another."""

    def any_port(self, draw: random.Random) -> int:
        return draw.choice(self.ports)


class Talkers:
    """`count` people who talk until they are told to stop, and then end what they have begun."""

    def __init__(
        self,
        doors: Doors,
        truth: Truth,
        seed: int,
        *,
        count: int = 8,
        words: int = 8,
        hasty: float = 0.3,
    ) -> None:
        """`hasty`: the share of utterances whose speaker does not wait for the reply."""
        self._doors = doors
        self._truth = truth
        self._stopping = asyncio.Event()
        self._draws = [random.Random(f"{seed} {number}") for number in range(count)]
        self._words = words
        self._hasty = hasty
        self._tasks: list[asyncio.Task[None]] = []
        self._count = 0

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._talk(draw)) for draw in self._draws]

    async def stop(self) -> None:
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    def move(self, doors: Doors) -> None:
        """From now on everybody goes there."""
        self._doors.ports = doors.ports

    async def _talk(self, draw: random.Random) -> None:
        while not self._stopping.is_set():
            owner = draw.choice(list(self._doors.users))
            conversation = await self._new_conversation(owner, draw)
            self._truth.conversations[conversation] = owner
            background: list[asyncio.Task[None]] = []
            for _ in range(draw.randint(6, 14)):
                if self._stopping.is_set():
                    break
                self._count += 1
                said = Said(
                    owner,
                    conversation,
                    self._text(draw),
                    f"proof-{uuid4().hex}",
                    time.monotonic(),
                )
                self._truth.said.append(said)
                visit = Visit(self._doors, self._truth, said, random.Random(draw.random()))
                if draw.random() < self._hasty:
                    background.append(asyncio.create_task(visit.make(draw.choice(_STREAMED))))
                    await visit.acknowledged.wait()
                else:
                    await visit.make(draw.choice(_MANNERS))
            await asyncio.gather(*background)

    def _text(self, draw: random.Random) -> str:
        if draw.random() < 0.35:
            return f"hello {self._count}"
        return f"say {draw.randint(3, self._words)} at {draw.choice((0.002, 0.01))} {self._count}"

    async def _new_conversation(self, owner: str, draw: random.Random) -> str:
        # Creation takes no key: one that breaks off may leave an empty conversation behind.
        while True:
            with suppress(Broken):
                status, body = await http.call(
                    self._doors.any_port(draw),
                    "POST",
                    "/v1/conversations",
                    key=self._doors.users[owner],
                    body={},
                    seconds=self._doors.head_seconds,
                )
                if status == 201:
                    return str(body["id"])
                _note_refusal(self._truth, status, body)
            await asyncio.sleep(RETRY_SECONDS)


class Visit:
    """One utterance, posted until it is acknowledged and followed until it is final."""

    def __init__(self, doors: Doors, truth: Truth, said: Said, draw: random.Random) -> None:
        self._doors = doors
        self._truth = truth
        self._said = said
        self._draw = draw
        self._heard = ""
        self._last_event: str | None = None
        self.acknowledged = asyncio.Event()

    async def make(self, manner: str) -> None:
        try:
            while self._said.final is None:
                try:
                    await getattr(self, f"_{manner}")()
                except Broken:
                    await asyncio.sleep(RETRY_SECONDS)
                except Refused:
                    await asyncio.sleep(REFUSED_SECONDS)
        except Gone:
            self._said.contradictions.append(("lost", f"{self._said.key}: acknowledged, and 404"))
        finally:
            self.acknowledged.set()

    async def _whole(self) -> None:
        await self._post_whole()

    async def _twice(self) -> None:
        """A client that loses patience and sends its request again while the first one runs."""
        outcomes = await asyncio.gather(
            self._post_whole(), self._post_whole(), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _resume(self) -> None:
        """Listens, and after a break goes on where it ended, at any replica."""
        if self._said.turn is None:
            await self._listen("POST", self._path, body={"text": self._said.text})
        else:
            position = {"Last-Event-ID": self._last_event} if self._last_event else {}
            await self._listen("GET", f"/v1/turns/{self._said.turn}/events", headers=position)

    async def _restream(self) -> None:
        """Listens, and after a break posts the same again and hears it from the start."""
        self._heard, self._last_event = "", None
        await self._listen("POST", self._path, body={"text": self._said.text})

    async def _poll(self) -> None:
        """Leaves as soon as the turn is accepted, and asks for it later."""
        if self._said.turn is None:
            await self._listen(
                "POST", self._path, body={"text": self._said.text}, until_accepted=True
            )
        status, body = await self._call("GET", f"/v1/turns/{self._said.turn}?wait=5")
        self._take(status, body)

    async def _cancel(self) -> None:
        await self._listen("POST", self._path, body={"text": self._said.text}, until_accepted=True)
        status, body = await self._call("POST", f"/v1/turns/{self._said.turn}/cancel", body={})
        self._take(status, body)
        self._said.cancelled = status == 200 and body["status"] == "cancelled"

    async def _post_whole(self) -> None:
        status, body = await self._call(
            "POST", self._path, body={"text": self._said.text}, headers=self._key
        )
        self._take(status, body)

    def _take(self, status: int, body: Any) -> None:
        if status in (200, 201, 202):
            self._said.hear(body)
            self.acknowledged.set()
            return
        if status == 404:
            raise Gone
        _note_refusal(self._truth, status, body)
        raise Refused

    async def _listen(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        until_accepted: bool = False,
    ) -> None:
        said = self._said
        async with http.request(
            self._doors.any_port(self._draw),
            method,
            path,
            key=self._doors.users[said.owner],
            body=body,
            headers={"Accept": "text/event-stream", **self._key, **(headers or {})},
            seconds=self._doors.head_seconds,
        ) as response:
            if response.status not in (200, 201):
                self._take(response.status, await response.json())
                return
            async for name, event_id, data in response.events():
                self._last_event = event_id or self._last_event
                match name:
                    case "accepted":
                        said.hear(data)
                        self.acknowledged.set()
                        if until_accepted:
                            return
                    case "reset":
                        self._heard = ""
                    case "delta":
                        if data["offset"] != len(self._heard):
                            said.contradictions.append(
                                ("stream differs", f"{said.turn} skips or repeats text")
                            )
                        self._heard = self._heard[: data["offset"]] + data["text"]
                    case "done" | "failed":
                        self._end(data)
                        return
        raise Broken  # a stream that ends without an end, as at a shutdown

    def _end(self, data: Any) -> None:
        said, turn = self._said, data["turn"]
        if turn is None:  # the server takes it for erased, and nobody here erases
            raise Gone
        said.hear(turn)
        self.acknowledged.set()
        said.streams.append(self._heard)
        if self._heard != (turn["reply"] or ""):
            said.contradictions.append(
                ("stream differs", f"{said.turn} {turn['status']}: {self._heard!r}")
            )
        if "sha256" in data and data["sha256"] != _sha256(self._heard):
            said.contradictions.append(("stream differs", f"{said.turn}: another hash"))

    async def _call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        return await http.call(
            self._doors.any_port(self._draw),
            method,
            path,
            key=self._doors.users[self._said.owner],
            seconds=self._doors.head_seconds,
            **options,
        )

    @property
    def _path(self) -> str:
        return f"/v1/conversations/{self._said.conversation}/turns"

    @property
    def _key(self) -> Mapping[str, str]:
        return {"Idempotency-Key": self._said.key}


_STREAMED = ("resume", "restream", "poll")
_MANNERS = ("whole", "twice", "resume", "restream", "poll", "resume", "cancel")


class Operator:
    """Trains and promotes, all the time, and keeps what was acknowledged."""

    def __init__(self, doors: Doors, truth: Truth, seed: int) -> None:
        self._doors = doors
        self._truth = truth
        self._draw = random.Random(f"{seed} operator")
        self._stopping = asyncio.Event()

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._train()), asyncio.create_task(self._promote())]

    async def stop(self) -> None:
        """Waits for the jobs that are under way."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def _train(self) -> None:
        open_jobs: list[str] = []
        while open_jobs or not self._stopping.is_set():
            with suppress(Broken):
                if len(open_jobs) < 3 and not self._stopping.is_set():
                    job = await self._ask("POST", "/admin/training-jobs", body={})
                    self._truth.jobs[job["id"]] = None
                    open_jobs.append(job["id"])
                for job_id in open_jobs:
                    try:
                        job = await self._ask("GET", f"/admin/training-jobs/{job_id}")
                    except Gone:
                        self._truth.jobs[job_id] = {"status": "gone"}  # the check will miss it
                        continue
                    if job["status"] not in ("queued", "running"):
                        self._truth.jobs[job_id] = job
                open_jobs = [one for one in open_jobs if self._truth.jobs[one] is None]
            await asyncio.sleep(0.02)

    async def _promote(self) -> None:
        while not self._stopping.is_set():
            with suppress(Broken, Gone):
                listed = await self._ask("GET", "/admin/model-versions")
                others = [one["number"] for one in listed["items"] if not one["live"]]
                if others:
                    number = self._draw.choice(others[:5])
                    live = await self._ask(
                        "POST",
                        f"/admin/model-versions/{number}/promote",
                        body={"expected_epoch": listed["epoch"]},
                    )
                    self._truth.promotions[live["epoch"]] = live["live"]
            await asyncio.sleep(0.05)

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        status, body = await http.call(
            self._doors.any_port(self._draw),
            method,
            path,
            key=self._doors.admin,
            seconds=self._doors.head_seconds,
            **options,
        )
        if status == 404:
            raise Gone
        if status >= 400:
            # 409: a promotion of ours was stored, but its reply was lost with the process.
            if status != 409:
                _note_refusal(self._truth, status, body)
            raise Broken
        return body


def _note_refusal(truth: Truth, status: int, body: Any) -> None:
    if status in (429, 503):
        truth.refused += 1
    else:
        code = body.get("code") if isinstance(body, dict) else body
        truth.unexpected.append(f"{status} {code}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

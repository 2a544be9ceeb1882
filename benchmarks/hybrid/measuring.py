"""What the benchmark of the hybrid measures at a running server."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, cycle
from statistics import mean
from typing import Any

from benchmarks.hybrid.figures import Choice, Cost, Generation, Message, Recording
from benchmarks.hybrid.service import Answer, Client, Service

AT_ONCE = 8
"""Generations; so many turns are posted together."""
TIMED = 400
"""Messages whose latency and CPU are measured, of each mix."""
CountTokens = Callable[[str], int]
Say = Callable[[str], None]


def record(
    service: Service,
    inside: Sequence[Message],
    outside: Sequence[Message],
    count_tokens: CountTokens,
    *,
    seconds: float,
    say: Say,
) -> Recording:
    """For as long as there is time, blocks of messages in and out of scope in turn, so that what
    else the machine does meets both alike. A block's CPU is divided evenly."""
    generations: list[Generation] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        post_all(service, inside[-AT_ONCE:], pool)  # loads the network, and is forgotten
        service.find_generator()
        until = time.monotonic() + seconds
        for start in range(0, min(len(inside), len(outside)) - AT_ONCE, AT_ONCE):
            for messages in (inside, outside):
                block = messages[start : start + AT_ONCE]
                answers, cpu_seconds = post_all(service, block, pool)
                each = cpu_seconds / len(block)
                generations += [
                    _generation(message, answer, each, count_tokens)
                    for message, answer in zip(block, answers, strict=True)
                ]
                say(f"{len(generations)} generated")
            if time.monotonic() > until:
                break
    return Recording(generations)


def post_all(
    service: Service, messages: Sequence[Message], pool: ThreadPoolExecutor
) -> tuple[list[Answer], float]:
    """Each in a conversation of its own; and the CPU seconds that they took together."""
    with _clients(service) as client:
        conversations = list(pool.map(lambda _: client().conversation(), messages))
        before = service.cpu_seconds()

        def post(place: str, message: Message) -> Answer:
            return client().turn(place, message.text)

        answers = list(pool.map(post, conversations, messages))
        return answers, service.cpu_seconds() - before


def _generation(
    message: Message, answer: Answer, cpu_seconds: float, count_tokens: CountTokens
) -> Generation:
    turn = answer.content
    if turn["decision"]["route"] != "generate":
        raise RuntimeError(f"a turn that was to be generated went {turn['decision']['route']}")
    return Generation(
        message,
        Cost(answer.seconds, cpu_seconds),
        first_piece_seconds=(turn["timing"]["first_piece_ms"] or 0.0) / 1000,
        tokens=count_tokens(turn["reply"] or ""),
        is_whole=turn["status"] == "done" and not turn["degraded"],
    )


@dataclass(frozen=True, slots=True)
class Measured:
    """One after another, by one client."""

    seconds: tuple[float, ...]
    cpu_seconds: float
    """A message."""

    @property
    def cost(self) -> Cost:
        return Cost(mean(self.seconds) if self.seconds else 0.0, self.cpu_seconds)


@dataclass(frozen=True, slots=True)
class Routed:
    choices: tuple[Choice, ...]
    measured: Measured
    is_certified: bool


def route_all(service: Service, messages: Sequence[Message]) -> Routed:
    """What POST /v1/route decides; it stores nothing. The first `TIMED` are asked one after
    another and measured, the others by several clients."""
    with _clients(service) as client, ThreadPoolExecutor(AT_ONCE) as pool:

        def ask(message: Message) -> Answer:
            return client().post("/v1/route", {"text": message.text})

        answers, measured = _one_by_one(service, ask, messages[:TIMED])
        answers += pool.map(ask, messages[TIMED:])
    choices = tuple(
        Choice(
            is_instant=content["decision"]["route"] == "instant",
            intent=content["prediction"]["intent"],
            assurance=content["prediction"]["assurance"],
            asks_back=content["decision"]["route"] == "clarify",
        )
        for content in (answer.content for answer in answers)
    )
    certificate = answers[0].content["certificate"]
    return Routed(choices, measured, bool(certificate and certificate["certified"]))


def answer_instantly(
    service: Service, messages: Sequence[Message], choices: Sequence[Choice]
) -> tuple[Measured, int]:
    """Up to `TIMED` turns that were routed so; and how many of them came out otherwise."""
    routed = [(m, one) for m, one in zip(messages, choices, strict=True) if one.is_instant][:TIMED]
    client = service.client()
    place = client.conversation()

    def ask(message: Message) -> Answer:
        return client.turn(place, message.text)

    answers, measured = _one_by_one(service, ask, [message for message, _ in routed])
    client.close()
    got = [_route_and_intent(answer) for answer in answers]
    return measured, sum(
        one != ("instant", wanted.intent) for one, (_, wanted) in zip(got, routed, strict=True)
    )


def _route_and_intent(answer: Answer) -> tuple[str, str | None]:
    decision = answer.content["decision"]
    return decision["route"], decision["intent"]


def _one_by_one(
    service: Service, ask: Callable[[Message], Answer], messages: Sequence[Message]
) -> tuple[list[Answer], Measured]:
    before = service.cpu_seconds()
    answers = [ask(message) for message in messages]
    spent = service.cpu_seconds() - before
    seconds = tuple(answer.seconds for answer in answers)
    return answers, Measured(seconds, spent / max(1, len(messages)))


@dataclass(frozen=True, slots=True)
class Live:
    """A stream that was really answered, generator included, beside what the replay says."""

    messages: int
    routes: dict[str, int]
    live: Cost
    replayed: Cost


def answer_live(
    service: Service,
    messages: Sequence[Message],
    recording: Recording,
    *,
    instant: Cost,
    routing: Cost,
) -> Live:
    """All messages have been recorded. Who is asked back costs an instant turn here."""
    shuffled = random.Random(0).sample(messages, len(messages))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers, cpu_seconds = post_all(service, shuffled, pool)
    routes = [_route_and_intent(answer)[0] for answer in answers]
    replayed = [
        routing + recording.replay(message, 0).cost if route == "generate" else instant
        for message, route in zip(shuffled, routes, strict=True)
    ]
    return Live(
        messages=len(shuffled),
        routes={route: routes.count(route) for route in sorted(set(routes))},
        live=Cost(mean(answer.seconds for answer in answers), cpu_seconds / len(shuffled)),
        replayed=Cost(
            mean(cost.seconds for cost in replayed), mean(cost.cpu_seconds for cost in replayed)
        ),
    )


@dataclass(frozen=True, slots=True)
class UnderLoad:
    """Seconds of instant turns, one client."""

    idle: tuple[float, ...]
    busy: tuple[float, ...]
    generating: float
    """Generations under way when a busy turn began, a mean."""


def answer_under_load(
    service: Service,
    instant: Sequence[str],
    generated: Sequence[str],
    *,
    rounds: int,
    turns: int,
) -> UnderLoad:
    """Idle and with generations under way in turn."""
    client = service.client()
    place = client.conversation()
    texts = cycle(instant)

    def ask() -> float:
        answer = client.turn(place, next(texts))
        if _route_and_intent(answer)[0] != "instant":
            raise RuntimeError("a turn that was instant before is no longer")
        return answer.seconds

    idle: list[float] = []
    busy: list[float] = []
    generating: list[int] = []
    for _ in range(rounds):
        idle += [ask() for _ in range(turns)]
        with _generating(service, generated) as under_way:
            for _ in range(turns):
                generating.append(under_way())
                busy.append(ask())
    client.close()
    return UnderLoad(tuple(idle), tuple(busy), mean(generating))


@contextmanager
def _generating(service: Service, texts: Sequence[str]) -> Iterator[Callable[[], int]]:
    """`AT_ONCE` clients that post one turn after another, from when all of them have begun;
    returns how many turns are being answered."""
    enough = threading.Event()
    began = [threading.Event() for _ in range(AT_ONCE)]
    under_way = [False] * AT_ONCE

    def generate(number: int) -> None:
        client = service.client()

        def begun() -> None:
            under_way[number] = True
            began[number].set()

        try:
            for place in count(number, AT_ONCE):
                client.stream_turn(client.conversation(), texts[place % len(texts)], begun)
                under_way[number] = False
                if enough.is_set():
                    break
        finally:
            began[number].set()
            client.close()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        ends = [pool.submit(generate, number) for number in range(AT_ONCE)]
        for each in began:
            each.wait()
        try:
            yield lambda: sum(under_way)
        finally:
            enough.set()
    for end in ends:
        end.result()


@contextmanager
def _clients(service: Service) -> Iterator[Callable[[], Client]]:
    """One for each thread."""
    mine = threading.local()
    opened: list[Client] = []

    def client() -> Client:
        found: Any = getattr(mine, "client", None)
        if found is None:
            found = mine.client = service.client()
            opened.append(found)
        return found  # type: ignore[no-any-return]

    try:
        yield client
    finally:
        for each in opened:
            each.close()

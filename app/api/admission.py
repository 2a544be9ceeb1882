"""What one replica takes on at a time. Everything here is decided at once, from numbers in
memory: neither the request's body nor the database nor the classifier is waited for, so a
refusal costs a fraction of what it refuses.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from fastapi import Request

from app.api.principal import Principal
from app.api.rates import Rate
from app.database.database import Database
from app.errors import Overloaded, QuotaExceeded
from app.settings import Settings
from app.turn_places import TurnPlaces

Cost = Literal["turn", "listening", "signing_in", "always"]


async def turn() -> None:
    """Declares that a route posts a turn, or has one classified."""


async def listening() -> None:
    """Declares that a route may wait for something to happen."""


async def signing_in() -> None:
    """Declares that a route takes credentials from people who have none yet."""


async def always() -> None:
    """Declares that a route answers however full this replica is: load balancers ask it."""


COSTS: Mapping[Callable[..., Awaitable[Any]], Cost] = {
    turn: "turn",
    listening: "listening",
    signing_in: "signing_in",
    always: "always",
}


class Admission:
    def __init__(self, settings: Settings, database: Database, places: TurnPlaces) -> None:
        self._settings = settings
        self._database = database
        self._places = places
        self._requests = 0
        self._listeners = 0
        self._of_owner: Counter[str] = Counter()
        self._key_turns = Rate(settings.turns_per_minute_per_key)
        self._guest_turns = Rate(settings.turns_per_minute_per_guest)
        self._sessions = Rate(settings.sessions_per_minute_per_address)
        self._failures = Rate(settings.failed_sign_ins_per_minute_per_address)
        self.refused: Counter[str] = Counter()
        """How often, by the error's code: for metrics."""

    @property
    def requests(self) -> int:
        return self._requests

    @property
    def listeners(self) -> int:
        return self._listeners

    @contextmanager
    def request(self, costs: frozenset[Cost]) -> Iterator[None]:
        """One of all requests under way. Raises Overloaded."""
        if self._requests >= self._settings.max_requests and "always" not in costs:
            raise Overloaded("this server has more requests than it can answer")
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    @contextmanager
    def costs(
        self, costs: frozenset[Cost], request: Request, principal: Principal | None
    ) -> Iterator[None]:
        """What this request costs beyond that. Raises Overloaded or QuotaExceeded."""
        with ExitStack() as places:
            if principal is not None:
                places.enter_context(self._one_of(principal))
            if "signing_in" in costs:
                self._check_address(request)
            if "listening" in costs and _will_wait(request):
                places.enter_context(self._listener())
            if "turn" in costs and principal is not None:
                self._check_turn(principal)
            yield

    def sign_in_failed(self, request: Request) -> None:
        self._failures.take(address_of(request))

    @contextmanager
    def _one_of(self, principal: Principal) -> Iterator[None]:
        most = (
            self._settings.max_requests_per_guest
            if principal.is_guest
            else self._settings.max_requests_per_key
        )
        if self._of_owner[principal.owner] >= most:
            raise QuotaExceeded("too many of your requests are under way; wait for one to end")
        self._of_owner[principal.owner] += 1
        try:
            yield
        finally:
            self._of_owner[principal.owner] -= 1
            if not self._of_owner[principal.owner]:
                del self._of_owner[principal.owner]

    @contextmanager
    def _listener(self) -> Iterator[None]:
        if self._listeners >= self._settings.max_listeners:
            raise Overloaded("too many listeners; read the turn without waiting instead")
        self._listeners += 1
        try:
            yield
        finally:
            self._listeners -= 1

    def _check_address(self, request: Request) -> None:
        address = address_of(request)
        wait = self._failures.wait(address) or self._sessions.take(address)
        if wait:
            raise QuotaExceeded("too many sign-ins from your address", retry_after_seconds=wait)

    def _check_turn(self, principal: Principal) -> None:
        self._places.check(principal.owner)
        if self._database.waiting_writes >= self._settings.max_waiting_writes:
            raise Overloaded("the database cannot keep up; try again shortly")
        rate = self._guest_turns if principal.is_guest else self._key_turns
        wait = rate.take(principal.owner)
        if wait:
            raise QuotaExceeded("too many turns in a minute", retry_after_seconds=wait)


def address_of(request: Request) -> str:
    """As uvicorn tells it: behind a proxy it trusts, what that proxy says."""
    return request.client.host if request.client else ""


def _will_wait(request: Request) -> bool:
    return request.url.path.endswith("/events") or "wait" in request.query_params

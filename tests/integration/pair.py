"""The same server twice, on SQLite and on PostgreSQL, asked the same things."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.settings import Settings
from tests.integration.conftest import Served, serving

Ids = tuple[str, str]
"""Of one thing, on each of the two."""


class Pair:
    def __init__(self, served: Sequence[Served]) -> None:
        self.served = tuple(served)
        self.calls = 0

    def call(
        self,
        method: str,
        path: str,
        *,
        things: Mapping[str, str | Ids] | None = None,
        by: str | Sequence[Mapping[str, str]] | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        **request: Any,
    ) -> list[Any]:
        """Both responses, of one status. `things` fill the places in `path` and in `json`;
        `by`: "user", "other" or "admin", or the credentials for each."""
        got = []
        for place, one in enumerate(self.served):
            here = {
                name: value if isinstance(value, str) else value[place]
                for name, value in (things or {}).items()
            }
            credentials: Mapping[str, str] = {}
            if isinstance(by, str):
                credentials = getattr(one, by)
            elif by is not None:
                credentials = by[place]
            sent = dict(request)
            if callable(sent.get("json")):
                sent["json"] = sent["json"](here)
            got.append(
                one.client.request(
                    method,
                    path.format_map(here),
                    headers={**credentials, **(headers or {})},
                    **sent,
                )
            )
        self.calls += len(got)
        statuses = [one.status_code for one in got]
        assert len(set(statuses)) == 1, (statuses, method, path, [one.text[:300] for one in got])
        assert statuses[0] < 500, (method, path, got[0].text[:300])
        return got


@contextmanager
def pair(
    folder: Path, postgresql: Callable[[], str], *, make: Callable[[], Any] = lambda: None
) -> Iterator[Pair]:
    """`make` gives each server a generator of its own."""
    urls = f"sqlite:///{folder / 'twofold.db'}", postgresql()
    common = {
        "guests": True,
        "embedded_worker": False,
        "max_training_jobs_waiting": 1_000_000,
        "_env_file": None,
    }
    with (
        serving(
            Settings(database_url=urls[0], data_dir=folder / "sqlite", **common), make()
        ) as first,
        serving(
            Settings(database_url=urls[1], data_dir=folder / "postgresql", **common), make()
        ) as second,
    ):
        yield Pair((first, second))

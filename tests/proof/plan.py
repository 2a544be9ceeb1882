"""What a server process under proof is told: whom to serve, and where it is to break."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Beats:
    """Seconds. The product's own are longer; a proof would wait for most of its time."""

    lease: float = 1.0
    grow: float = 0.05
    renew: float = 0.25
    recover: float = 0.25
    poll: float = 0.05
    stalled: float = 1.0


@dataclass(frozen=True)
class Kill:
    """The process ends itself with SIGKILL when it passes `point` for the `passage`-th time."""

    point: str
    passage: int


@dataclass(frozen=True)
class Full:
    """While the disk is full (SIGUSR1 turns that on and off), every n-th write of this
    operation fails; `commit` is one, too."""

    operation: str
    every: int


@dataclass(frozen=True)
class Plan:
    url: str
    data_dir: str
    place: int = 0
    """Which of the zygote's listening sockets to serve on."""
    beats: Beats | None = field(default_factory=Beats)
    """None: the product's own."""
    kill: Kill | None = None
    fault: str | None = None
    full: tuple[Full, ...] = ()
    trains: bool = False
    tells_writes: bool = False
    """Report every write to a turn under way; needed to count those that come too late."""
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        value = json.loads(text)
        beats, kill, full = value.pop("beats"), value.pop("kill"), value.pop("full")
        return cls(
            **value,
            beats=Beats(**beats) if beats else None,
            kill=Kill(**kill) if kill else None,
            full=tuple(Full(**one) for one in full),
        )

"""What turns tasks into tokens inside the process of the local generator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from generator.local.causal_network import Task


@dataclass(frozen=True, slots=True)
class Progress:
    request_id: int
    tokens: tuple[int, ...] = ()
    """New ones."""
    end: Literal["finished", "cancelled", "failed"] | None = None
    """No further progress of this request."""
    error: str = ""


OnProgress = Callable[[Progress], None]


class Engine(Protocol):
    """Every added request gets exactly one end."""

    def add(self, request_id: int, task: "Task") -> None:
        """From any thread; does not wait."""
        ...

    def cancel(self, request_id: int) -> None:
        """From any thread, for a request that has been added and has not ended."""
        ...

    def run(self, on_progress: OnProgress) -> None:
        """Works until `close`. Raises what makes further work impossible."""
        ...

    def close(self) -> None: ...

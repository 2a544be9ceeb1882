"""A turn while it is being answered, and the people who listen to it."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from app.dialogue.turn import Reply, Turn
from app.errors import Unavailable
from generator.interface import Usage


@dataclass(eq=False)
class LiveTurn:
    """A turn this process is answering, and the people who listen."""

    turn: Turn | None = None
    text: str = ""
    usage: Usage | None = None
    task: "asyncio.Task[None] | None" = None
    accepted: "asyncio.Future[Turn]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _dirty: bool = False
    _ended: bool = False

    def __post_init__(self) -> None:
        if self.turn is not None:
            self.accepted.set_result(self.turn)

    @property
    def is_final(self) -> bool:
        return self.turn is not None and self.turn.status.is_final

    def show(self, turn: Turn) -> None:
        if self.turn is None or turn.fence != self.turn.fence:
            self.text, self.usage = "", None
        self.turn = turn
        if not self.accepted.done():
            self.accepted.set_result(turn)
        self._tell()

    def grow(self, piece: str, usage: Usage | None) -> None:
        self.text += piece
        self.usage = usage
        self._dirty = True
        self._tell()

    def refuse(self, error: Exception) -> None:
        if not self.accepted.done():
            self.accepted.set_exception(error)

    def end(self) -> None:
        self._ended = True
        self.refuse(Unavailable("the server is shutting down"))
        self._tell()

    def take_dirty(self) -> bool:
        dirty, self._dirty = self._dirty, False
        return dirty and not self.is_final

    async def watch(self) -> AsyncGenerator[Turn]:
        """Every state that a listener who keeps up can see; the last one always."""
        while True:
            changed, ended, final = self._changed, self._ended, self.is_final
            if self.turn is not None:
                yield self.turn if final else _with_text(self.turn, self.text)
            if ended or final:
                return
            await changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _with_text(turn: Turn, text: str) -> Turn:
    return replace(turn, reply=replace(turn.reply or Reply(""), text=text)) if text else turn

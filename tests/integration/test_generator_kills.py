"""The process of the local generator killed with kill -9 while it writes: no turn goes silent.

TWOFOLD_GENERATOR_KILLS=100 repeats what one reads in the README; three are enough for each day.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from app.settings import Settings
from generator.closing import close
from generator.fallback import FallbackGenerator, FixedGenerator, Link
from generator.interface import ChatMessage, Limits, Passage, Piece
from generator.local.generator import LocalGenerator
from generator.local.random_network import write_random_network
from tests.integration.conftest import serving

KILLS = int(os.environ.get("TWOFOLD_GENERATOR_KILLS", "3"))
LOADING_SECONDS = 240.0


class KilledGenerator:
    """Kills the process of its local generator when so many pieces have come of the next reply;
    0: when it has been asked and has not answered yet."""

    name = "local"

    def __init__(self, folder: Path) -> None:
        self.kill_after: int | None = None
        self._local = LocalGenerator(folder, threads=1)

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        passages: Sequence[Passage] = (),
        limits: Limits = Limits(),  # noqa: B008 - frozen, safe to share
    ) -> AsyncIterator[Piece]:
        await self._local.start()
        pieces = self._local.stream(messages, passages, limits)
        try:
            first = asyncio.ensure_future(anext(pieces))
            await asyncio.sleep(0)
            self._kill_at(0)
            yield await first
            said = 1
            self._kill_at(said)
            async for piece in pieces:
                yield piece
                said += 1
                self._kill_at(said)
        finally:
            await close(pieces)

    def _kill_at(self, pieces: int) -> None:
        if pieces == self.kill_after:
            self.kill_after = None
            assert self._local.process_id is not None
            os.kill(self._local.process_id, signal.SIGKILL)

    async def aclose(self) -> None:
        await self._local.aclose()


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """One database is enough: nothing here depends on it, and each kill costs seconds."""
    return f"sqlite:///{tmp_path / 'twofold.db'}"


@pytest.mark.timeout(60 * (KILLS + 5))
def test_a_turn_whose_generator_is_killed_is_answered_by_the_next_or_marked(
    settings: Settings, tmp_path: Path
) -> None:
    write_random_network(tmp_path / "network", 1_000_000)
    killed = KilledGenerator(tmp_path / "network")
    chain = FallbackGenerator([Link(killed, LOADING_SECONDS), FixedGenerator("Sorry.")])
    patient = settings.model_copy(update={"generation_tokens": 200, "generation_seconds": 600.0})
    with serving(patient, chain) as served:
        for number in range(KILLS):
            killed.kill_after = number % 3
            conversation = served.conversation()
            turn = served.say(conversation, "tell me a story").json()
            assert killed.kill_after is None
            if number % 3 == 0:
                assert (turn["status"], turn["reply"]) == ("done", "Sorry.")
                assert turn["skipped"][0]["error"] == "generator_unavailable"
            else:
                assert turn["status"] == "failed"
                assert turn["error"]["code"] == "generator_unavailable"
            # The server lives, its instant answers need no generator, and the process comes back.
            assert served.say(served.conversation(), "hello").json()["reply"]
            after = served.say(served.conversation(), "tell me a story").json()
            assert (after["status"], after["generator"]) == ("done", "local"), after

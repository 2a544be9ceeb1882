"""Takes out what people want forgotten and what has become too old, a little at a time.

Works on any replica: an erasure that was interrupted is taken up again, by whoever looks next.
"""

import asyncio
from collections.abc import Callable, Collection

import structlog

from app.database import erasure, intents, model_versions
from app.database.database import Database
from app.database.erasure import By, Receipt, Retention
from app.errors import TwofoldError
from intent.interface import IntentError

RESUME_SECONDS = 30.0
RETENTION_SECONDS = 3600.0
PAUSE_SECONDS = 0.05
"""Between two transactions of one erasure, so that chats are never behind more than one."""
FORGET_SECONDS = 5.0
"""How long we try to find a moment without a reader in it."""

log = structlog.get_logger(__name__)


def _stop_nobody(_: Collection[str]) -> None:
    pass


class Eraser:
    """`stop` ends the answering of turns that are no longer there, in this process."""

    def __init__(
        self,
        database: Database,
        retention: Retention,
        *,
        stop: Callable[[Collection[str]], None] = _stop_nobody,
    ) -> None:
        self._database = database
        self.retention = retention
        self._stop = stop

    async def erase_conversation(self, owner: str | None, conversation_id: str, by: By) -> Receipt:
        """`owner` None: whosever it is. Raises NotFound."""
        step = await self._database.write(
            lambda c: erasure.erase_conversation(c, owner, conversation_id, by=by)
        )
        self._stop(step.open_turns)
        return await self._finish(step.erasure_id)

    async def erase_owner(self, owner: str, by: By) -> Receipt:
        """Everything that is there when it begins."""
        erasure_id = await self._database.write(lambda c: erasure.begin_owner(c, owner, by=by))
        return await self._go_on(erasure_id)

    async def enforce_retention(self) -> list[Receipt]:
        """A receipt for each thousand conversations or less; none when nothing was too old."""
        receipts: list[Receipt] = []
        while self.retention.is_on:
            found = await self._database.read(lambda c: erasure.old(c, self.retention))
            if not found:
                break
            erasure_id = await self._database.write(erasure.begin_retention)
            receipts.append(await self._take_old(erasure_id, found))
        return receipts

    async def run_forever(self) -> None:
        """Finishes what was interrupted, and enforces the retention."""
        loop = asyncio.get_running_loop()
        next_retention = loop.time()
        while True:
            try:
                for erasure_id in await self._database.read(erasure.unfinished):
                    await self._go_on(erasure_id)
                if loop.time() >= next_retention:
                    next_retention = loop.time() + RETENTION_SECONDS
                    for receipt in await self.enforce_retention():
                        log.info("retention enforced", erasure=receipt.id, **receipt.rows)
            except TwofoldError as error:
                log.warning("cannot erase", error=error.code)
            except Exception:  # a defect of ours; what is to be forgotten must not wait for ever
                log.exception("cannot erase")
            await asyncio.sleep(RESUME_SECONDS)

    async def _go_on(self, erasure_id: str) -> Receipt:
        while True:
            step = await self._database.write(lambda c: erasure.erase_some(c, erasure_id))
            self._stop(step.open_turns)
            if step.is_done:
                return await self._finish(erasure_id)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _take_old(self, erasure_id: str, found: list[str]) -> Receipt:
        while True:
            step = await self._database.write(
                lambda c: erasure.erase_old(c, erasure_id, self.retention, found)
            )
            if step.is_done:
                return await self._finish(erasure_id)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _finish(self, erasure_id: str) -> Receipt:
        for number in await self._database.write(lambda c: erasure.settle(c, erasure_id)):
            await self._forget_words(number)
        receipt = await self._database.write(lambda c: erasure.finish(c, erasure_id))
        await self._forget()
        return receipt

    async def _forget_words(self, number: int) -> None:
        """A model version keeps its examples' words, to explain itself with: only those that
        are still examples stay."""
        from intent.artifact import forget_in_report, forget_texts

        try:
            old = await self._database.read(lambda c: model_versions.artifact(c, number))
            version = await self._database.read(lambda c: model_versions.get(c, number))
            pairs = await self._database.read(intents.training_data)
            kept = {text for text, _ in pairs}
            new = await asyncio.to_thread(forget_texts, old, kept)
        except (IntentError, model_versions.DamagedArtifact) as error:
            log.warning("words left in a model version", number=number, error=type(error).__name__)
            return
        evaluation = forget_in_report(version.evaluation, kept)
        await self._database.write(
            lambda c: model_versions.replace_artifact(
                c, number, old=old, new=new, evaluation=evaluation
            )
        )

    async def _forget(self) -> None:
        tries = int(FORGET_SECONDS / PAUSE_SECONDS)
        for _ in range(tries):
            if await self._database.forget_deleted():
                return
            await asyncio.sleep(PAUSE_SECONDS)
        log.warning("the write-ahead log still holds what was erased: it is being read")

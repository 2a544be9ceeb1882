"""The live model version and the operator's replies, as this process serves them now."""

import asyncio
import time
from dataclasses import dataclass, field, replace
from functools import partial

import structlog
from sqlalchemy import Connection

from app.classifying import ClassifierThread, LoadClassifier
from app.database import assistant, drift, model_versions
from app.database.database import Database
from app.dialogue.chatbot import Reading
from app.dialogue.responses import ReplyBook
from app.dialogue.routing import NO_GROUNDS, Grounds
from app.errors import TwofoldError
from intent.certificate import certify
from intent.interface import IntentClassifier, IntentError, Promise

POLL_SECONDS = 1.0

_Loaded = tuple[IntentClassifier, Grounds]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What one utterance is read with; replaced as a whole."""

    classifier: IntentClassifier | None = None
    grounds: Grounds = NO_GROUNDS
    model_version: int | None = None
    epoch: int = 0
    replies: ReplyBook = field(default_factory=ReplyBook)
    revision: int = -1


class LiveAssistant:
    """Follows promotions and edits, by this process or another, within a second or so."""

    def __init__(
        self,
        database: Database,
        load: LoadClassifier,
        promise: Promise | None = None,
        promise_under_pressure: Promise | None = None,
    ) -> None:
        self._database = database
        self._load = load
        self._promise = promise or Promise()
        self._promise_under_pressure = promise_under_pressure
        self._classifying = ClassifierThread()
        self._snapshot = _Snapshot()
        self._refreshing = asyncio.Lock()
        self._tried: tuple[int, _Loaded] | None = None
        self._refused_epoch: int | None = None
        self._follower: asyncio.Task[None] | None = None

    @property
    def model_version(self) -> int | None:
        return self._snapshot.model_version

    @property
    def grounds(self) -> Grounds:
        return self._snapshot.grounds

    @property
    def replies(self) -> ReplyBook:
        return self._snapshot.replies

    async def start(self) -> None:
        await self.refresh()
        self._follower = asyncio.create_task(self._follow())

    async def close(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
        await asyncio.to_thread(self._classifying.close)

    async def read(self, text: str) -> Reading:
        snapshot = self._snapshot
        if snapshot.classifier is None:
            return Reading(None, None, snapshot.replies, 0.0)
        start = time.perf_counter()
        classified = await self._classifying.classify(snapshot.classifier, text)
        milliseconds = (time.perf_counter() - start) * 1000
        prediction = classified.prediction
        return Reading(
            prediction,
            snapshot.model_version,
            snapshot.replies,
            milliseconds,
            snapshot.grounds,
            classify_cpu_ms=classified.cpu_seconds * 1000,
            tracker=snapshot.classifier.topic_tracker,
        )

    async def try_out(self, number: int) -> None:
        """Load a version without serving it; a promotion that follows finds it ready.

        Raises DamagedArtifact when it could not be served, NotFound when it is not there."""
        try:
            self._tried = number, await self._load_certified(number)
        except IntentError as error:
            raise model_versions.DamagedArtifact(
                f"model version {number} cannot be loaded; train again"
            ) from error

    async def refresh(self) -> None:
        """Load what has changed. A version that cannot be loaded leaves the old one serving."""
        async with self._refreshing:
            old = self._snapshot
            live, revision, usual = await self._database.read(_look)
            replies = old.replies
            if revision != old.revision:
                replies = await self._database.read(assistant.reply_book)
            classifier, grounds = old.classifier, old.grounds
            number, epoch = old.model_version, old.epoch
            if live.epoch not in (old.epoch, self._refused_epoch):
                loaded = await self._load_version(live.model_version)
                if loaded is not None:
                    classifier, grounds = loaded
                    number, epoch = live.model_version, live.epoch
                else:
                    self._refused_epoch = live.epoch
            grounds = replace(grounds, is_usual_traffic=usual)
            self._snapshot = _Snapshot(classifier, grounds, number, epoch, replies, revision)

    async def _load_certified(self, number: int) -> _Loaded:
        version, data = await self._database.read(
            lambda c: (model_versions.get(c, number), model_versions.artifact(c, number))
        )
        return await asyncio.to_thread(self._certified, version, data)

    def _certified(self, version: model_versions.ModelVersion, data: bytes) -> _Loaded:
        classifier = self._load(data)
        test = classifier.certify
        if version.network_of is not None:
            test = partial(certify, model_versions.counted(version))
        looser = self._promise_under_pressure
        return classifier, Grounds(test(self._promise), test(looser) if looser else None)

    async def _load_version(self, number: int | None) -> _Loaded | None:
        if number is None:
            return None
        tried, self._tried = self._tried, None
        if tried is not None and tried[0] == number:
            return tried[1]
        try:
            loaded = await self._load_certified(number)
        except (IntentError, model_versions.DamagedArtifact) as error:
            log.error("model version refused", model_version=number, error=str(error))
            return None
        log.info("model version live", model_version=number)
        return loaded

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.refresh()
            except TwofoldError as error:
                log.warning("cannot look for changes", error=error.code)
            except Exception:  # a defect of ours; this process must not stop looking for it
                log.exception("cannot look for changes")


def _look(connection: Connection) -> tuple[model_versions.Live, int, bool]:
    live = model_versions.live(connection)
    usual = drift.usual(connection, live.model_version)
    return live, assistant.revision(connection), usual

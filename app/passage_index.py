"""Finds passages by their words and by their meaning.

Words are the database's business. Meaning is a vector for each sentence and a smaller one for each
word, which a reader works out in the background: a new document is found by its words at once, and
by its meaning as soon as its vectors are stored. Whichever process is idle does it, for all. The
sentences' vectors are in memory; those of words are fetched for the passages that they find.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy import Connection

from app.database import documents
from app.database.database import Database
from app.dialogue.chatbot import Found
from app.errors import Unavailable
from generator.interface import ChatMessage, Passage
from generator.question import Question
from generator.vectors import MATCHED_WEIGHT, PassageVectors, QuestionVectors

POLL_SECONDS = 1.0
BATCH = 8
MOST = 8
COMPARED = 32
"""So many of the closest passages are compared word by word."""
WIDTH = 384
WORDS_WEIGHT = 0.1
"""What the best match by words adds to a closeness between -1 and 1. Chosen on six fields of
benchmarks/answers/train."""

Vector = NDArray[np.float32]

log = structlog.get_logger(__name__)


class PassageReader(Protocol):
    @property
    def version(self) -> str:
        """Vectors of different versions cannot be compared."""
        ...

    def passage_vectors(self, passages: Sequence[Passage]) -> Sequence[PassageVectors]: ...

    def question(self, messages: Sequence[ChatMessage]) -> Question: ...

    def question_vectors(self, question: Question) -> QuestionVectors: ...


class PassageIndex:
    def __init__(self, database: Database, reader: PassageReader) -> None:
        self._database = database
        self._reader = reader
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="passages")
        self._meanings = _Meanings.of(None, [])
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._worker = asyncio.create_task(self._run_forever())

    async def close(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker
        self._thread.shutdown(cancel_futures=True)

    async def find(self, messages: Sequence[ChatMessage]) -> Found:
        """The passages that may answer the last message, best first."""
        loop = asyncio.get_running_loop()
        question, asked, cpu_seconds = await loop.run_in_executor(
            self._thread, self._asked, messages
        )
        passages = await self._database.read(lambda c: self.search(c, question, asked))
        return Found(passages, cpu_seconds)

    def _asked(self, messages: Sequence[ChatMessage]) -> tuple[Question, QuestionVectors, float]:
        start = time.thread_time()
        question = self._reader.question(messages)
        asked = self._reader.question_vectors(question)
        return question, asked, time.thread_time() - start

    def search(
        self, connection: Connection, question: Question, asked: QuestionVectors
    ) -> list[Passage]:
        """`find` within a transaction."""
        meanings = self._current(connection)
        by_words = documents.search(connection, question.whole, most=2 * MOST)
        new = [one for one in by_words if one.id not in meanings.places]
        read = {one.id: vectors for one, vectors in self._read(new)}
        closeness = {each: _closest(one.sentences, asked.whole) for each, one in read.items()}
        closeness |= meanings.closest(asked.whole, [one.id for one in by_words], most=COMPARED)
        stored = documents.word_meanings(connection, self._reader.version, list(closeness))
        width = asked.words.shape[1]
        matched = {each: asked.matched(one.words) for each, one in read.items()}
        matched |= {each: asked.matched(_unpacked(one, width)) for each, one in stored.items()}
        most_words = max((one.score for one in by_words), default=1.0) or 1.0
        words = {one.id: one.score / most_words for one in by_words}
        scores = {
            each: closeness[each] + WORDS_WEIGHT * words.get(each, 0.0) + MATCHED_WEIGHT * share
            for each, share in matched.items()
        }
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:MOST]
        known = {one.id: one for one in by_words}
        known |= documents.passages_by_id(connection, [one for one in best if one not in known])
        return [replace(known[each], score=scores[each]) for each in best if each in known]

    def _read(self, passages: Sequence[Passage]) -> Iterator[tuple[Passage, PassageVectors]]:
        return zip(passages, self._reader.passage_vectors(passages), strict=True)

    def _current(self, connection: Connection) -> "_Meanings":
        state = documents.meanings_state(connection, self._reader.version)
        if self._meanings.state != state:
            stored = documents.meanings(connection, self._reader.version)
            self._meanings = _Meanings.of(state, stored)
        return self._meanings

    async def _run_forever(self) -> None:
        while True:
            try:
                while await self.index_some():
                    pass
            except Unavailable:
                log.warning("passages cannot be read for the search: the database is away")
            await asyncio.sleep(POLL_SECONDS)

    async def index_some(self) -> int:
        """Works out and stores the vectors of a few passages that lack them; how many."""
        version = self._reader.version
        missing = await self._database.read(lambda c: documents.unread(c, version, most=BATCH))
        if not missing:
            return 0
        loop = asyncio.get_running_loop()
        read = await loop.run_in_executor(self._thread, lambda: list(self._read(missing)))
        found = {one.id: (_packed(each.sentences), _packed(each.words)) for one, each in read}
        await self._database.write(lambda c: documents.put_meanings(c, version, found))
        return len(missing)


@dataclass(frozen=True, slots=True)
class _Meanings:
    """The vectors of all passages, one below the other."""

    state: documents.MeaningsState | None
    ids: list[str]
    places: Mapping[str, int]
    """Of an id among `ids`."""
    starts: NDArray[np.intp]
    """The first row of each passage."""
    rows: Vector

    @classmethod
    def of(
        cls, state: documents.MeaningsState | None, stored: Sequence[tuple[str, bytes]]
    ) -> "_Meanings":
        each = [(one, _unpacked(packed, WIDTH)) for one, packed in stored if packed]
        lengths = [len(vectors) for _, vectors in each]
        return cls(
            state,
            [one for one, _ in each],
            {one: place for place, (one, _) in enumerate(each)},
            np.cumsum([0, *lengths[:-1]], dtype=np.intp) if each else np.zeros(0, np.intp),
            np.concatenate([vectors for _, vectors in each] or [np.zeros((0, WIDTH), np.float32)]),
        )

    def closest(self, vector: Vector, wanted: Sequence[str], *, most: int) -> dict[str, float]:
        """The cosine of its best sentence, for the closest passages and for the wanted ones."""
        if not self.ids:
            return {}
        best = np.maximum.reduceat(self.rows @ vector, self.starts)
        chosen = set(np.argsort(-best)[:most].tolist())
        chosen |= {self.places[one] for one in wanted if one in self.places}
        return {self.ids[place]: float(best[place]) for place in chosen}


def _closest(vectors: Vector, vector: Vector) -> float:
    return float((vectors @ vector).max(initial=-1.0))


def _packed(vectors: Vector) -> bytes:
    """Eight bits a number; of a passage without sentences, nothing."""
    return np.rint(127 * vectors).astype(np.int8).tobytes()


def _unpacked(packed: bytes, width: int) -> Vector:
    rows = np.frombuffer(packed, np.int8).reshape(-1, width).astype(np.float32)
    return rows / np.float32(127)

"""Passages are found by their words at once, and by their meaning as soon as they were read."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from app.database import documents
from app.database.database import Database
from app.passage_index import WIDTH, PassageIndex, Vector
from generator.interface import ChatMessage, Passage
from generator.question import Question
from generator.vectors import PassageVectors, QuestionVectors

pytestmark = pytest.mark.anyio

ALIKE = 1009
MEANINGS = ("money", "dogs", "hours")
WORDS = {"fee": 0, "price": 0, "euros": 0, "dog": 1, "puppy": 1, "open": 2, "close": 2}


class WordReader:
    """Takes words of one meaning for the same."""

    def __init__(self, version: str = "1", *, asked_for: int = 0) -> None:
        self.version = version
        self.read: list[str] = []
        self.has_read_all = asyncio.Event()
        self._asked_for = asked_for
        self._loop = asyncio.get_running_loop()

    def passage_vectors(self, passages: Sequence[Passage]) -> list[PassageVectors]:
        self.read += [passage.title for passage in passages]
        if len(self.read) == self._asked_for:
            self._loop.call_soon_threadsafe(self.has_read_all.set)
        return [
            PassageVectors(self._vector(passage.text)[None], _each_word(passage.text))
            for passage in passages
        ]

    def question(self, messages: Sequence[ChatMessage]) -> Question:
        return Question(messages[-1].text)

    def question_vectors(self, question: Question) -> QuestionVectors:
        words = _each_word(question.text)
        even = np.full(len(words), 1 / len(words), np.float32)
        return QuestionVectors(self._vector(question.text), words, even)

    def _vector(self, text: str) -> Vector:
        vector = np.full(WIDTH, 1e-6, np.float32)
        for word in text.lower().replace("?", " ").replace(".", " ").split():
            if word in WORDS:
                vector[WORDS[word]] += 1
        return vector / np.linalg.norm(vector)


def _each_word(text: str) -> Vector:
    """Two words are alike where they begin with the same two letters."""
    beginnings = [hash_of(word[:2]) for word in text.lower().split()]
    return np.eye(ALIKE, dtype=np.float32)[beginnings]


def hash_of(letters: str) -> int:
    return sum(ord(letter) * 31**place for place, letter in enumerate(letters)) % ALIKE


def asking(*texts: str) -> list[ChatMessage]:
    return [ChatMessage("user", text) for text in texts]


def put(database: Database, name: str, **sections: str) -> None:
    markdown = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    database.write_now(lambda c: documents.put(c, name, markdown=markdown))


async def titles(index: PassageIndex, *texts: str) -> list[str]:
    return [passage.title for passage in (await index.find(asking(*texts))).passages]


async def test_other_words_of_the_same_meaning_find_a_passage(database: Database) -> None:
    put(database, "zoo", Tickets="The fee is 5 euros.", Animals="Bring a puppy.")
    index = PassageIndex(database, WordReader())
    assert await titles(index, "what price") == []
    assert await index.index_some() == 2
    assert await index.index_some() == 0
    assert (await titles(index, "what price"))[0] == "Tickets"
    assert (await titles(index, "my dog"))[0] == "Animals"


async def test_of_passages_with_one_meaning_that_whose_words_match_comes_first(
    database: Database,
) -> None:
    put(database, "zoo", Bears="A bear. The fee is 5.", Camels="A camel. The fee is 5.")
    index = PassageIndex(database, WordReader())
    for stored in (False, True):
        if stored:
            await index.index_some()
        assert (await titles(index, "fee caravan"))[0] == "Camels"
        assert (await titles(index, "fee beast"))[0] == "Bears"


async def test_a_new_document_is_found_by_its_words_before_it_was_read(database: Database) -> None:
    index = PassageIndex(database, WordReader())
    put(database, "zoo", Animals="Bring a puppy.")
    assert await titles(index, "may I bring it") == ["Animals"]


async def test_what_was_replaced_or_removed_is_not_found(database: Database) -> None:
    reader = WordReader()
    index = PassageIndex(database, reader)
    put(database, "zoo", Tickets="The fee is 5 euros.")
    put(database, "farm", Animals="Bring a puppy.")
    await index.index_some()
    assert set(await titles(index, "price of a dog")) == {"Tickets", "Animals"}
    put(database, "zoo", Hours="We open and close.")
    database.write_now(lambda c: documents.remove(c, "farm"))
    assert await titles(index, "price of a dog") == []
    assert await index.index_some() == 1
    assert (await titles(index, "what price"))[:1] in ([], ["Hours"])
    assert reader.read == ["Tickets", "Animals", "Hours"]


async def test_vectors_of_another_reader_are_not_compared(database: Database) -> None:
    put(database, "zoo", Tickets="The fee is 5 euros.")
    await PassageIndex(database, WordReader("1")).index_some()
    newer = PassageIndex(database, WordReader("2"))
    assert await titles(newer, "what price") == []
    assert await newer.index_some() == 1
    assert await titles(newer, "what price") == ["Tickets"]


async def test_two_processes_see_what_one_of_them_read(database: Database) -> None:
    put(database, "zoo", Tickets="The fee is 5 euros.")
    one, other = (PassageIndex(database, WordReader()) for _ in range(2))
    assert await titles(other, "what price") == []
    await one.index_some()
    assert await titles(other, "what price") == ["Tickets"]
    assert await other.index_some() == 0


async def test_reading_goes_on_in_the_background(database: Database) -> None:
    put(database, "zoo", **{f"Part {n}": f"Text {n}." for n in range(20)})
    reader = WordReader(asked_for=20)
    index = PassageIndex(database, reader)
    await index.start()
    try:
        async with asyncio.timeout(60):
            await reader.has_read_all.wait()
    finally:
        await index.close()

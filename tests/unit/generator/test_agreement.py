"""What two answers have in common, and what only one of them says."""

from collections.abc import Sequence

import numpy as np
import pytest

from generator.agreement import Agreement, Missing, agreement
from generator.interface import Passage


class WordReader:
    """A sentence's vector counts its words; a text's sentences end with full stops."""

    WORDS = "parcel three days refund cat dog within monday saturday".split()

    def sentence_vectors(self, passages: Sequence[Passage]) -> list[np.ndarray]:
        return [
            np.array([self._vector(one) for one in passage.text.lower().split(".") if one.strip()])
            for passage in passages
        ]

    def _vector(self, sentence: str) -> np.ndarray:
        vector = np.array([1e-6 + sentence.count(word) for word in self.WORDS])
        return vector / np.linalg.norm(vector)


def differs_in(first: str, second: str) -> tuple[str, ...]:
    return agreement(WordReader(), first, second).differs_in


def test_one_may_say_more_than_the_other() -> None:
    long = "The parcel comes within three days. A refund takes 14 days and costs £5."
    assert differs_in(long, "Your parcel is there within three days.") == ()
    assert differs_in("Your parcel is there within three days.", long) == ()
    assert differs_in("A refund takes 14 days.", long) == ()


def test_answers_about_something_else_differ_in_meaning() -> None:
    assert differs_in("The parcel comes.", "The cat and the dog.") == ("meaning",)
    assert differs_in("The parcel comes.", "") == ("meaning",)


def test_other_numbers_links_and_names_differ() -> None:
    assert differs_in("A refund takes 14 days.", "A refund takes 30 days.") == ("values",)
    assert differs_in("A refund: see a.example/x.", "A refund: see b.example/x.") == ("values",)
    assert differs_in("A refund on Monday days.", "A refund on Saturday days.")[-1] == "names"


def test_a_name_at_the_beginning_of_a_sentence_is_still_there() -> None:
    found = agreement(WordReader(), "Days until Monday.", "Monday, in days.")
    assert found.names == Missing()


def test_it_is_stored_and_read_again() -> None:
    found = agreement(WordReader(), "A refund takes 14 days.", "A refund takes 30 days.")
    assert Agreement.from_json(found.to_json()) == found
    assert found.values == Missing(("14",), ("30",))
    assert found.similarity == pytest.approx(1)

"""Whether two answers to one question say the same, as far as a machine can tell.

Not a judge, but a sieve for people: it finds answers about something else, and answers whose
numbers, links or names contradict each other. One may say more than the other.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from generator.interface import Passage
from generator.verification import names_in, values_of, words_in

ALIKE = 0.5
"""Least similarity of answers that mean the same; `python -m benchmarks.agreement` shows what it
separates. English only, as the reader is."""


class SentenceReader(Protocol):
    def sentence_vectors(self, passages: Sequence[Passage]) -> Sequence[NDArray[np.float32]]:
        """For each passage (its sentences, D), of length one each."""
        ...


@dataclass(frozen=True, slots=True)
class Missing:
    """What stands in one of the answers only."""

    first: tuple[str, ...] = ()
    second: tuple[str, ...] = ()

    @property
    def contradicts(self) -> bool:
        """Each has something that the other lacks."""
        return bool(self.first and self.second)


@dataclass(frozen=True, slots=True)
class Agreement:
    similarity: float
    """From -1 to 1: the mean, over the sentences of the answer that is covered better, of the
    cosine with the other's closest one."""
    values: Missing
    """Numbers, links and addresses."""
    names: Missing

    @property
    def differs_in(self) -> tuple[str, ...]:
        """`meaning`, `values`, `names`; nothing where they agree."""
        found = {
            "meaning": self.similarity < ALIKE,
            "values": self.values.contradicts,
            "names": self.names.contradicts,
        }
        return tuple(name for name, differs in found.items() if differs)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        kinds = (
            Missing(tuple(value[kind]["first"]), tuple(value[kind]["second"]))
            for kind in ("values", "names")
        )
        return cls(value["similarity"], *kinds)


def agreement(reader: SentenceReader, first: str, second: str) -> Agreement:
    return Agreement(
        similarity=_similarity(reader, first, second),
        values=_missing(values_of(first), values_of(second), first, second),
        names=_missing(sorted(names_in(first)), sorted(names_in(second)), first, second),
    )


def _similarity(reader: SentenceReader, first: str, second: str) -> float:
    one, other = reader.sentence_vectors([Passage("", "", text, "") for text in (first, second)])
    if not len(one) or not len(other):
        return 0.0
    cosines = one @ other.T
    return float(max(cosines.max(axis=0).mean(), cosines.max(axis=1).mean()))


def _missing(of_first: Sequence[str], of_second: Sequence[str], first: str, second: str) -> Missing:
    in_first, in_second = set(words_in(first)), set(words_in(second))
    return Missing(
        tuple(one for one in dict.fromkeys(of_first) if one not in in_second),
        tuple(one for one in dict.fromkeys(of_second) if one not in in_first),
    )

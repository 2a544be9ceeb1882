"""Pages of other organisations, for the search to tell from those of a step.

They come from the steps before, as they were encoded then: the network changes slowly (cross-batch
memory: Wang et al. 2020). So a question is searched for among a hundred pages and more, at the cost
of its own organisation's dozen.

Shapes as in `generator.teaching.reader_network`.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from generator.teaching.reader_network import Asked, Told
from generator.vectors import MATCHED_WEIGHT

MOST_PAGES = 400


class _Page(NamedTuple):
    field: str
    sentences: Tensor  # (S, D), of length one
    words: Tensor  # (L, W), of length one


@dataclass(frozen=True, slots=True)
class OtherPages:
    sentences: Tensor  # (P, S, D), of length one; 0 where there is none
    words: Tensor  # (P, L, W), of length one; 0 where there is none

    def found(self, asked: Asked) -> Tensor:
        """(Q, P): how close each comes to each question, as it is searched for."""
        questions = functional.normalize(asked.vectors.float(), dim=-1)
        closest = torch.einsum("qd,psd->qps", questions, self.sentences).amax(-1)
        shares = asked.weights / asked.weights.sum(1, keepdim=True)
        cosines = torch.einsum("qtw,plw->qptl", asked.words, self.words).amax(-1)
        return closest + MATCHED_WEIGHT * (cosines * shares[:, None]).sum(-1)


class PageMemory:
    def __init__(self) -> None:
        self._pages: deque[_Page] = deque(maxlen=MOST_PAGES)

    def keep(self, field: str, told: Told, pages: int) -> None:
        """The first so many of the pages; those kept of that field before are out of date."""
        kept = [page for page in self._pages if page.field != field]
        self._pages = deque(kept, maxlen=MOST_PAGES)
        vectors = functional.normalize(told.vectors.detach().float(), dim=-1)
        words = told.words.detach()
        for page in range(pages):
            has, present = told.batch.has[page], told.batch.present[page]
            self._pages.append(_Page(field, vectors[page][has], words[page][present]))

    def state(self) -> list[tuple[str, Tensor, Tensor]]:
        return [(page.field, page.sentences, page.words) for page in self._pages]

    def restore(self, state: Sequence[tuple[str, Tensor, Tensor]]) -> None:
        self._pages = deque(starmap(_Page, state), maxlen=MOST_PAGES)

    def draw(self, field: str, count: int, draw: random.Random) -> OtherPages | None:
        """So many pages of other fields; None as long as there are fewer."""
        others: Sequence[_Page] = [page for page in self._pages if page.field != field]
        if len(others) < count:
            return None
        drawn = draw.sample(others, count)
        return OtherPages(
            pad_sequence([page.sentences for page in drawn], batch_first=True),
            pad_sequence([page.words for page in drawn], batch_first=True),
        )

"""Texts of different lengths in one matrix, with little of it padding.

Shapes: N pairs of a question and a page, R rows of m questions beside one page each; B texts, T
tokens of the longest, M in all.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

ROW_QUESTIONS = 4
"""So many questions are read beside a page at once; the last row of a page has empty places."""


class Packing:
    """Where in texts (B, T) there are tokens, M in all. What is computed of each token by itself is
    computed of those alone: more than half of a batch of questions is padding."""

    def __init__(self, present: Tensor) -> None:
        self._shape = present.shape
        self._places = present.flatten().nonzero().squeeze(1)

    def pack(self, states: Tensor) -> Tensor:
        """(B, T, D) to (M, D)"""
        return states.flatten(0, 1).index_select(0, self._places)

    def spread(self, packed: Tensor) -> Tensor:
        """(M, D) to (B, T, D), with zeros where there is no token."""
        batch, tokens = self._shape
        spread = packed.new_zeros(batch * tokens, packed.shape[1])
        return spread.index_copy(0, self._places, packed).view(batch, tokens, -1)


def in_rows(pairs: Sequence[tuple[int, int]], pages: int) -> tuple[Tensor, Tensor, Tensor]:
    """Questions in rows (R, m) of one page each, that page (R,), and where each pair stands in
    the flattened rows (N,). An empty place holds the first question, and nobody looks there."""
    by_page: list[list[int]] = [[] for _ in range(pages)]
    for number, (_, page) in enumerate(pairs):
        by_page[page].append(number)
    rows: list[list[int]] = []
    row_pages: list[int] = []
    places = torch.zeros(len(pairs), dtype=torch.int64)
    for page, numbers in enumerate(by_page):
        for start in range(0, len(numbers), ROW_QUESTIONS):
            part = numbers[start : start + ROW_QUESTIONS]
            for place, number in enumerate(part):
                places[number] = len(rows) * ROW_QUESTIONS + place
            questions = [pairs[number][0] for number in part]
            rows.append(questions + [0] * (ROW_QUESTIONS - len(part)))
            row_pages.append(page)
    return torch.tensor(rows), torch.tensor(row_pages), places

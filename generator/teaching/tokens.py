"""Pages and questions as token ids, laid out as `generator.reader` lays them out."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from generator.reader import (
    BEFORE_TOKENS,
    CLS,
    QUESTION_TOKENS,
    SENTENCE_TOKENS,
    SEP,
    TITLE_TOKENS,
)
from generator.teaching.lesson import Page, TeachingError

MASK = "[MASK]"
MASKED = 0.06
PAGE_TOKENS = 250
"""Fewer than are read later: a batch is as long as its longest page."""


@dataclass(frozen=True, slots=True)
class PageTokens:
    ids: list[int]
    spans: list[tuple[int, int] | None]
    """Where each sentence stands; None for one that was left out."""


@dataclass(frozen=True, slots=True)
class PageBatch:
    """Shapes: P pages, S sentences of the largest, L tokens of the longest."""

    ids: Tensor  # (P, L)
    present: Tensor  # (P, L) bool
    pooling: Tensor  # (P, S, L): the mean over each sentence's tokens
    has: Tensor  # (P, S) bool: there is such a sentence
    owner: Tensor  # (P, L): the number of each token's sentence; S for those of none


class Tokens:
    """A tokenizer that remembers: the same texts come in every epoch."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Raises TeachingError."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._start, self._end, self._mask = map(self._special, (CLS, SEP, MASK))
        self.ids = lru_cache(maxsize=200_000)(self._encoded)
        """Of a text, without special ones."""
        pieces = [tokenizer.id_to_token(one) or "" for one in range(tokenizer.get_vocab_size())]
        pieces = [piece.removeprefix("##") for piece in pieces]
        self.figures = torch.tensor([any(map(str.isdigit, piece)) for piece in pieces])
        self.wordlike = torch.tensor([piece.isalnum() for piece in pieces])

    @classmethod
    def load(cls, folder: Path) -> "Tokens":
        """Raises TeachingError."""
        file = folder / "tokenizer.json"
        try:
            return cls(Tokenizer.from_file(str(file)))
        except Exception as error:  # tokenizers raises nothing more special
            raise TeachingError(
                f"{file} holds no tokenizer ({error}); name a folder with one"
            ) from error

    def page(self, page: Page, left_out: int | None = None) -> PageTokens:
        """`left_out`: the number of a sentence that is not shown."""
        ids = [self._start, *self.ids(page.title)[:TITLE_TOKENS], self._end]
        spans: list[tuple[int, int] | None] = []
        for number, sentence in enumerate(page.sentences):
            heading = f"{sentence.heading}: " if sentence.heading else ""
            found = self.ids(heading + sentence.shown)[:SENTENCE_TOKENS]
            if number == left_out or not found or len(ids) + len(found) > PAGE_TOKENS:
                spans.append(None)
                continue
            spans.append((len(ids), len(ids) + len(found)))
            ids += found
        return PageTokens([*ids, self._end], spans)

    def question(
        self, text: str, before: str = "", *, draw: random.Random | None = None
    ) -> list[int]:
        """`draw`: some of the text's tokens are masked."""
        earlier = [*self.ids(before)[-BEFORE_TOKENS:], self._end] if before else []
        ids = self.ids(text)[:QUESTION_TOKENS]
        if draw is not None:
            ids = tuple(self._mask if draw.random() < MASKED else one for one in ids)
        return [self._start, *earlier, *ids, self._end]

    def _special(self, name: str) -> int:
        number = self._tokenizer.token_to_id(name)
        if number is None:
            raise TeachingError(f"the tokenizer knows no {name}; take that of a BERT")
        return number

    def _encoded(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids (B, T), and where there are any (B, T)."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    present = torch.zeros(len(rows), longest, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        present[number, : len(row)] = True
    return ids, present


def page_batch(pages: Sequence[PageTokens]) -> PageBatch:
    ids, present = padded([page.ids for page in pages])
    most = max(len(page.spans) for page in pages)
    pooling = torch.zeros(len(pages), most, ids.shape[1])
    has = torch.zeros(len(pages), most, dtype=torch.bool)
    owner = torch.full_like(ids, most)
    for row, page in enumerate(pages):
        for number, span in enumerate(page.spans):
            if span is not None:
                start, end = span
                pooling[row, number, start:end] = 1 / (end - start)
                has[row, number] = True
                owner[row, start:end] = number
    return PageBatch(ids, present, pooling, has, owner)

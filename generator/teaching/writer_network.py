"""The writer with torch, as it learns; `generator.writer` serves it.

A transformer encoder and decoder, normalised before each part, with a pointer-generator head (See
et al. 2017): each word is one of its own vocabulary's, or is copied from the source.

Shapes: B examples, N words of the longest source, T of the longest answer, F features of a
word, D width, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from generator.reader_graph import ABSENT
from generator.writer import SOURCE_WORDS, WRITTEN

DROPOUT = 0.1


@dataclass(frozen=True, slots=True)
class WriterShape:
    vocabulary: int
    features: int
    width: int = 256
    heads: int = 4
    inner: int = 768
    encoder_layers: int = 2
    decoder_layers: int = 2
    positions: int = SOURCE_WORDS + 10
    """Of the source; of an answer there are fewer."""


class Attention(nn.Module):
    def __init__(self, shape: WriterShape) -> None:
        super().__init__()
        self._heads = shape.heads
        self.query = nn.Linear(shape.width, shape.width)
        self.key = nn.Linear(shape.width, shape.width)
        self.value = nn.Linear(shape.width, shape.width)
        self.output = nn.Linear(shape.width, shape.width)

    def forward(self, states: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        """`seen`: bool, of a shape that expands to (B, heads, states, memory)."""
        size = states.shape[-1] // self._heads

        def split(each: Tensor) -> Tensor:
            return each.view(*each.shape[:2], self._heads, size).transpose(1, 2)

        query = split(self.query(states)) * size**-0.5
        scores = query @ split(self.key(memory)).transpose(-1, -2)
        paid = scores.masked_fill(~seen, ABSENT).softmax(-1)
        attended = (paid @ split(self.value(memory))).transpose(1, 2).flatten(2)
        result: Tensor = self.output(attended)
        return result


class WriterLayer(nn.Module):
    def __init__(self, shape: WriterShape, *, reads_source: bool) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(shape.width)
        self.attention = Attention(shape)
        self.inner_norm = nn.LayerNorm(shape.width)
        self.up = nn.Linear(shape.width, shape.inner)
        self.down = nn.Linear(shape.inner, shape.width)
        self._reads_source = reads_source
        if reads_source:
            self.source_norm = nn.LayerNorm(shape.width)
            self.source_attention = Attention(shape)

    def forward(
        self,
        states: Tensor,
        seen: Tensor,
        memory: Tensor | None = None,
        present: Tensor | None = None,
    ) -> Tensor:
        inner = self.attention_norm(states)
        states = states + self._drop(self.attention(inner, inner, seen))
        if self._reads_source:
            asked = self.source_norm(states)
            states = states + self._drop(self.source_attention(asked, memory, present))
        inner = functional.gelu(self.up(self.inner_norm(states)))
        return states + self._drop(self.down(inner))

    def _drop(self, states: Tensor) -> Tensor:
        return functional.dropout(states, DROPOUT, self.training)


class WriterNetwork(nn.Module):
    def __init__(self, shape: WriterShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.features = nn.Linear(shape.features, width)
        self.positions = nn.Embedding(shape.positions, width)
        self.kinds = nn.Embedding(WRITTEN + 1, width)
        self.beginning = nn.Parameter(0.05 * torch.randn(width))
        self.encoder = nn.ModuleList(
            WriterLayer(shape, reads_source=False) for _ in range(shape.encoder_layers)
        )
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(
            WriterLayer(shape, reads_source=True) for _ in range(shape.decoder_layers)
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.pointer_query = nn.Linear(width, width)
        self.pointer_key = nn.Linear(width, width)
        self.gate = nn.Linear(2 * width, 1)
        self.own_words = nn.Linear(width, shape.vocabulary)
        for embedding in (self.positions, self.kinds):
            nn.init.normal_(embedding.weight, std=0.05)

    def encode(self, source: Tensor, kinds: Tensor, present: Tensor) -> Tensor:
        """Features (B, N, F) of the words, what each stands in (B, N), where there are any
        (B, N), to (B, N, D)."""
        states = self.features(source) + self.positions.weight[: source.shape[1]]
        states = functional.dropout(states + self.kinds(kinds), DROPOUT, self.training)
        for layer in self.encoder:
            states = layer(states, present[:, None, None, :])
        result: Tensor = self.encoder_norm(states)
        return result

    def forward(self, memory: Tensor, present: Tensor, written: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of what comes after each of the words so far (B, T, F), and before
        the first of them: of its own words (B, T + 1, V), and of the source's places
        (B, T + 1, N); each pair sums to one."""
        count, steps = written.shape[0], written.shape[1] + 1
        given = self.features(written) + self.kinds.weight[WRITTEN]
        given = functional.dropout(given, DROPOUT, self.training)
        beginning = self.beginning.expand(count, 1, -1)
        states = torch.cat([beginning, given], 1) + self.positions.weight[:steps]
        before = torch.ones(steps, steps, dtype=torch.bool).tril()[None, None]
        for layer in self.decoder:
            states = layer(states, before, memory, present[:, None, None, :])
        states = self.decoder_norm(states)
        pointers = self.pointer_query(states) @ self.pointer_key(memory).transpose(1, 2)
        pointers = pointers / math.sqrt(self.shape.width)
        pointers = pointers.masked_fill(~present[:, None], ABSENT)
        context = pointers.softmax(-1) @ memory
        gate = self.gate(torch.cat([states, context], -1)).float()
        own = functional.logsigmoid(gate) + self.own_words(states).float().log_softmax(-1)
        copied = functional.logsigmoid(-gate) + pointers.float().log_softmax(-1)
        return own, copied

"""Context in, reply out: a GRU that reads both ways, a GRU that writes, attention between them.

Attention is Luong's (2015), "general", with input feeding: what was attended to for one word is
an input to the next. One table of embeddings serves both sides and the output (Press and Wolf
2017). Shapes: B replies, S tokens of the longest context, D embedding, H hidden, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from generator.seq2seq.config import NetworkShape
from generator.seq2seq.tokens import PAD


@dataclass(frozen=True)
class Dropout:
    """Draws from a generator of its own, so that training neither disturbs torch's global one nor
    depends on it."""

    generator: torch.Generator
    share: float

    def __call__(self, values: Tensor) -> Tensor:
        kept = torch.rand(values.shape, generator=self.generator) >= self.share
        return values * kept / (1 - self.share)


@dataclass(frozen=True)
class Memory:
    """What was read."""

    states: Tensor  # (B, S, H)
    keys: Tensor  # (B, S, H)
    mask: Tensor  # (B, S) true where there is a token


@dataclass(frozen=True)
class State:
    """Where a reply is."""

    hidden: Tensor  # (B, H)
    attended: Tensor  # (B, D) the attentional vector, from which the next word is predicted


class Seq2SeqNetwork(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        embedding, hidden = shape.embedding, shape.hidden
        self.embedding = nn.Embedding(shape.vocabulary, embedding)
        nn.init.normal_(self.embedding.weight, std=embedding**-0.5)
        self.forth = nn.GRU(embedding, hidden // 2, batch_first=True)
        self.back = nn.GRU(embedding, hidden // 2, batch_first=True)
        self.bridge = nn.Linear(hidden, hidden)
        self.decoder = nn.GRUCell(2 * embedding, hidden)
        self.attention = nn.Linear(hidden, hidden, bias=False)
        self.combine = nn.Linear(2 * hidden, embedding)
        self.output_bias = nn.Parameter(torch.zeros(shape.vocabulary))

    def read(self, source: Tensor, dropout: Dropout | None = None) -> tuple[Memory, State]:
        """`source`: (B, S), padded at the end; no row may be without tokens."""
        mask = source != PAD
        vectors = self.embedding(source)  # (B, S, D)
        if dropout is not None:
            vectors = dropout(vectors)
        # Turned round by hand: the gradient of packed sequences takes quadratic time on a CPU.
        lengths = mask.sum(1)
        turned = (lengths[:, None] - 1 - torch.arange(source.shape[1])).clamp(min=0)[:, :, None]
        forth, _ = self.forth(vectors)  # (B, S, H / 2), worthless behind the end
        back, _ = self.back(vectors.gather(1, turned.expand_as(vectors)))
        end = turned[:, :1].expand(-1, 1, forth.shape[2])
        last = torch.cat([forth.gather(1, end), back.gather(1, end)], dim=2)[:, 0]  # (B, H)
        states = torch.cat([forth, back.gather(1, turned.expand_as(back))], dim=2)  # (B, S, H)
        hidden = torch.tanh(self.bridge(last))
        memory = Memory(states, self.attention(states), mask)
        return memory, State(hidden, hidden.new_zeros(len(source), self.shape.embedding))

    def step(self, vectors: Tensor, state: State, memory: Memory) -> tuple[State, Tensor]:
        """The state after one more token of each reply, given its embedding (B, D); and the
        attention's weights (B, S)."""
        hidden = self.decoder(torch.cat([vectors, state.attended], dim=1), state.hidden)
        scores = torch.bmm(memory.keys, hidden[:, :, None])[:, :, 0]  # (B, S)
        weights = scores.masked_fill(~memory.mask, float("-inf")).softmax(1)
        context = torch.bmm(weights[:, None, :], memory.states)[:, 0]  # (B, H)
        attended = torch.tanh(self.combine(torch.cat([context, hidden], dim=1)))
        return State(hidden, attended), weights

    def logits(self, attended: Tensor, dropout: Dropout | None = None) -> Tensor:
        """(…, V)"""
        if dropout is not None:
            attended = dropout(attended)
        # Entries of `attended` lie between -1 and 1; unscaled, no word could ever be sure.
        scaled = attended * math.sqrt(self.shape.embedding)
        logits: Tensor = scaled @ self.embedding.weight.T + self.output_bias
        return logits

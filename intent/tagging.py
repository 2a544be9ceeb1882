"""Tags the words of an utterance: a head over the encoder's states, and a chain over its labels.

Shapes: B utterances, T tokens of the longest one, S encoder states, D embedding, K token
features, F features of an utterance, W width, L labels (`intent.slots`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from intent.noise import Noise
from intent.shape import TAGGER_WIDTH
from intent.slots import legal_transitions

INPUT_DROPOUT = 0.2
HIDDEN_DROPOUT = 0.3
RULE_DROPOUT = 0.3
"""Of the rules' features, lest the network trust a table that happens to list all examples."""
IMPOSSIBLE = -1e4
LEAST = 1e-30
"""Sequences 69 nats less likely than the likeliest all count as this unlikely: sums of products
are then one matrix product, many times faster than sums of logarithms."""


@dataclass(frozen=True, kw_only=True)
class TagShape:
    labels: int
    states: int
    embedding: int
    features: int
    token_features: int
    width: int = TAGGER_WIDTH

    @property
    def inputs(self) -> int:
        return self.states + self.embedding + self.token_features


class TagHead(nn.Module):
    """A token's scores come from it, its two neighbours and the whole utterance."""

    def __init__(self, shape: TagShape) -> None:
        super().__init__()
        self.shape = shape
        # A convolution over three tokens, written as a product: the same in any layout.
        self.mix = nn.Linear(shape.inputs, 3 * shape.width, bias=False)
        self.sentence = nn.Linear(shape.features, shape.width)
        self.output = nn.Linear(shape.width, shape.labels)
        self.chain = LabelChain(shape.labels)

    def forward(
        self,
        states: Tensor,
        vectors: Tensor,
        token_features: Tensor,
        features: Tensor,
        mask: Tensor,
        noise: Noise | None = None,
    ) -> Tensor:
        """Scores (B, T, L) from (B, T, S), (B, T, D), (B, T, K), (B, F), mask (B, T)."""
        if noise is not None:
            utterances, _, rules = token_features.shape
            token_features = token_features * (
                noise.mask(utterances, 1, rules, drop=RULE_DROPOUT) > 0
            )
        inputs = torch.cat([states, vectors, token_features], 2) * mask[:, :, None]
        if noise is not None:
            inputs = inputs * noise.mask(len(inputs), 1, inputs.shape[2], drop=INPUT_DROPOUT)
        for_next, for_itself, for_previous = self.mix(inputs).chunk(3, dim=2)
        mixed = for_itself + self.sentence(features)[:, None]
        mixed = mixed + functional.pad(for_next[:, :-1], (0, 0, 1, 0))
        mixed = mixed + functional.pad(for_previous[:, 1:], (0, 0, 0, 1))
        hidden = mixed.relu()
        if noise is not None:
            hidden = hidden * noise.mask(*hidden.shape, drop=HIDDEN_DROPOUT)
        scores: Tensor = self.output(hidden)
        return scores


class LabelChain(nn.Module):
    """A linear-chain conditional random field (Lafferty et al. 2001; over a recurrent network,
    Huang et al. 2015): what one label says of the next. Illegal sequences have no probability."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(labels, labels))  # from row to column
        self.first = nn.Parameter(torch.zeros(labels))
        self.last = nn.Parameter(torch.zeros(labels))
        step, first = (torch.from_numpy(legal) for legal in legal_transitions(labels))
        self.register_buffer("_illegal_step", ~step, persistent=False)
        self.register_buffer("_illegal_first", ~first, persistent=False)

    def loss(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Nats per token. scores: (B, T, L); labels: (B, T), legal, any number where masked."""
        step, first = self.masked()
        possible = step.exp()
        ahead = first + scores[:, 0]  # (B, L): of all sequences that end here in a label
        for place in range(1, scores.shape[1]):
            most = ahead.detach().amax(1, keepdim=True)
            reached = ((ahead - most).exp() @ possible).clamp_min(LEAST).log() + most
            ahead = torch.where(mask[:, place, None], reached + scores[:, place], ahead)
        every = torch.logsumexp(ahead + self.last, 1)
        labels = labels * mask
        own = (scores.gather(2, labels[:, :, None])[:, :, 0] * mask).sum(1)
        steps = (step[labels[:, :-1], labels[:, 1:]] * mask[:, 1:]).sum(1)
        final = labels.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]
        expected = first[labels[:, 0]] + own + steps + self.last[final]
        return (every - expected).sum() / mask.sum()

    def masked(self) -> tuple[Tensor, Tensor]:
        """Scores of steps (L, L) and of the first label (L,), very low where illegal."""
        assert isinstance(self._illegal_step, Tensor)
        assert isinstance(self._illegal_first, Tensor)
        return (
            self.transitions.masked_fill(self._illegal_step, IMPOSSIBLE),
            self.first.masked_fill(self._illegal_first, IMPOSSIBLE),
        )

    @torch.no_grad()
    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """What `intent.viterbi.Decoder` begins with: steps, first and last."""
        step, first = self.masked()
        return step.numpy(), first.numpy(), self.last.numpy().copy()

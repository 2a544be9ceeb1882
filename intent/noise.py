"""What dropout hides."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What dropout hides while training, drawn from a generator of its own, so that training
    neither disturbs nor depends on torch's global one."""

    generator: torch.Generator
    word_dropout: float
    embedding_dropout: float
    feature_dropout: float
    estranged_words: float = 0.0
    """The share of known words that are seen by their n-grams alone."""

    def mask(self, *shape: int, drop: float) -> Tensor:
        """Zeros with probability `drop`, the rest scaled so that the mean stays."""
        kept = torch.rand(*shape, generator=self.generator) >= drop
        return kept / (1 - drop)

"""Sizes of the network, and how it is trained. Imports no torch."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class NetworkShape:
    vocabulary: int
    """Tokens, the special ones included."""
    embedding: int
    hidden: int
    """Of the decoder; each direction of the encoder has half of it."""
    source_tokens: int
    """So much of a conversation is read."""
    reply_tokens: int
    """No longer replies are learned, nor said."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The defaults suit some thousand conversations on a few CPU cores."""

    vocabulary: int = 4000
    embedding: int = 128
    hidden: int = 256
    source_tokens: int = 64
    reply_tokens: int = 64
    epochs: int = 20
    most_steps: int | None = None
    """Ends there, if the epochs would take longer."""
    patience_epochs: int = 3
    """Training stops when validation perplexity did not get better for so long."""
    batch_size: int = 64
    learning_rate: float = 2e-3
    warm_up_share: float = 0.05
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    dropout: float = 0.2
    sampled_share: float = 0.25
    """Of the decoder's inputs, those that are its own words at the end of training
    (scheduled sampling, Bengio et al. 2015). 0: teacher forcing all along."""
    valid_share: float = 0.1
    test_share: float = 0.1
    seed: int = 0


def sampling_decay(steps: int, sampled_share: float) -> float:
    """The k with which `teacher_forcing_share` has come down to 1 - `sampled_share` after so many
    steps; infinite where it never comes down."""
    if not sampled_share:
        return math.inf
    low, high = 1.0, 1.0
    while teacher_forcing_share(steps, high) < 1 - sampled_share:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if teacher_forcing_share(steps, middle) < 1 - sampled_share:
            low = middle
        else:
            high = middle
    return high


def teacher_forcing_share(step: int, decay: float) -> float:
    """The inverse-sigmoid decay of Bengio et al. 2015: k / (k + exp(step / k))."""
    if math.isinf(decay):
        return 1.0
    exponent = min(step / decay, 700.0)
    return decay / (decay + math.exp(exponent))

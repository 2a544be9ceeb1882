"""Which token comes next. The same for a request alone and for one in a batch.

Imported only where torch is loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """The last three are what the network's makers recommend in generation_config.json."""

    temperature: float = 0.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    top_k: int = 50
    top_p: float = 1.0


class TokenChooser:
    """Scores whose largest is the choice, for one request.

    Gumbel noise makes the largest score a draw from the softmax (Gumbel 1954), so that drawn and
    greedy requests share a batch, and the noise comes from the request's own seed: who else is in
    the batch changes nothing.
    """

    def __init__(self, sampling: Sampling) -> None:
        draws = sampling.temperature > 0
        self._processors: list[Any] = []
        if sampling.repetition_penalty != 1.0:
            self._processors.append(
                transformers.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)
            )
        if draws:
            self._processors.append(transformers.TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k > 0:
                self._processors.append(transformers.TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1.0:
                self._processors.append(transformers.TopPLogitsWarper(sampling.top_p))
        self._noise: torch.Generator | None = None
        if draws:
            self._noise = torch.Generator()
            if sampling.seed is None:
                self._noise.seed()
            else:
                self._noise.manual_seed(sampling.seed % 2**63)

    @property
    def changes_nothing(self) -> bool:
        return not self._processors

    def scores(self, tokens: Sequence[int], scores: Tensor) -> Tensor:
        """`tokens`: prompt and reply so far. `scores`: [vocabulary]."""
        ids = torch.tensor([tokens], device=scores.device)
        batch = scores.unsqueeze(0)
        for processor in self._processors:
            batch = processor(ids, batch)
        chosen = batch.squeeze(0)
        if self._noise is None:
            return chosen
        noise = torch.empty(chosen.shape).exponential_(generator=self._noise).log_()
        return chosen - noise.to(chosen.device)

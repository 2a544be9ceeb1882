"""Steps in mixed precision: bfloat16 computes, float32 learns (Micikevicius et al. 2018)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

CLIP_NORM = 1.0
BETAS = (0.9, 0.98)
AVERAGED_OVER = 100
"""Steps."""


class MixedPrecision:
    """AdamW on float32 copies of a network's weights; after each step the network gets them.

    Beside them runs their exponential mean, which generalises better than any of them (Izmailov et
    al. 2018, Tarvainen and Valpola 2017)."""

    def __init__(
        self,
        network: nn.Module,
        *,
        learning_rate: float,
        weight_decay: float,
        new: Sequence[nn.Parameter] = (),
        new_multiple: float = 1.0,
    ) -> None:
        """`new`: those of its parameters that learn `new_multiple` times as fast."""
        self._parameters = {
            name: parameter
            for name, parameter in network.named_parameters()
            if parameter.requires_grad
        }
        self.masters = {
            name: parameter.detach().float().clone() for name, parameter in self._parameters.items()
        }
        self.means = {name: master.clone() for name, master in self.masters.items()}
        self._steps = 0
        self._learning_rate = learning_rate
        fresh = set(map(id, new))
        begun: list[Tensor] = []
        added: list[Tensor] = []
        for name, parameter in self._parameters.items():
            (added if id(parameter) in fresh else begun).append(self.masters[name])
        self._multiples = [1.0, new_multiple] if added else [1.0]
        self._optimizer = torch.optim.AdamW(
            [{"params": group} for group in (begun, added) if group],
            lr=learning_rate,
            weight_decay=weight_decay,
            betas=BETAS,
        )

    def step(self, loss: Tensor, share: float) -> None:
        """`share`: of the learning rate."""
        torch.autograd.backward(loss)
        for name, parameter in self._parameters.items():
            gradient = parameter.grad
            self.masters[name].grad = None if gradient is None else gradient.float()
            parameter.grad = None
        nn.utils.clip_grad_norm_(self.masters.values(), CLIP_NORM)
        for group, multiple in zip(self._optimizer.param_groups, self._multiples, strict=True):
            group["lr"] = self._learning_rate * share * multiple
        self._optimizer.step()
        self._average()
        self._hand_over(self.masters)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Meanwhile the network has the mean weights."""
        self._hand_over(self.means)
        try:
            yield
        finally:
            self._hand_over(self.masters)

    def state(self) -> dict[str, Any]:
        return {
            "masters": self.masters,
            "means": self.means,
            "steps": self._steps,
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        for kept, saved in ((self.masters, state["masters"]), (self.means, state["means"])):
            for name, weight in kept.items():
                weight.copy_(saved[name])
        self._steps = state["steps"]
        self._optimizer.load_state_dict(state["optimizer"])
        self._hand_over(self.masters)

    @torch.no_grad()
    def _average(self) -> None:
        """Over few steps at first, or it would remember where they began."""
        self._steps += 1
        share = 1 / min(AVERAGED_OVER, 1 + self._steps / 10)
        for name, mean in self.means.items():
            mean.lerp_(self.masters[name], share)

    @torch.no_grad()
    def _hand_over(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])


def learning_rate_share(step: int, *, of: int, warm_up: int, least: float) -> float:
    """Up in a line over the first `warm_up` steps, and down in one to `least`."""
    return min(1.0, (step + 1) / warm_up) * max(least, 1 - step / of)

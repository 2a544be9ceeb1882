"""Steps in mixed precision: bfloat16 computes, float32 learns (Micikevicius et al. 2018)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

CLIP_NORM = 1.0
BETAS = (0.9, 0.98)


class MixedPrecision:
    """AdamW on float32 copies of a network's weights; after each step the network gets them."""

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
        self._hand_over()

    def state(self) -> dict[str, Any]:
        return {"masters": self.masters, "optimizer": self._optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        for name, master in self.masters.items():
            master.copy_(state["masters"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._hand_over()

    @torch.no_grad()
    def _hand_over(self) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(self.masters[name])


def learning_rate_share(step: int, *, of: int, warm_up: int, least: float) -> float:
    """Up in a line over the first `warm_up` steps, and down in one to `least`."""
    return min(1.0, (step + 1) / warm_up) * max(least, 1 - step / of)

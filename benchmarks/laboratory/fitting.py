"""What one run varies, how large a study is, and the training loop that watches itself."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from intent.optimization import learning_rate_share
from intent.shape import Cell

Start = Literal["default", "orthogonal", "wild", "open"]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What one run varies. `start` is how the recurrent weights begin, see `begin`; `readout` is
    what the head sees: the last state alone, or mean and maximum over all, as `Encoder` does."""

    cell: Cell
    directions: int = 1
    clip_norm: float = 1.0
    layer_norm: bool = False
    start: Start = "default"
    readout: Literal["last", "pooled"] = "last"
    optimizer: Literal["adamw", "sgd"] = "adamw"


@dataclass(frozen=True, kw_only=True)
class Size:
    seeds: int
    distances: tuple[int, ...]
    probe_steps: int
    clipping_seeds: int
    lengths: tuple[int, ...]
    length_steps: int
    intent_steps: int
    reach: int


FULL = Size(
    seeds=3,
    distances=(5, 10, 20, 40, 80, 160),
    probe_steps=400,
    clipping_seeds=7,
    lengths=(8, 16, 32, 64, 128),
    length_steps=400,
    intent_steps=375,
    reach=200,
)
QUICK = Size(
    seeds=1,
    distances=(5, 20),
    probe_steps=120,
    clipping_seeds=1,
    lengths=(8, 32),
    length_steps=40,
    intent_steps=25,
    reach=60,
)


def fit(
    network: nn.Module,
    draw_loss: Callable[[], Tensor],
    *,
    steps: int,
    clip_norm: float,
    learning_rate: float,
    optimizer: Literal["adamw", "sgd"] = "adamw",
    warm_up_share: float | None = None,
    stop_below: float = 0.0,
) -> tuple[list[float], list[float], float]:
    """Losses, gradient norms before clipping, and CPU seconds. The learning rate is constant
    unless it warms up. Stops early when the last 20 losses are on average below `stop_below`."""
    parameters = list(network.parameters())
    optimize: torch.optim.Optimizer
    if optimizer == "sgd":
        optimize = torch.optim.SGD(parameters, lr=learning_rate)
    else:
        optimize = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01, fused=True)
    losses: list[float] = []
    norms: list[float] = []
    started = time.process_time()
    for step in range(steps):
        if warm_up_share is not None:
            rate = learning_rate * learning_rate_share(step / steps, warm_up_share)
            for group in optimize.param_groups:
                group["lr"] = rate
        loss = draw_loss()
        optimize.zero_grad()
        torch.autograd.backward(loss)
        norms.append(nn.utils.clip_grad_norm_(parameters, clip_norm).item())
        optimize.step()
        losses.append(loss.item())
        if sum(losses[-20:]) < 20 * stop_below and len(losses) >= 20:
            break
    return rounded(losses), rounded(norms), time.process_time() - started


def rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]

"""Linear layers in 8 bits, for CPUs. Imported only where torch is loaded."""

import torch
from torch import Tensor, nn

from generator.interface import GeneratorUnavailable


class Int8Linear(nn.Module):
    """Weights with a scale per output, activations with a scale per token, sums in int32.

    Integer sums are exact in any order and no token's scale looks at another token, so that a
    row's result does not depend on what else is in its batch. `quantize_dynamic` of torch.ao has
    one scale for the whole batch, and is deprecated.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scale = _scale(weight)
        self.register_buffer("weight", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale.squeeze(-1))
        self.bias = linear.bias

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs.flatten(0, -2).float()  # [tokens, features in]
        scale = _scale(rows)
        sums = torch._int_mm((rows / scale).round().to(torch.int8), self.weight.t())
        outputs = sums.float().mul_(scale).mul_(self.scale)
        if self.bias is not None:
            outputs += self.bias
        return outputs.to(inputs.dtype).view(*inputs.shape[:-1], -1)


def _scale(rows: Tensor) -> Tensor:
    return rows.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127


def quantize(network: nn.Module) -> None:
    """Replaces the linear layers in place. Raises GeneratorUnavailable where that cannot work."""
    layers = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    covered = sum(linear.weight.numel() for _, _, linear in layers)
    if covered < sum(one.numel() for one in network.parameters()) / 2:
        raise GeneratorUnavailable(
            "int8 needs a network of linear layers and this one keeps most of its weights in "
            "others; choose bfloat16"
        )
    try:
        Int8Linear(nn.Linear(32, 32))(torch.ones(1, 1, 32))
    except (AttributeError, RuntimeError) as error:
        raise GeneratorUnavailable(
            f"this build of torch ({torch.__version__}) multiplies no int8 matrices on this CPU; "
            "choose bfloat16"
        ) from error
    for parent, name, linear in layers:
        setattr(parent, name, Int8Linear(linear))

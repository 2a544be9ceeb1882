"""Matrices in eight bits, each row with a scale of its own."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGEST = 127


@dataclass(frozen=True)
class QuantizedRows:
    values: NDArray[np.int8]  # (R, C)
    scales: NDArray[np.float32]  # (R,)

    def restore(self) -> NDArray[np.float32]:
        """(R, C)"""
        return self.values * self.scales[:, None]

    def rows(self, chosen: list[int]) -> NDArray[np.float32]:
        """(len(chosen), C)"""
        return self.values[chosen] * self.scales[chosen, None]


def quantize(matrix: NDArray[np.float32]) -> QuantizedRows:
    """(R, C) to the nearest of 255 steps between minus and plus each row's largest value."""
    largest = np.abs(matrix).max(axis=1, initial=0.0)
    scales = np.maximum(largest / LARGEST, np.finfo(np.float32).tiny).astype(np.float32)
    values = np.rint(matrix / scales[:, None]).astype(np.int8)
    return QuantizedRows(values, scales)

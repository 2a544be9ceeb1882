"""Matrices in eight bits, each row with a scale of its own."""

import numpy as np
from numpy.typing import NDArray

LARGEST = 127
SMALLEST_SCALE = np.float32(1e-12)


def quantized_rows(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(R, C) to the nearest of 255 steps between minus and plus each row's largest value, and the
    scales (R,)."""
    scales = np.maximum(np.abs(matrix).max(axis=1) / LARGEST, SMALLEST_SCALE)
    return np.rint(matrix / scales[:, None]).astype(np.int8), scales.astype(np.float32)

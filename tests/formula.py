"""Values for every tensor of a network from its name alone: the same in any version of any library."""

import math
import zlib

import numpy as np
import torch
from torch import Tensor


def uniform(name: str, count: int) -> np.ndarray:
    """`count` values in [-1, 1), float64: splitmix64 (Steele, Lea and Flood 2014) from the name's CRC-32."""
    with np.errstate(over="ignore"):
        step = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = step + np.uint64(zlib.crc32(name.encode()))
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))).astype(np.float64) / 2.0**63 - 1


def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """The float64 tensor of a name: kernels that keep variances, norms with statistics of their own."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    values = torch.from_numpy(uniform(name, math.prod(shape)).reshape(shape))
    if len(shape) > 1:
        return values * math.sqrt(3 / math.prod(shape[1:]))
    return values / 2 + (1 if name.endswith(("running_var", "weight")) else 0)


def fill(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the same names, shapes and types."""
    return {name: tensor(name, tuple(value.shape)).to(value.dtype) for name, value in state.items()}


def image(height: int, width: int) -> Tensor:
    """(1, 3, height, width) float64 in [0, 1)."""
    values = uniform(f"image {height} {width}", 3 * height * width)
    return torch.from_numpy((values + 1) / 2).reshape(1, 3, height, width)

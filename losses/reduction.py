"""Sums over the global batch: the batches of all ranks together."""

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of ranks; 1 in a run of one process."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_ranks(value: Tensor) -> Tensor:
    """Mean of a tensor over the ranks of a distributed run, without a host synchronisation.

    The value is the mean; the gradient is that of the local summand. DDP averages gradients over ranks,
    so `mean_over_ranks(x) / mean_over_ranks(y)` gets the gradient of the global quotient if both are sums
    over the local batch. A collective call: every rank makes it, those without a positive included. Without
    gradients, that is in validation, ranks may have different numbers of batches, so each keeps its own.

    Args:
        value: any shape, the same on all ranks.

    Returns:
        Same shape; `value` itself in a run of one process or without gradients.
    """
    if world_size() == 1 or not torch.is_grad_enabled():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world_size() + (value - value.detach())


def quotient(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide by a sum of non-negative terms; 0 / 0, the quotient of an empty batch, is 0.

    Args:
        numerator: any shape.
        denominator: broadcasting against it, >= 0.

    Returns:
        Their quotient, finite for a numerator of 0.
    """
    return numerator / denominator.clamp(min=torch.finfo(denominator.dtype).tiny)

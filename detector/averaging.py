"""Averages of weights, moved by a few kernels for all of them."""

import torch
from torch import Tensor, nn

Pairs = list[tuple[list[Tensor], list[Tensor]]]
"""Averages and what they are of; real numbers first, then counts, such as those of norms."""


def pair(averaged: nn.Module, current: nn.Module) -> Pairs:
    """Pair the parameters and buffers of a module with those of its average, once for many updates.

    To find them takes longer than to average them. They stay paired while values alone change: a module that
    is moved or converted needs new pairs.
    """
    averages, currents = ([*module.parameters(), *module.buffers()] for module in (averaged, current))
    pairs = [(a.detach(), c.detach()) for a, c in zip(averages, currents, strict=True)]
    return [
        ([a for a, _ in alike], [c for _, c in alike])
        for floating in (True, False)
        if (alike := [one for one in pairs if one[0].is_floating_point() == floating])
    ]


@torch.no_grad()
def move(averages: list[Tensor], currents: list[Tensor], weight: float) -> None:
    """Move averages towards their tensors by a share of the way, in place; counts are copied."""
    if averages[0].is_floating_point():
        # In double precision the module is converted after the average was copied from it.
        currents = [c.to(a.dtype) for a, c in zip(averages, currents, strict=True)]
        torch._foreach_lerp_(averages, currents, weight)
    else:
        torch._foreach_copy_(averages, currents)

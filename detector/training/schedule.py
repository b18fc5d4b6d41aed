"""How the learning rate moves over a training."""

from __future__ import annotations

import math

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer


def lr_factor(step: int, total: float, warmup: float, final: float, share: float | None = None) -> float:
    """Learning rate at a step, relative to the highest: a warm-up, then a cosine.

    A run that only a time limit ends goes through the schedule by the clock; one without any limit stays at
    the highest rate after a warm-up of 1000 steps.

    Args:
        step: optimizer steps so far.
        total: of the run; infinite for one that a time ends, or nothing.
        warmup: share of the run in which the rate rises.
        final: rate at the end.
        share: of its time that a run has had which a time ends, see `time_share`.
    """
    if math.isinf(total):
        if share is None:
            return min(1.0, (step + 1) / 1000)
        ramp = share / max(warmup, 1e-9)
    else:
        share = step / total
        ramp = (step + 1) / max(1, round(warmup * total))
    cosine = (1 + math.cos(math.pi * min(1.0, share))) / 2
    return min(1.0, ramp) * (final + (1 - final) * cosine)


def time_share(trainer: Trainer) -> float | None:
    """Share of its time that a run has had, the same on all ranks, which must ask together; None without end.

    Ranks have clocks of their own: with a rate by each of them their weights would part.
    """
    timer = next((c for c in trainer.callbacks if isinstance(c, Timer)), None)  # type: ignore[attr-defined]
    if timer is None:
        return None
    elapsed, remaining = timer.time_elapsed(), timer.time_remaining() or 0.0
    share = torch.tensor(elapsed / max(elapsed + remaining, 1e-9), device=trainer.strategy.root_device)
    return float(trainer.strategy.reduce(share, reduce_op="max"))

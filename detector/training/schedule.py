"""How the learning rate moves over a training."""

from __future__ import annotations

import math

from lightning.pytorch.callbacks import Timer


def lr_factor(step: int, total: float, warmup: float, final: float, timer: Timer | None = None) -> float:
    """Learning rate at a step, relative to the highest: a warm-up, then a cosine.

    A run that only a time limit ends goes through the schedule by the clock; one without any limit stays at
    the highest rate after a warm-up of 1000 steps.

    Args:
        step: optimizer steps so far.
        total: of the run; infinite for one that a time ends, or nothing.
        warmup: share of the run in which the rate rises.
        final: rate at the end.
        timer: knows the time of a run that it ends.
    """
    if math.isinf(total):
        if timer is None:
            return min(1.0, (step + 1) / 1000)
        elapsed, remaining = timer.time_elapsed(), timer.time_remaining() or 0.0
        share = elapsed / max(elapsed + remaining, 1e-9)
        ramp = share / max(warmup, 1e-9)
    else:
        share = step / total
        ramp = (step + 1) / max(1, round(warmup * total))
    cosine = (1 + math.cos(math.pi * min(1.0, share))) / 2
    return min(1.0, ramp) * (final + (1 - final) * cosine)

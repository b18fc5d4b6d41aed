"""How the learning rate moves over a training."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_info

from datamodules.limits import require_between


@final
class Schedule:
    """Where in its schedule a training is, also one that goes on with epochs of another length.

    With other batches, ranks or images an epoch has other steps: what was trained counts as so many of these
    as it was epochs.

    Args:
        warmup: share of the steps in which the rate rises.
        final: rate at the end, relative to the highest.

    Attributes:
        total: steps of the training; infinite for one that a time ends, or nothing.

    Raises:
        ValueError: a share or a rate that is not in [0, 1].
    """

    def __init__(self, warmup: float, final: float) -> None:
        require_between("model.warmup", warmup, 0, 1)
        require_between("model.final_lr", final, 0, 1)
        self.warmup, self.final = warmup, final
        self.total: float = 1
        self._epoch: int | None = None
        self._ahead = 0

    def begin(self, trainer: Trainer) -> None:
        """Learn how many steps there will be, when the trainer knows its batches."""
        self.total = trainer.estimated_stepping_batches
        before, epochs = self._epoch, trainer.max_epochs
        self._epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        by_epochs = epochs is not None and self.total == epochs * self._epoch
        done: int = trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
        if before in (None, self._epoch) or not by_epochs or not done:
            return
        self._ahead += done * (self._epoch - before)
        rank_zero_info(f"an epoch had {before} steps and has {self._epoch} now: the rates go on by epochs")

    def factor(self, step: int, share: float | None = None) -> float:
        """Learning rate at a step, relative to the highest; see `lr_factor`."""
        return lr_factor(step + self._ahead, self.total, self.warmup, self.final, share)

    def state_dict(self) -> dict[str, Any]:
        """What a training that goes on has to know."""
        return {"epoch": self._epoch, "ahead": self._ahead}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on."""
        self._epoch, self._ahead = state["epoch"], state["ahead"]


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

"""What all ranks do at the same step."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer


def agree(trainer: Trainer, stop: int, save: bool) -> tuple[int, bool]:
    """What any rank wants, so that all do it at this step; all ranks must call it at the same step.

    Args:
        trainer: of the training.
        stop: number of the signal that this rank received, 0 for none.
        save: whether it is time for a checkpoint.

    Returns:
        Signal to stop for, 0 for none; whether to save.
    """
    if trainer.world_size == 1:
        return stop, save
    wanted = torch.tensor([stop, int(save)], device=trainer.strategy.root_device)
    torch.distributed.all_reduce(wanted, torch.distributed.ReduceOp.MAX)
    found = wanted.tolist()
    return found[0], bool(found[1])

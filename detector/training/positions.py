"""Where in its training a checkpoint stands, written so that a run which goes on does all that was left.

Lightning counts what is ready, started, processed and completed, and guesses from these counts at which hook
a checkpoint was saved. A wrong guess skips a validation, the end of an epoch, or trains a batch twice. So
every checkpoint is settled into one of three positions:

    within an epoch       b batches are done, all counts are b
    before a validation   as if it had been broken off before its first batch: Lightning then runs it whole
    end of an epoch       all counts of epochs are the same
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor


def settle(trainer: Trainer, loops: dict[str, Any]) -> None:
    """Settle the progress in a checkpoint.

    Args:
        trainer: which saves it, at any hook of a training.
        loops: the checkpoint's `loops`; changed in place.
    """
    fit, loop = loops["fit_loop"], trainer.fit_loop.epoch_loop
    epoch, batches = fit["epoch_progress"], fit["epoch_loop.batch_progress"]
    if epoch["current"]["processed"] == epoch["current"]["started"]:
        _level(epoch)
        return
    state = fit["epoch_loop.state_dict"]
    after_step = batches["current"]["processed"] > batches["current"]["completed"]
    fetcher = trainer.fit_loop._data_fetcher
    validates = trainer.validating or (
        after_step and fetcher is not None and loop._should_check_val_fx(fetcher)
    )
    _level(batches)
    if validates:
        # Lightning counts the step when its validation is over.
        pending = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        fit["epoch_loop.val_loop.batch_progress"] |= {"current": {**pending}, "total": {**pending}}
        return
    batches["is_last_batch"] = False
    counted = "total" if trainer.check_val_every_n_epoch is None else "current"  # as Lightning does
    done, every = batches[counted]["processed"], trainer.val_check_batch
    if after_step:
        state["_batches_that_stepped"] += not loop._should_accumulate()
    elif done and every and done % every == 0 and loop._should_check_val_epoch():
        # Its validation is over, which Lightning sees, and counts the step once more.
        state["_batches_that_stepped"] -= 1


def _level(progress: dict[str, Any]) -> None:
    for counts in (progress["current"], progress["total"]):
        counts["completed"] = counts["ready"] = counts["started"] = counts["processed"]


def by_rank(trainer: Trainer, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """(R, ...): what each of R ranks has counted, for a checkpoint, which the first one alone writes."""
    ranks = trainer.world_size
    return {name: trainer.strategy.all_gather(v).view(ranks, *v.shape) for name, v in values.items()}


def own_share(trainer: Trainer, counted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What this rank goes on with of `by_rank`: its own; with another number of ranks, the first has all."""
    ranks, rank = trainer.world_size, trainer.global_rank
    shares = {name: value.view(-1, value.shape[-1]) for name, value in counted.items()}
    return {name: s[rank] if len(s) == ranks else s.sum(0) * (rank == 0) for name, s in shares.items()}

"""Averaged weights."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from datamodules.batch import Batch
from datamodules.limits import require_between
from detector.averaging import Pairs, move, pair


class EMA(WeightAveraging):
    """Exponential moving average of the weights: the average is what is validated, saved and used.

    The average reaches back over a share of the updates so far, up to 1 / (1 - decay) of them: short runs
    must forget their initial weights too.

    Args:
        decay: largest share of the old average that an update keeps.
        window: share of the updates so far that the average reaches back.

    Raises:
        ValueError: a share that is not in [0, 1].
    """

    def __init__(self, decay: float = 0.9998, window: float = 0.05) -> None:
        require_between("EMA.decay", decay, 0, 1)
        require_between("EMA.window", window, 0, 1)
        super().__init__(multi_avg_fn=self._average)
        self.decay = decay
        self.window = window
        self._pairs: Pairs = []
        self._exchanged = False

    def _average(self, averages: list[Tensor], currents: list[Tensor], updates: Tensor | int) -> None:
        # Lightning counts optimizer steps, not batches, so accumulation is accounted for.
        steps = self._latest_update_step + 1
        move(averages, currents, max(1 - self.decay, 1 / (1 + self.window * steps)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pair the weights, which are where they stay now, with their averages."""
        assert self._average_model is not None
        self._pairs = pair(self._average_model.module, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Update the average after an optimizer step. Lightning's own way waits for the device, twice."""
        if trainer.global_step <= self._latest_update_step:
            return
        assert self._average_model is not None
        for averages, currents in self._pairs:
            if self._latest_update_step:
                self._average(averages, currents, 0)
            else:
                torch._foreach_copy_(averages, currents)
        self._average_model.n_averaged += 1
        self._latest_update_step = trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the module."""
        super().on_train_end(trainer, pl_module)
        self._pairs = []

    def _swap_models(self, pl_module: LightningModule) -> None:
        super()._swap_models(pl_module)
        self._exchanged = not self._exchanged

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average and the current weights, each as what it is: a validation exchanges the two."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._exchanged:
            current, average = checkpoint["state_dict"], checkpoint["current_model_state"]
            checkpoint |= {"state_dict": average, "current_model_state": current}

"""Random numbers that a network draws in training, the same ones however often its run is interrupted."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.batch import Batch


class StepSeeds(Callback):
    """Seeds torch's generators before each batch, so that dropout needs no state of a generator to go on.

    States of generators would be one a rank and device, in a checkpoint that the first rank alone writes, and
    what draws between two steps, such as a loader that starts, would have to draw the same after a resume.

    Attributes:
        seed: of the whole run; that of torch when its training begins, unless a checkpoint says it.
    """

    def __init__(self) -> None:
        self.seed: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the seed over, before any step has changed it."""
        if self.seed is None:
            self.seed = torch.initial_seed()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Seed by run, epoch, batch and rank; nothing waits for a GPU."""
        assert self.seed is not None
        place = (self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))

    def state_dict(self) -> dict[str, Any]:
        """The seed."""
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the seed of the run."""
        self.seed = state_dict["seed"]

"""Averaged weights."""

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class EMA(WeightAveraging):
    """Exponential moving average of the weights: the average is what is validated, saved and used.

    The average reaches back over a share of the updates so far, up to 1 / (1 - decay) of them: short runs
    must forget their initial weights too.

    Args:
        decay: largest share of the old average that an update keeps.
        window: share of the updates so far that the average reaches back.
    """

    def __init__(self, decay: float = 0.9998, window: float = 0.05) -> None:
        super().__init__(multi_avg_fn=self._average)
        self.decay = decay
        self.window = window

    @torch.no_grad()
    def _average(self, averages: list[Tensor], currents: list[Tensor], updates: Tensor | int) -> None:
        # Lightning counts optimizer steps, not batches, so accumulation is accounted for.
        steps = self._latest_update_step + 1
        weight = max(1 - self.decay, 1 / (1 + self.window * steps))
        if averages[0].is_floating_point():
            # In double precision the module is converted after the average was copied from it.
            currents = [c.to(a.dtype) for a, c in zip(averages, currents, strict=True)]
            torch._foreach_lerp_(averages, currents, weight)
        else:
            for average, current in zip(averages, currents, strict=True):
                average.copy_(current)

"""A box loss of your own, which no other file needs to know.

In this folder's parent: python train.py --config configs/quickstart.yaml
--model.loss.box=examples.custom_loss.CornerLoss --model.loss.box.power=1.5
evaluate.py must be told of it again, without the power: no checkpoint may choose what is imported.
"""

import torch
from torch import Tensor

from losses.boxes import size
from losses.regression import BoxLoss


class CornerLoss(BoxLoss):
    """Distance of like corners over the target's mean side: sum w mean(|pred - target| / side)^power / S.

    Args:
        power: exponent of the distance, >= 1.
    """

    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        self.power = power

    def forward(
        self, pred: Tensor, target: Tensor, weight: Tensor, normaliser: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum the weighted losses; see `BoxLoss.forward`."""
        side = size(target, floor=1.0).mean(-1)
        cost = ((pred - target).abs().mean(-1) / side) ** self.power
        return (weight * cost).sum() / normaliser, torch.ones_like(weight)

"""Box losses, which turn the similarities of a batch into one number.

P positives of the batch, w their target scores, S the normaliser that all terms of the total loss share.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses.ranges import in_range
from losses.reduction import mean_over_ranks, quotient
from losses.similarity import iou, wise_iou
from losses.tunable import Similarity, SimilarityName, resolve


class BoxLoss(nn.Module, ABC):
    """A loss of matched boxes, which may hold state.

    Every rank calls it once per training step, with or without positives.
    """

    @abstractmethod
    def forward(
        self, pred: Tensor, target: Tensor, weight: Tensor, normaliser: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compare predicted boxes with their targets.

        Args:
            pred: (P, 4) xyxy pixels of the input.
            target: (P, 4) xyxy pixels of the input.
            weight: (P,) target scores w, >= 0, without gradient.
            normaliser: () the S of all terms: the sum of w, averaged over ranks, at least 1.

        Returns:
            The loss, (), before its gain, connected to `pred` even for P = 0; and (P,) factors k, without
            gradient, which weigh each positive in the distribution loss as well.
        """


class SimilarityLoss(BoxLoss):
    """The plain loss of a similarity: sum w (1 - similarity) / S.

    Range, scale, units, source and evidence are those of the similarity.

    Args:
        similarity: name of a similarity, or one with its own parameters.
    """

    def __init__(self, similarity: SimilarityName | Similarity = "ciou") -> None:
        super().__init__()
        self.similarity = resolve(similarity)

    def forward(
        self, pred: Tensor, target: Tensor, weight: Tensor, normaliser: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum the weighted losses; see `BoxLoss.forward`."""
        cost = 1 - self.similarity(pred, target)
        assert cost.shape == weight.shape
        return (weight * cost).sum() / normaliser, torch.ones_like(weight)


class RunningMean(nn.Module):
    """Exponential running mean over the global batches of training: the state of Wise-IoU v2 and v3.

    A buffer, so checkpoints keep it, and equal on all ranks. Empty batches and evaluation leave it unchanged.

    Args:
        half_life: steps in which the mean forgets half of its first value, 1.
    """

    mean: Tensor

    def __init__(self, half_life: float) -> None:
        super().__init__()
        self.momentum = 1 - 0.5 ** (1 / in_range("half_life", half_life, 0, above=True))
        self.register_buffer("mean", torch.ones(()))

    def forward(self, values: Tensor) -> Tensor:
        """Update the mean by values, (P,) without gradient; returns it, ()."""
        if self.training:
            count = values.new_full((), len(values))
            total, count = mean_over_ranks(torch.stack((values.sum(), count))).to(self.mean).unbind()
            self.mean.lerp_(quotient(total, count), self.momentum * count.sign())
        return self.mean


class WiseIoUV2Loss(BoxLoss):
    """Wise-IoU v2: sum w beta^gamma (1 - wise_iou) / S, beta = (1 - IoU) / running mean of it, no gradient.

    Monotonic: bad boxes weigh more. Range: >= 0. Scale: invariant. Units: none. Small objects: nothing known;
    small boxes have low IoU, so they gain weight. Source: Tong et al. 2023, Wise-IoU.

    Args:
        gamma: exponent >= 0 of the focusing; 0.5 in the paper.
        half_life: steps in which the running mean forgets half of its first value, 1; 7000 in the authors'
            code. Choose about a quarter of a shorter training.
    """

    def __init__(self, gamma: float = 0.5, half_life: float = 7000.0) -> None:
        super().__init__()
        self.gamma, self.running_mean = in_range("gamma", gamma, 0), RunningMean(half_life)

    def forward(
        self, pred: Tensor, target: Tensor, weight: Tensor, normaliser: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum the weighted losses; see `BoxLoss.forward`."""
        cost = (1 - iou(pred, target)).detach().clamp(min=0)
        focus = (cost / self.running_mean(cost)) ** self.gamma
        return (weight * focus * (1 - wise_iou(pred, target))).sum() / normaliser, torch.ones_like(weight)


class WiseIoUV3Loss(BoxLoss):
    """Wise-IoU v3: sum w r (1 - wise_iou) / S, r = beta / (delta alpha^(beta - delta)), beta as in v2.

    Not monotonic: boxes of middling quality weigh most, hopeless ones next to nothing. Range: >= 0. Scale:
    invariant. Units: none. Small objects: nothing known; if all small boxes are hopeless at first, they are
    given up. Source: Tong et al. 2023, Wise-IoU; on COCO with YOLOv7, AP75 53.0 to 54.5.

    Args:
        alpha: base > 1 of the fall; 1.9 in the paper.
        delta: beta at which r is 1; 3 in the paper.
        half_life: steps in which the running mean forgets half of its first value, 1; 7000 in the authors'
            code. Choose about a quarter of a shorter training.
    """

    def __init__(self, alpha: float = 1.9, delta: float = 3.0, half_life: float = 7000.0) -> None:
        super().__init__()
        self.alpha = in_range("alpha", alpha, 1, above=True)
        self.delta = in_range("delta", delta, 0, above=True)
        self.running_mean = RunningMean(half_life)

    def forward(
        self, pred: Tensor, target: Tensor, weight: Tensor, normaliser: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum the weighted losses; see `BoxLoss.forward`."""
        cost = (1 - iou(pred, target)).detach().clamp(min=0)
        beta = cost / self.running_mean(cost)
        focus = beta / (self.delta * self.alpha ** (beta - self.delta))
        return (weight * focus * (1 - wise_iou(pred, target))).sum() / normaliser, torch.ones_like(weight)


class SmoothL1Loss(BoxLoss):
    """Smooth L1 of the four sides: sum w mean(smooth_l1((pred - target) / unit)) / S.

    Range: >= 0. Scale: not invariant; a pixel weighs the same in every box, at most 1 / (4 unit) a side, so
    large objects dominate. Units: errors in `unit` pixels. Small objects: overlap is not
    seen, so a small object may stay below any IoU threshold. Source: Girshick 2015, Fast R-CNN.

    Args:
        beta: error, in units, at which the square turns into a line.
        unit: pixels of the input; at 16, a 16 px box sees about the gradient of the IoU loss.
    """

    def __init__(self, beta: float = 0.25, unit: float = 16.0) -> None:
        super().__init__()
        self.beta, self.unit = in_range("beta", beta, 0), in_range("unit", unit, 0, above=True)

    def forward(
        self, pred: Tensor, target: Tensor, weight: Tensor, normaliser: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum the weighted losses; see `BoxLoss.forward`."""
        cost = F.smooth_l1_loss(pred / self.unit, target / self.unit, reduction="none", beta=self.beta).mean(
            -1
        )
        assert cost.shape == weight.shape
        return (weight * cost).sum() / normaliser, torch.ones_like(weight)

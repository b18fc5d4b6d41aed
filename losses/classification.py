"""Classification losses: sparse, so no target of the size of the logits exists.

N points of the batch (B * A), C classes, P positives; x a logit, p = sigmoid(x), t the target: the
positive's score at its class, 0 elsewhere; S the normaliser that all terms of the total loss share. Each loss
is a sum over all entries as if none were positive, corrected at the P entries that are; dice is a quotient of
such sums. None is known to help small objects; where there is evidence, the class says so.

Class weights multiply all entries of their class, positive or not, so every loss keeps its minimum: a weight
says how much a class matters, not how confident the detector should be. The formulas below have weights of 1.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses.ranges import in_range
from losses.reduction import mean_over_ranks, world_size


@dataclass(frozen=True, slots=True)
class ClassTargets:
    """Targets of N points: `score` at [point, label] and 0 elsewhere.

    Attributes:
        valid: (N,) 1 for points that count, 0 for those that do not; every positive counts.
        point: (P,) int64 index of each positive into the N, no point twice.
        label: (P,) int64 class of each positive.
        score: (P,) target score of each positive in [0, 1], without gradient.
        normaliser: () the S of all terms: the sum of scores, averaged over ranks, at least 1.
        weights: (C,) factor of each class; all 1 is the unweighted loss, to the last digit.
    """

    valid: Tensor
    point: Tensor
    label: Tensor
    score: Tensor
    normaliser: Tensor
    weights: Tensor

    def at(self, values: Tensor) -> Tensor:
        """Entries of (N, C) values at the positives: (P,)."""
        return values[self.point, self.label]

    def sum_valid(self, values: Tensor) -> Tensor:
        """Weighted sum of (N, C) values over the points that count, positives among them."""
        return ((values * self.weights).sum(-1) * self.valid).sum()

    def sum_positive(self, values: Tensor) -> Tensor:
        """Weighted sum of (P,) values of the positives."""
        return (self.weights[self.label] * values).sum()


class ClassificationLoss(nn.Module, ABC):
    """A loss of class logits. Every rank calls it once per training step, with or without positives."""

    @abstractmethod
    def forward(self, logits: Tensor, targets: ClassTargets) -> Tensor:
        """Compare logits with their targets.

        Args:
            logits: (N, C) float.
            targets: what the logits should become.

        Returns:
            The loss, (), before its gain.
        """


class BCELoss(ClassificationLoss):
    """Binary cross-entropy of each class: (sum softplus(x) - sum x t) / S.

    Range: >= 0. Its minimum is at p = t, so confidence learns the target score.
    """

    def forward(self, logits: Tensor, targets: ClassTargets) -> Tensor:
        """Sum the losses; see `ClassificationLoss.forward`."""
        negative = targets.sum_valid(F.softplus(logits))
        return (negative - targets.sum_positive(targets.score * targets.at(logits))) / targets.normaliser


class CrossEntropyLoss(ClassificationLoss):
    """Softmax cross-entropy with a background class of logit 0: (sum ln(1 + sum exp x) - sum x t) / S.

    A positive's target is t for its class and 1 - t for the background. Range: >= 0. With one class it is the
    binary cross-entropy. Classes exclude each other. Detections are scored by sigmoid(x), which is at least
    the softmax probability and orders the detections of a class alike while the other classes' logits are
    low. A class weight multiplies the positives of its class; the background's weight is 1.
    """

    def forward(self, logits: Tensor, targets: ClassTargets) -> Tensor:
        """Sum the losses; see `ClassificationLoss.forward`."""
        weights = targets.valid.index_put((targets.point,), targets.weights[targets.label])
        background = (F.softplus(logits.logsumexp(-1)) * weights).sum()
        return (background - targets.sum_positive(targets.score * targets.at(logits))) / targets.normaliser


class FocalLoss(ClassificationLoss):
    """Focal loss: (sum (1 - alpha) p^gamma softplus(x) + sum alpha (1 - p)^gamma softplus(-x)) / n.

    The second sum runs over the positive entries, the first over all others; the target is 1 whatever the
    score; n, at least 1, is the number of positives averaged over ranks. Range: >= 0. Confidence learns
    presence, not the quality of the box, so NMS may keep worse boxes than with a soft target. Source: Lin et
    al. 2017.

    Args:
        alpha: weight of positives in [0, 1]; 0.25 in the paper.
        gamma: focal exponent >= 0; 2 in the paper.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        self.alpha, self.gamma = in_range("alpha", alpha, 0, 1), in_range("gamma", gamma, 0)

    def forward(self, logits: Tensor, targets: ClassTargets) -> Tensor:
        """Sum the losses; see `ClassificationLoss.forward`."""
        negative = targets.sum_valid(_focal_negative(logits, self.gamma))
        at = targets.at(logits)
        positive = self.alpha * _focal_negative(-at, self.gamma)
        correction = positive - (1 - self.alpha) * _focal_negative(at, self.gamma)
        count = mean_over_ranks(logits.new_full((), len(at))).clamp(min=1)
        return ((1 - self.alpha) * negative + targets.sum_positive(correction)) / count


class QualityFocalLoss(ClassificationLoss):
    """Quality focal loss: sum |t - p|^beta (softplus(x) - x t) / S.

    Range: >= 0. Its minimum is at p = t; entries near their target fade, easy background first. Source: Li et
    al. 2020, Generalized Focal Loss.

    Args:
        beta: focal exponent >= 1; 2 in the paper.
    """

    def __init__(self, beta: float = 2.0) -> None:
        super().__init__()
        self.beta = in_range("beta", beta, 1)

    def forward(self, logits: Tensor, targets: ClassTargets) -> Tensor:
        """Sum the losses; see `ClassificationLoss.forward`."""
        negative = targets.sum_valid(_focal_negative(logits, self.beta))
        at, score = targets.at(logits), targets.score
        positive = (score - at.sigmoid()).abs() ** self.beta * (F.softplus(at) - score * at)
        correction = positive - _focal_negative(at, self.beta)
        return (negative + targets.sum_positive(correction)) / targets.normaliser


class VarifocalLoss(ClassificationLoss):
    """Varifocal loss: (sum alpha p^gamma softplus(x) + sum t (softplus(x) - x t)) / S.

    The second sum runs over the positive entries, the first over all others. Range: >= 0. Only background
    fades; positives weigh by their score, so small objects, whose scores are low, weigh less. Source: Zhang
    et al. 2021, VarifocalNet.

    Args:
        alpha: weight of background; 0.75 in the paper.
        gamma: focal exponent >= 0; 2 in the paper.
    """

    def __init__(self, alpha: float = 0.75, gamma: float = 2.0) -> None:
        super().__init__()
        self.alpha, self.gamma = in_range("alpha", alpha, 0), in_range("gamma", gamma, 0)

    def forward(self, logits: Tensor, targets: ClassTargets) -> Tensor:
        """Sum the losses; see `ClassificationLoss.forward`."""
        negative = targets.sum_valid(_focal_negative(logits, self.gamma))
        at, score = targets.at(logits), targets.score
        positive = score * (F.softplus(at) - score * at)
        correction = positive - self.alpha * _focal_negative(at, self.gamma)
        return (self.alpha * negative + targets.sum_positive(correction)) / targets.normaliser


class DiceLoss(ClassificationLoss):
    """Dice loss over all entries of the global batch: 1 - (2 sum p t + 1) / (sum p^2 + sum t^2 + 1).

    Range: [0, 1), far smaller than the other losses, so it needs a larger gain. Without the ones, a batch
    without positives would teach nothing. It balances few positives against many points by itself. Source:
    Milletari et al. 2016, V-Net.
    """

    def forward(self, logits: Tensor, targets: ClassTargets) -> Tensor:
        """Compare the sums; see `ClassificationLoss.forward`."""
        probabilities = logits.sigmoid()
        common = targets.sum_positive(targets.at(probabilities) * targets.score)
        sizes = targets.sum_valid(probabilities.square()) + targets.sum_positive(targets.score.square())
        common, sizes = mean_over_ranks(torch.stack((common, sizes))).unbind()
        one = 1 / world_size()  # the sums are means over ranks
        return 1 - (2 * common + one) / (sizes + one)


def _focal_negative(logits: Tensor, exponent: float) -> Tensor:
    """p^exponent softplus(x), the focal loss of entries whose target is 0."""
    return torch.exp(exponent * F.logsigmoid(logits)) * F.softplus(logits)

"""Classification losses: sparse, so no target of the size of the logits exists.

N points of the batch (B * A), C classes, P positives.
"""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn


class ClassificationLoss(nn.Module, ABC):
    """A loss of class logits. Every rank calls it once a step, without a positive too."""

    @abstractmethod
    def forward(
        self, logits: Tensor, valid: Tensor, point: Tensor, label: Tensor, score: Tensor, normaliser: Tensor
    ) -> Tensor:
        """Compare logits with targets that are `score` at [point, label] and 0 elsewhere.

        Args:
            logits: (N, C) float.
            valid: (N,) 1, or 0 for points that shall not count; a positive counts always.
            point: (P,) int64 index of each positive into the N, no point twice.
            label: (P,) int64 class of each positive.
            score: (P,) target score of each positive in [0, 1], without gradient.
            normaliser: () the S of all terms: the sum of scores, averaged over ranks, at least 1.

        Returns:
            The loss, (), before its gain.
        """


class BCELoss(ClassificationLoss):
    """Binary cross-entropy per class: (sum softplus(x) - sum over positives x t) / S.

    Range: [0, inf). Soft targets: the minimum is at sigmoid(x) = t, so confidence learns the target score.
    """

    def forward(
        self, logits: Tensor, valid: Tensor, point: Tensor, label: Tensor, score: Tensor, normaliser: Tensor
    ) -> Tensor:
        """Sum the losses; see `ClassificationLoss.forward`."""
        negative = (F.softplus(logits).sum(-1) * valid).sum()
        return (negative - (logits[point, label] * score).sum()) / normaliser

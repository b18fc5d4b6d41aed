"""Box losses: what turns the similarities of a batch into one number.

P positives of the batch.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from losses.similarity import Similarity, SimilarityName, resolve


class BoxLoss(nn.Module, ABC):
    """A loss of matched boxes. May hold state; every rank calls it once a step, without a positive too."""

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
            gradient, by which the loss weighs each positive and the distribution loss shall weigh it too.
        """


class SimilarityLoss(BoxLoss):
    """The plain loss of a similarity: sum w (1 - similarity) / S.

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

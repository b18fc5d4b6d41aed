"""The six size-aware losses: weights by object area and by difficulty, on top of any similarity.

P positives of the batch; c = 1 - similarity (P,), A = target area in pixels of the input, at least 1 (P,),
w = target score (P,), S = the normaliser that all terms of the total loss share. Everything is (P,): with
(P, 1) costs and (P,) areas, as in the notebook that the losses come from, the product is (P, P), its sum
factorises, and no box's gradient depends on its own size.

Each loss has two forms.

- `calibrated=True` (default): sum w k c / S with k = s f, without gradient. s is the size weight over its
  w-weighted mean, clipped to [0.25, 4]; f is the focal weight over its w s-weighted mean. Constant factors
  cancel, so the loss stays near the plain one (1.0 to 1.3 times it on the batches of the tests, the norm of
  its gradient 1.3 to 2.0 times, as small boxes have more), the gains of the total loss stay valid, and the
  distribution loss is weighed by k as well. normalized_sqrt, hybrid and hybrid_scaled coincide, and dynamic
  loses its gamma.
- `calibrated=False`: the formula that the notebook intended, per box and with area in pixels, with its own
  constants and normaliser; the distribution loss is left alone (k = 1). The similarity's gradient is already
  proportional to 1/side; 1/sqrt(A) makes that 1/side^2. All but normalized_sqrt are smaller than the plain
  loss, 15 to 900 times on the batches of the tests and the more the better the boxes, so the gains of the
  total loss no longer fit.

All sums run over the global batch. There is no published evidence for any of the six: the notebook's own
scores were made with the (P, P) product. Ours speaks against them so far: calibrated inverse_sqrt and hybrid
score 3 to 4 AP below CIoU on two data sets, see benchmarks/comparison.md. Compare before you believe.
"""

import torch
from torch import Tensor

from losses.boxes import area
from losses.ranges import in_range
from losses.reduction import mean_over_ranks, quotient
from losses.regression import BoxLoss
from losses.tunable import Similarity, SimilarityName, resolve

SIZE_WEIGHT_RANGE = (0.25, 4.0)
"""Bounds of the calibrated size weight."""


def target_area(target: Tensor) -> Tensor:
    """Areas of targets, at least one pixel.

    Args:
        target: (P, 4) xyxy pixels of the input.

    Returns:
        (P,) >= 1.
    """
    return area(target).clamp(min=1)


def calibrated_factors(size_weight: Tensor, focal_weight: Tensor, weight: Tensor) -> Tensor:
    """The factors k = s f of the calibrated form.

    Args:
        size_weight: (P,) weight by size, in any unit.
        focal_weight: (P,) weight by difficulty, in any unit, without gradient.
        weight: (P,) target scores w.

    Returns:
        (P,) factors; sum w k equals sum w s.
    """
    assert size_weight.shape == focal_weight.shape == weight.shape
    total, sized = mean_over_ranks(torch.stack((weight.sum(), (weight * size_weight).sum())))
    s = quotient(size_weight * total, sized).clamp(*SIZE_WEIGHT_RANGE)
    total, focused = mean_over_ranks(torch.stack(((weight * s).sum(), (weight * s * focal_weight).sum())))
    return s * quotient(focal_weight * total, focused)


def calibrated_loss(
    cost: Tensor, size_weight: Tensor, focal_weight: Tensor, weight: Tensor, normaliser: Tensor
) -> tuple[Tensor, Tensor]:
    """The calibrated form of a size-aware loss: sum w k c / S.

    Args:
        cost: (P,) c.
        size_weight: (P,) weight by size, in any unit.
        focal_weight: (P,) weight by difficulty, in any unit, without gradient.
        weight: (P,) target scores w.
        normaliser: () S.

    Returns:
        What `BoxLoss.forward` returns.
    """
    factors = calibrated_factors(size_weight, focal_weight, weight)
    return (weight * factors * cost).sum() / normaliser, factors


class InverseSqrtLoss(BoxLoss):
    """Inverse square root, the notebook's first attempt: sum w c (gain / sqrt A) / S.

    Range: [0, 1.3] for CIoU. Units: A in pixels of the input. Scale: falls by 1/r as a box grows r times.
    Calibrated: no focal weight, k = s.

    Args:
        similarity: what c comes from, a name or an object.
        calibrated: form of the loss, see the module.
        gain: g, 0.5 in the notebook; without effect if calibrated.
    """

    def __init__(
        self, similarity: SimilarityName | Similarity = "ciou", calibrated: bool = True, gain: float = 0.5
    ) -> None:
        super().__init__()
        self.similarity, self.calibrated = resolve(similarity), calibrated
        self.gain = in_range("gain", gain, 0, above=True)

    def forward(
        self, pred: Tensor, target: Tensor, weight: Tensor, normaliser: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum the weighted losses; see `BoxLoss.forward`."""
        cost = (1 - self.similarity(pred, target)).clamp(min=0)
        size_weight = self.gain * target_area(target).rsqrt()
        assert cost.shape == size_weight.shape == weight.shape
        if self.calibrated:
            return calibrated_loss(cost, size_weight, torch.ones_like(weight), weight, normaliser)
        return (weight * cost * size_weight).sum() / normaliser, torch.ones_like(weight)


class FocalLogLoss(BoxLoss):
    """Focal and logarithm of the area, "focal variance": sum w c^power (gain / ln(A + 1)) / sum w.

    Range: [0, 4.6] for CIoU. Units: A in pixels of the input. Scale: falls with the logarithm of the area, by
    12 from a side of 1 px to one of 64 px. Calibrated: focal weight c^(power - 1).

    Args:
        similarity: what c comes from, a name or an object.
        calibrated: form of the loss, see the module.
        power: a >= 1, 2 in the notebook; above 1, boxes that match well fade from the loss.
        gain: g, 0.5 in the notebook; without effect if calibrated.

    Raises:
        ValueError: if power is below 1, where the gradient is infinite at c = 0.
    """

    def __init__(
        self,
        similarity: SimilarityName | Similarity = "ciou",
        calibrated: bool = True,
        power: float = 2.0,
        gain: float = 0.5,
    ) -> None:
        super().__init__()
        self.similarity, self.calibrated = resolve(similarity), calibrated
        self.power = in_range("power", power, 1)
        self.gain = in_range("gain", gain, 0, above=True)

    def forward(
        self, pred: Tensor, target: Tensor, weight: Tensor, normaliser: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum the weighted losses; see `BoxLoss.forward`."""
        cost = (1 - self.similarity(pred, target)).clamp(min=0)
        size_weight = self.gain / target_area(target).log1p()
        assert cost.shape == size_weight.shape == weight.shape
        if self.calibrated:
            focal_weight = cost.detach() ** (self.power - 1)
            return calibrated_loss(cost, size_weight, focal_weight, weight, normaliser)
        loss = (weight * cost**self.power * size_weight).sum()
        return quotient(loss, mean_over_ranks(weight.sum())), torch.ones_like(weight)


class DynamicLoss(BoxLoss):
    """Dynamic, the notebook's "dynamic update": sum w c^power (gamma / ln(A + 1)) c^2 / (c^2 + 0.5) / sum w.

    gamma = 0.5 + mean(c) is one number for the whole global batch, without gradient: a factor of the learning
    rate, which falls as training goes on. Range: [0, 26] for CIoU. Units: A in pixels of the input.
    Scale: as `FocalLogLoss`. Calibrated: focal weight c^(power - 1) c^2 / (c^2 + 0.5), and gamma cancels.

    Args:
        similarity: what c comes from, a name or an object.
        calibrated: form of the loss, see the module.
        power: a >= 1, 2 in the notebook.

    Raises:
        ValueError: if power is below 1, where the gradient is infinite at c = 0.
    """

    def __init__(
        self, similarity: SimilarityName | Similarity = "ciou", calibrated: bool = True, power: float = 2.0
    ) -> None:
        super().__init__()
        self.similarity, self.calibrated = resolve(similarity), calibrated
        self.power = in_range("power", power, 1)

    def forward(
        self, pred: Tensor, target: Tensor, weight: Tensor, normaliser: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum the weighted losses; see `BoxLoss.forward`."""
        cost = (1 - self.similarity(pred, target)).clamp(min=0)
        size_weight = 1 / target_area(target).log1p()
        assert cost.shape == size_weight.shape == weight.shape
        squared = cost.square()
        hardness = squared / (squared + 0.5)
        if self.calibrated:
            focal_weight = (cost ** (self.power - 1) * hardness).detach()
            return calibrated_loss(cost, size_weight, focal_weight, weight, normaliser)
        count = cost.new_full((), len(cost))
        total_cost, count, total = mean_over_ranks(torch.stack((cost.detach().sum(), count, weight.sum())))
        gamma = 0.5 + quotient(total_cost, count)
        loss = (weight * cost**self.power * gamma * size_weight * hardness).sum()
        return quotient(loss, total), torch.ones_like(weight)


class NormalizedSqrtLoss(BoxLoss):
    """Normalised inverse square root: sum c^gamma c sqrt(mean A / A) / sum c^gamma.

    c^gamma has no gradient: with one through numerator and denominator, 46 to 49 % of the positives would be
    pushed to lower IoU. Target scores are not used. Range: >= 0, about c for boxes of one size. Units: none,
    as areas are relative to the batch's mean. Scale: invariant if all boxes of the batch grow alike.
    Calibrated: focal weight c^gamma.

    Args:
        similarity: what c comes from, a name or an object.
        calibrated: form of the loss, see the module.
        gamma: focal exponent f >= 0, 1.5 in the notebook.

    Raises:
        ValueError: if gamma is negative.
    """

    def __init__(
        self, similarity: SimilarityName | Similarity = "ciou", calibrated: bool = True, gamma: float = 1.5
    ) -> None:
        super().__init__()
        self.similarity, self.calibrated = resolve(similarity), calibrated
        self.gamma = in_range("gamma", gamma, 0)

    def forward(
        self, pred: Tensor, target: Tensor, weight: Tensor, normaliser: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum the weighted losses; see `BoxLoss.forward`."""
        cost = (1 - self.similarity(pred, target)).clamp(min=0)
        areas = target_area(target)
        focal_weight = cost.detach() ** self.gamma
        assert cost.shape == areas.shape == weight.shape
        if self.calibrated:
            return calibrated_loss(cost, areas.rsqrt(), focal_weight, weight, normaliser)
        count = cost.new_full((), len(cost))
        total_area, count, focused = mean_over_ranks(torch.stack((areas.sum(), count, focal_weight.sum())))
        size_weight = (quotient(total_area, count) / areas).sqrt()
        return quotient((focal_weight * cost * size_weight).sum(), focused), torch.ones_like(weight)


class HybridLoss(BoxLoss):
    """Hybrid, the notebook's final loss: sum c c_detached^gamma (gain / sqrt A) / n.

    "Preserving CIoU strength" in the notebook. n is the number of positives; target scores are not used.
    Range: [0, 1.7] for CIoU. Units: A in pixels of the input. Scale: falls by 1/r as a box grows r times. At
    IoU 0.9 and gamma 1.5 the focal weight leaves 3 % of the gradient, so refinement stops early. Calibrated:
    focal weight c^gamma.

    Args:
        similarity: what c comes from, a name or an object.
        calibrated: form of the loss, see the module.
        gamma: focal exponent f >= 0, 1.5 in the notebook.
        gain: g, 0.3 in the notebook, 0.3 / 99 for "also divided by 99" (`hybrid_scaled`), which undoes the
            growth that the (P, P) product brought; without effect if calibrated.

    Raises:
        ValueError: if gamma is negative.
    """

    def __init__(
        self,
        similarity: SimilarityName | Similarity = "ciou",
        calibrated: bool = True,
        gamma: float = 1.5,
        gain: float = 0.3,
    ) -> None:
        super().__init__()
        self.similarity, self.calibrated = resolve(similarity), calibrated
        self.gamma = in_range("gamma", gamma, 0)
        self.gain = in_range("gain", gain, 0, above=True)

    def forward(
        self, pred: Tensor, target: Tensor, weight: Tensor, normaliser: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum the weighted losses; see `BoxLoss.forward`."""
        cost = (1 - self.similarity(pred, target)).clamp(min=0)
        focal_weight = cost.detach() ** self.gamma
        size_weight = self.gain * target_area(target).rsqrt()
        assert cost.shape == size_weight.shape == weight.shape
        if self.calibrated:
            return calibrated_loss(cost, size_weight, focal_weight, weight, normaliser)
        count = mean_over_ranks(cost.new_full((), len(cost)))
        return quotient((cost * focal_weight * size_weight).sum(), count), torch.ones_like(weight)

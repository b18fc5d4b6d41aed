"""Distribution focal loss: the distances to a box's four sides as distributions over bins.

P positives, K bins.
"""

import torch
from torch import Tensor


def side_distances(boxes: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """Distances from points to the sides of boxes, in strides.

    Args:
        boxes: (P, 4) xyxy pixels.
        points: (P, 2) x and y in pixels.
        strides: (P,) pixels.

    Returns:
        (P, 4) left, top, right, bottom; negative where the point lies beyond that side.
    """
    return torch.cat((points - boxes[:, :2], boxes[:, 2:] - points), -1) / strides[:, None]


def distribution_focal(logits: Tensor, distances: Tensor, bins: Tensor) -> Tensor:
    """Cross-entropy to the two bins beside the true distance, weighted by their nearness to it.

    Args:
        logits: (P, 4, K) distributions of the distances to left, top, right, bottom.
        distances: (P, 4) true distances; those outside the bins' range count as its end.
        bins: (K,) the distance that each bin stands for, ascending, evenly spaced, K >= 2.

    Returns:
        (P,) mean over the four sides, >= 0.

    Source: Li et al. 2020, Generalized Focal Loss, eq. 6.
    """
    last = len(bins) - 1
    position = ((distances - bins[0]) / (bins[1] - bins[0])).clamp(0, last)
    lower = position.detach().floor().clamp(max=last - 1)
    nearness = torch.stack((lower + 1 - position, position - lower), -1)
    index = torch.stack((lower, lower + 1), -1).long()
    return -(logits.log_softmax(-1).gather(-1, index) * nearness).sum(-1).mean(-1)

"""Similarities of boxes, the IoU family: 1 for equal boxes, less the worse they match.

`1 - similarity` is a loss. Every similarity, those of `losses.gaussian` included, is one function
`f(a, b, ...)` on broadcasting (..., 4) xyxy boxes in pixels of the input: `f(pred, target)` is aligned,
`f(a[:, None], b[None])` pairwise. Where the order of the two matters, `a` is the prediction and `b` the
target. Values and gradients are finite for float32 and float64 boxes, even empty ones.

In the docstrings, w h and W H are the sides of `a` and `b`, dx dy dw dh the differences of their centres and
sides, cw ch the sides of the enclosing box. Ranges hold for boxes that are not empty. "Scale" says what
happens when both boxes grow by one factor, "small objects" what is known about them. Differences that papers
report are often within the spread of seeds (about 1 AP50 on VisDrone), so compare before you believe.
"""

import math

import torch
from torch import Tensor

from losses.boxes import area, centre, enclosing_size, intersection_and_union, size

EPS = 1e-7
"""Least area (pixels squared) and side (pixels) that anything is divided by."""
ROOT_EPS = 1e-14
"""Added under a root for a finite gradient at 0. A root of 1e-7 is invisible; 1e-7 itself is not."""


# Functions of the overlap alone: no gradient between disjoint boxes.


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union.

    Scale: invariant. Small objects: a shift by d pixels costs about 2 d / side, so one pixel takes a 4 px
    object from 1 to 0.6; the gradient is proportional to 1 / side, and zero between disjoint boxes.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.

    Returns:
        (...,) in [0, 1].

    Source: Yu et al. 2016, UnitBox (there as -ln IoU).
    """
    intersection, union = intersection_and_union(a, b)
    return intersection / union.clamp(min=EPS)


def dice(a: Tensor, b: Tensor) -> Tensor:
    """Box Dice, twice the intersection over the sum of areas: 2 IoU / (1 + IoU).

    Scale: invariant. Small objects: as IoU; its gradient is steeper than IoU's below IoU 0.41, flatter above.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.

    Returns:
        (...,) in [0, 1].

    Source: Dice 1945.
    """
    overlap = iou(a, b)
    return 2 * overlap / (1 + overlap)


def alpha_iou(a: Tensor, b: Tensor, alpha: float = 3.0) -> Tensor:
    """Power of the IoU: IoU^alpha.

    Scale: invariant. Small objects: nothing known; alpha > 1 moves weight to boxes that match well already,
    which small ones seldom do.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.
        alpha: exponent > 0; the paper recommends 3.

    Returns:
        (...,) in [0, 1].

    Source: He et al. 2021, Alpha-IoU.
    """
    return iou(a, b).clamp(min=EPS) ** alpha


def inner_iou(a: Tensor, b: Tensor, ratio: float = 1.25) -> Tensor:
    """IoU of auxiliary boxes, both boxes scaled about their centres.

    Scale: invariant. Small objects: a ratio above 1 widens the reach of the gradient; the paper reports small
    gains on AI-TOD with one.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.
        ratio: side of the auxiliary boxes over that of the boxes; 0.5 to 1.5 in the paper.

    Returns:
        (...,) in [0, 1].

    Source: Zhang et al. 2023, Inner-IoU.
    """
    return iou(_scaled(a, ratio), _scaled(b, ratio))


def focaler_iou(a: Tensor, b: Tensor, low: float = 0.0, high: float = 0.95) -> Tensor:
    """IoU stretched linearly from [low, high] to [0, 1] and clipped.

    Scale: invariant. Small objects: a lower `high` makes room for samples of low IoU. No gradient outside the
    interval.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.
        low: d, the IoU that becomes 0.
        high: u > d, the IoU that becomes 1.

    Returns:
        (...,) in [0, 1].

    Source: Zhang and Zhang 2024, Focaler-IoU.
    """
    return ((iou(a, b) - low) / (high - low)).clamp(0, 1)


# IoU with penalties of distance and shape.


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU: IoU - (C - U) / C, C the area of the enclosing box and U that of the union.

    Scale: invariant. Small objects: has a gradient between disjoint boxes, but one that first grows the
    prediction.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.

    Returns:
        (...,) in (-1, 1].

    Source: Rezatofighi et al. 2019, algorithm 1.
    """
    intersection, union = intersection_and_union(a, b)
    width, height = enclosing_size(a, b).unbind(-1)
    hull = (width * height).clamp(min=EPS)
    return intersection / union.clamp(min=EPS) - (hull - union) / hull


def diou(a: Tensor, b: Tensor) -> Tensor:
    """Distance IoU: IoU - (dx^2 + dy^2) / (cw^2 + ch^2).

    Scale: invariant. Small objects: pulls disjoint boxes together directly.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.

    Returns:
        (...,) in (-1, 1].

    Source: Zheng et al. 2020, DIoU, eq. 7.
    """
    return iou(a, b) - _centre_distance(a, b)


def ciou(a: Tensor, b: Tensor, gate: float = 0.0) -> Tensor:
    """Complete IoU: DIoU - alpha v, v = 4/pi^2 (atan(w/h) - atan(W/H))^2, alpha = v / (1 - IoU + v).

    alpha counts as a constant in the gradient. Scale: invariant. Small objects: the usual baseline; like
    IoU's, its gradient is proportional to 1 / side.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.
        gate: alpha is 0 where IoU is below; 0.5 in the journal version (Zheng et al. 2021), 0 in the first.

    Returns:
        (...,) in (-1.5, 1].

    Source: Zheng et al. 2020, DIoU, eq. 10 and 11.
    """
    overlap, mismatch = iou(a, b), _aspect_mismatch(a, b)
    with torch.no_grad():
        alpha = (overlap >= gate) * mismatch / (1 - overlap + mismatch).clamp(min=EPS)
    return overlap - _centre_distance(a, b) - alpha * mismatch


def eiou(a: Tensor, b: Tensor) -> Tensor:
    """Efficient IoU: DIoU - dw^2 / cw^2 - dh^2 / ch^2.

    Scale: invariant. Small objects: nothing known. Not mmdet's EIoULoss, which is another paper's,
    nor the variant with centre offsets in the size terms.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.

    Returns:
        (...,) in (-3, 1].

    Source: Zhang et al. 2022, Focal and Efficient IOU Loss.
    """
    growth = (size(a) - size(b)) / enclosing_size(a, b, EPS)
    return diou(a, b) - growth.square().sum(-1)


def siou(a: Tensor, b: Tensor, theta: float = 4.0) -> Tensor:
    """SCYLLA IoU: IoU - (distance + shape) / 2.

    Distance: sum of 1 - exp(-(2 - angle) rho) over rho = dx^2 / cw^2 and dy^2 / ch^2, with angle =
    sin(2 asin(|dy| / d)) = 2 |dx dy| / (dx^2 + dy^2). Shape: sum of (1 - exp(-omega))^theta over omega =
    |dw| / max(w, W) and |dh| / max(h, H).
    Scale: invariant. Small objects: nothing known. mmdet's default rewards centre distance.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.
        theta: exponent of the shape cost; 2 to 6 in the paper, near 4.

    Returns:
        (...,) in (-2, 1].

    Source: Gevorgyan 2022, SIoU Loss.
    """
    shift = centre(a) - centre(b)
    dx, dy = shift.unbind(-1)
    angle = 2 * (dx * dy).abs() / (dx.square() + dy.square()).clamp(min=ROOT_EPS)
    rho = (shift / enclosing_size(a, b, EPS)).square()
    distance = -torch.expm1((angle - 2)[..., None] * rho).sum(-1)
    return iou(a, b) - (distance + _shape_cost(a, b, torch.ones_like(rho), theta)) / 2


def mpdiou(a: Tensor, b: Tensor, width: float = 640.0, height: float = 640.0) -> Tensor:
    """Minimum point distance IoU: IoU - (d1^2 + d2^2) / (width^2 + height^2), d1 d2 between like corners.

    Scale: not invariant; corners are measured against the image. Small objects: the penalty is next to
    nothing for them (2e-6 for a shift by 1 px at 640 px), so this is IoU with a faint pull between disjoint
    boxes.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.
        width: of the input image in pixels.
        height: of the input image in pixels.

    Returns:
        (...,) in (-2, 1] for boxes inside the image.

    Source: Ma and Xu 2023, MPDIoU, algorithm 1.
    """
    return iou(a, b) - (a - b).square().sum(-1) / (width**2 + height**2)


def shape_iou(a: Tensor, b: Tensor, scale: float = 0.0) -> Tensor:
    """Shape-IoU: IoU - distance - shape / 2, both weighed by the target's shape.

    ww = 2 W^scale / (W^scale + H^scale), hh = 2 H^scale / (W^scale + H^scale). Distance: (hh dx^2 + ww dy^2)
    / (cw^2 + ch^2). Shape: sum of (1 - exp(-omega))^4 over omega = hh |dw| / max(w, W) and ww |dh| /
    max(h, H). Scale: invariant; symmetric only for `scale` = 0. Small objects: the paper reports small gains
    on VisDrone and AI-TOD.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.
        scale: 0 to 1.5 in the paper, by the data set; 0 ignores the target's shape.

    Returns:
        (...,) in (-2.5, 1].

    Source: Zhang and Zhang 2023, Shape-IoU.
    """
    powers = size(b, EPS) ** scale
    crossed = 2 * powers.flip(-1) / powers.sum(-1, keepdim=True)  # (hh, ww), for x and for y
    diagonal = enclosing_size(a, b).square().sum(-1).clamp(min=EPS)
    distance = (crossed * (centre(a) - centre(b)).square()).sum(-1) / diagonal
    return iou(a, b) - distance - _shape_cost(a, b, crossed, 4.0) / 2


def wise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Wise-IoU v1: 1 - exp((dx^2 + dy^2) / (cw^2 + ch^2)) (1 - IoU), the denominator without gradient.

    Scale: invariant. Small objects: nothing known. v2 and v3 weigh this loss by a running mean:
    `losses.regression.WiseIoUV2Loss` and `WiseIoUV3Loss`.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.

    Returns:
        (...,) in (1 - e, 1].

    Source: Tong et al. 2023, Wise-IoU.
    """
    diagonal = enclosing_size(a, b).square().sum(-1).clamp(min=EPS).detach()
    distance = (centre(a) - centre(b)).square().sum(-1) / diagonal
    # Above 1 only for empty boxes, whose centre may lie outside the enclosing box.
    return 1 - torch.exp(distance.clamp(max=1)) * (1 - iou(a, b))


def piou(a: Tensor, b: Tensor) -> Tensor:
    """Powerful IoU: IoU - (1 - exp(-P^2)), P = mean distance of the sides over the target's W or H.

    Scale: invariant. Not symmetric. Small objects: P does not shrink as the prediction grows, but its
    gradient is gone beyond P = 2, two object sides, which small objects reach within a few pixels.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.

    Returns:
        (...,) in (-1, 1].

    Source: Liu et al. 2024, Powerful-IoU.
    """
    return iou(a, b) + torch.expm1(-_side_penalty(a, b).square())


def piou2(a: Tensor, b: Tensor, attention: float = 1.3) -> Tensor:
    """Powerful IoU v2: 1 - 3 x exp(-x^2) (1 - PIoU), x = attention exp(-P), without gradient.

    The factor peaks at boxes of middling quality. Scale: invariant. Not symmetric. Small objects: nothing
    known; the factor is 0.3 at P = 2.5 and falls from there, so a bad first guess learns slowly.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.
        attention: lambda, 1.3 in the paper.

    Returns:
        (...,) in (-1.6, 1].

    Source: Liu et al. 2024, Powerful-IoU.
    """
    with torch.no_grad():
        x = attention * torch.exp(-_side_penalty(a, b))
        factor = 3 * x * torch.exp(-x.square())
    return 1 - factor * (1 - piou(a, b))


def sdiou(a: Tensor, b: Tensor, delta: float = 0.5, largest: float = 81.0) -> Tensor:
    """Scale-based dynamic IoU: 1 - (1 - delta + beta) (1 - IoU + alpha v) - (1 + delta - beta) d^2 / c^2.

    beta = delta min(W H / largest, 1), so small targets weigh the location more and the overlap less; from
    `largest` on this is CIoU. Scale: not invariant. Not symmetric. Small objects: made for infrared targets
    below 9 x 9 px, where the paper reports gains.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.
        delta: strength of the change in [0, 1], 0.5 in the paper.
        largest: target area in pixels squared from which there is none, 81 in the paper.

    Returns:
        (...,) in (-1.5, 1].

    Source: Yang et al. 2025, Pinwheel-shaped Convolution and Scale-based Dynamic Loss for Infrared Small
        Target Detection.
    """
    distance = _centre_distance(a, b)
    beta = delta * (area(b) / largest).clamp(max=1)
    return 1 - (1 - delta + beta) * (1 - ciou(a, b) - distance) - (1 + delta - beta) * distance


# Parts.


def _centre_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the enclosing box: (...,)."""
    diagonal = enclosing_size(a, b).square().sum(-1).clamp(min=EPS)
    return (centre(a) - centre(b)).square().sum(-1) / diagonal


def _aspect_mismatch(a: Tensor, b: Tensor) -> Tensor:
    """CIoU's v, the squared difference of the diagonals' angles: (...,) in [0, 1]."""
    (aw, ah), (bw, bh) = size(a, EPS).unbind(-1), size(b, EPS).unbind(-1)
    return (torch.atan2(aw, ah) - torch.atan2(bw, bh)).square() * (4 / math.pi**2)


def _shape_cost(a: Tensor, b: Tensor, weight: Tensor, theta: float) -> Tensor:
    """SIoU's cost of differing sides, weighed (..., 2) for width and height: (...,) in [0, 2]."""
    a, b = size(a), size(b)
    omega = weight * (a - b).abs() / torch.maximum(a, b).clamp(min=EPS)
    return ((-torch.expm1(-omega)) ** theta).sum(-1)


def _side_penalty(a: Tensor, b: Tensor) -> Tensor:
    """PIoU's P, the mean distance of like sides over the target's width or height: (...,)."""
    sides = size(b, EPS)
    return ((a - b).abs() / torch.cat((sides, sides), -1)).mean(-1)


def _scaled(boxes: Tensor, ratio: float) -> Tensor:
    """Boxes scaled about their centres: (..., 4)."""
    middle, half = centre(boxes), size(boxes) * (ratio / 2)
    return torch.cat((middle - half, middle + half), -1)

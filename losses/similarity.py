"""Similarities of boxes: 1 for equal boxes, smaller the less they match; `1 - similarity` is a loss.

Every member is one function `f(a, b, ...)` on broadcasting (..., 4) xyxy boxes in pixels of the input:
`f(pred, target)` is aligned, `f(a[:, None], b[None])` pairwise. Where the two are not alike, `a` is the
prediction and `b` the target. Values and gradients are finite for all finite boxes, empty ones included. The
class of a member holds its parameters and nothing else.

Ranges hold for boxes that are not empty. "Scale" says what happens when both boxes grow alike.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from losses.boxes import area, centre, enclosing, intersection, size, union

EPS = 1e-7
"""Least area (pixels squared) and side (pixels) that anything is divided by."""
ROOT_EPS = 1e-14
"""Added under a root for a finite gradient at 0. A root of 1e-7 is invisible; 1e-7 itself is not."""


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union.

    Scale: invariant. Small objects: a shift of d pixels costs about 2d/side, so one pixel takes a 4 px object
    from 1 to 0.6; the gradient is proportional to 1/side, and zero once the boxes are disjoint.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.

    Returns:
        (...,) in [0, 1].

    Source: Yu et al. 2016, UnitBox (as a loss).
    """
    inter = intersection(a, b)
    return inter / (area(a) + area(b) - inter).clamp(min=EPS)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalized IoU: IoU - (C - U) / C, with C the area of the enclosing box and U the union.

    Scale: invariant. Small objects: has a gradient for disjoint boxes, but first by growing the prediction.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.

    Returns:
        (...,) in (-1, 1].

    Source: Rezatofighi et al. 2019, algorithm 1.
    """
    hull = area(enclosing(a, b)).clamp(min=EPS)
    return iou(a, b) - (hull - union(a, b)) / hull


def diou(a: Tensor, b: Tensor) -> Tensor:
    """Distance IoU: IoU - d^2 / c^2, with d between the centres and c the enclosing box's diagonal.

    Scale: invariant. Small objects: pulls disjoint boxes together directly.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.

    Returns:
        (...,) in (-1, 1].

    Source: Zheng et al. 2020, eq. 7.
    """
    return iou(a, b) - _centre_distance(a, b)


def ciou(a: Tensor, b: Tensor) -> Tensor:
    """Complete IoU: DIoU - alpha v, v = 4/pi^2 (atan(w/h) - atan(W/H))^2, alpha = v / (1 - IoU + v).

    alpha is a constant for the gradient. Scale: invariant. Small objects: the usual baseline; like IoU's,
    its gradient is proportional to 1/side.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.

    Returns:
        (...,) in (-2, 1].

    Source: Zheng et al. 2020, eq. 10 and 11.
    """
    overlap, mismatch = iou(a, b), _aspect_mismatch(a, b)
    with torch.no_grad():
        alpha = mismatch / (1 - overlap + mismatch).clamp(min=EPS)
    return overlap - _centre_distance(a, b) - alpha * mismatch


def nwd(a: Tensor, b: Tensor, constant: float = 12.8) -> Tensor:
    """Normalised Wasserstein distance: exp(-sqrt(dx^2 + dy^2 + (dw^2 + dh^2) / 4) / C).

    The boxes are taken as Gaussians of standard deviations w/2 and h/2. Scale: not invariant, a shift of one
    pixel costs the same at any size, so large objects lose most of their weight; mix it with CIoU for mixed
    sizes. Small objects: made for them; the paper reports +6.7 AP on AI-TOD (Faster R-CNN; assignment, NMS
    and loss together), less as a loss alone.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.
        constant: C in pixels, about the mean object side of the data set (12.8 for AI-TOD).

    Returns:
        (...,) in (0, 1].

    Source: Wang et al. 2021, "A Normalized Gaussian Wasserstein Distance for Tiny Object Detection", eq. 10.
    """
    shift, growth = centre(a) - centre(b), size(a) - size(b)
    distance = shift.square().sum(-1) + growth.square().sum(-1) / 4
    return torch.exp(-torch.sqrt(distance + ROOT_EPS) / constant)


def _centre_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the enclosing box: (...,)."""
    diagonal = size(enclosing(a, b)).square().sum(-1).clamp(min=EPS)
    return (centre(a) - centre(b)).square().sum(-1) / diagonal


def _aspect_mismatch(a: Tensor, b: Tensor) -> Tensor:
    """CIoU's v, the squared difference of the diagonals' angles: (...,) in [0, 1]."""
    (aw, ah), (bw, bh) = size(a, EPS).unbind(-1), size(b, EPS).unbind(-1)
    return (torch.atan2(aw, ah) - torch.atan2(bw, bh)).square() * (4 / math.pi**2)


class Similarity(ABC):
    """A similarity together with its parameters."""

    @abstractmethod
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare predictions `a` with targets `b`, both (..., 4) xyxy pixels; returns (...,)."""


@dataclass(frozen=True)
class NWD(Similarity):
    """Normalised Wasserstein distance; see `nwd`.

    Args:
        constant: C in pixels, about the mean object side of the data set.
    """

    constant: float = 12.8

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare boxes; see `nwd`."""
        return nwd(a, b, self.constant)


SimilarityName = Literal["iou", "giou", "diou", "ciou", "nwd"]

_BY_NAME: Mapping[SimilarityName, Callable[[Tensor, Tensor], Tensor]] = {
    "iou": iou,
    "giou": giou,
    "diou": diou,
    "ciou": ciou,
    "nwd": nwd,
}


def resolve(similarity: SimilarityName | Similarity) -> Callable[[Tensor, Tensor], Tensor]:
    """Turn the name of a similarity into its function, with the constants of its paper.

    Args:
        similarity: a name, or an object, which is returned as it is.

    Returns:
        A function of two broadcasting (..., 4) xyxy boxes.
    """
    return similarity if isinstance(similarity, Similarity) else _BY_NAME[similarity]

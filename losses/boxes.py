"""Geometry of axis-aligned boxes.

Boxes are (..., 4) tensors in xyxy order, in pixels; two of them broadcast against each other, so
`f(a, b)` is aligned and `f(a[:, None], b[None])` is pairwise. A box with x2 <= x1 or y2 <= y1 is empty.
"""

import torch
from torch import Tensor


def centre(boxes: Tensor) -> Tensor:
    """Centres of boxes.

    Args:
        boxes: (..., 4) xyxy.

    Returns:
        (..., 2) x and y.
    """
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def size(boxes: Tensor, floor: float = 0.0) -> Tensor:
    """Widths and heights of boxes.

    Args:
        boxes: (..., 4) xyxy.
        floor: least width and height; a positive one makes them safe divisors.

    Returns:
        (..., 2) width and height, at least `floor`.
    """
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=floor)


def area(boxes: Tensor) -> Tensor:
    """Areas of boxes.

    Args:
        boxes: (..., 4) xyxy.

    Returns:
        (...,) area, 0 for an empty box.
    """
    width, height = size(boxes).unbind(-1)
    return width * height


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Areas that pairs of boxes share.

    Args:
        a: (..., 4) xyxy.
        b: (..., 4) xyxy, broadcasting against `a`.

    Returns:
        (...,) area, 0 where they are disjoint or one is empty.
    """
    lower, upper = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    width, height = (upper - lower).clamp(min=0).unbind(-1)
    return width * height  # not prod(): its backward synchronises with the host


def union(a: Tensor, b: Tensor) -> Tensor:
    """Areas that pairs of boxes cover together.

    Args:
        a: (..., 4) xyxy.
        b: (..., 4) xyxy, broadcasting against `a`.

    Returns:
        (...,) area.
    """
    return area(a) + area(b) - intersection(a, b)


def enclosing(a: Tensor, b: Tensor) -> Tensor:
    """Smallest boxes that hold both of each pair.

    Args:
        a: (..., 4) xyxy.
        b: (..., 4) xyxy, broadcasting against `a`.

    Returns:
        (..., 4) xyxy.
    """
    return torch.cat((torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])), -1)

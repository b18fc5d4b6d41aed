"""Geometry of axis-aligned boxes.

Boxes are (..., 4) tensors in xyxy order, in pixels; two of them broadcast against each other, so
`f(a, b)` is aligned and `f(a[:, None], b[None])` is pairwise. A box with x2 <= x1 or y2 <= y1 is empty.
"""

import torch
from torch import Tensor

# Corners come from chunk, x and y from unbind, products from *: the backward of each is one kernel, whereas
# slices fill a tensor of zeros at every use and prod() synchronises with the host.


def centre(boxes: Tensor) -> Tensor:
    """Centres of boxes.

    Args:
        boxes: (..., 4) xyxy.

    Returns:
        (..., 2) x and y.
    """
    lower, upper = boxes.chunk(2, -1)
    return (lower + upper) / 2


def size(boxes: Tensor, floor: float = 0.0) -> Tensor:
    """Widths and heights of boxes.

    Args:
        boxes: (..., 4) xyxy.
        floor: least width and height; a positive one makes them safe divisors.

    Returns:
        (..., 2) width and height, at least `floor`.
    """
    lower, upper = boxes.chunk(2, -1)
    return (upper - lower).clamp(min=floor)


def area(boxes: Tensor) -> Tensor:
    """Areas of boxes.

    Args:
        boxes: (..., 4) xyxy.

    Returns:
        (...,) area, 0 for an empty box.
    """
    width, height = size(boxes).unbind(-1)
    return width * height


def intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Areas that pairs of boxes share and that they cover together.

    Args:
        a: (..., 4) xyxy.
        b: (..., 4) xyxy, broadcasting against `a`.

    Returns:
        (...,) intersection, 0 where they are disjoint or one is empty, and (...,) union.
    """
    (a_lower, a_upper), (b_lower, b_upper) = a.chunk(2, -1), b.chunk(2, -1)
    common = torch.minimum(a_upper, b_upper) - torch.maximum(a_lower, b_lower)
    width, height = common.clamp(min=0).unbind(-1)
    intersection = width * height
    return intersection, area(a) + area(b) - intersection


def enclosing_size(a: Tensor, b: Tensor, floor: float = 0.0) -> Tensor:
    """Widths and heights of the smallest boxes that hold both of each pair.

    Args:
        a: (..., 4) xyxy.
        b: (..., 4) xyxy, broadcasting against `a`.
        floor: least width and height.

    Returns:
        (..., 2) width and height, at least `floor`.
    """
    (a_lower, a_upper), (b_lower, b_upper) = a.chunk(2, -1), b.chunk(2, -1)
    return (torch.maximum(a_upper, b_upper) - torch.minimum(a_lower, b_lower)).clamp(min=floor)

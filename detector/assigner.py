"""Task-aligned assignment, sparse and exact: which points of the pyramid learn which object.

Legend: B images, G objects of the batch, A points of an image, L pyramid levels, C classes,
M (object, point) pairs with the point inside the object's box, P positives.

A flat point index `b * A + a` names point a of image b. Only the M pairs exist: no `(B, n, A)` tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from losses.similarity import ciou

MAX_PAIRS = 2**18
"""Pairs worked on at a time, plus one object's: bounds the memory when boxes cover much of the image."""

SIZE_EDGES = (8.0, 16.0, 32.0)
"""Object sides, sqrt(area) in pixels, between the size bins of the statistics."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The positives of a batch: each is one point that learns one object.

    Attributes:
        point: (P,) int64 flat point indices `b * A + a`, ascending, each at most once.
        object: (P,) int64 index into the batch's G objects.
        score: (P,) float32 target score in (0, 1].
    """

    point: Tensor
    object: Tensor
    score: Tensor


@final
class TaskAlignedAssigner:
    """Gives each object the points that already classify and locate it best.

    The candidates of an object are the points strictly inside its box. With u = max(CIoU, 0) and
    t = score^alpha * u^beta, its `topk` best candidates with t > 0 are its positives; a point that several
    objects selected goes to the one of highest u. The target score is t * max u / max t, the maxima over the
    object's final positives. Ties go to the lower point index, then to the lower object index.

    Args:
        topk: most positives of an object.
        alpha: exponent of the classification score.
        beta: exponent of the overlap.
        min_side: pixels; when candidates are collected, a shorter side of a box counts as this long, about
            its centre, because a small box may hold no point at all. None means the second stride, or the
            only one.

    Source: Feng et al. 2021, TOOD: Task-aligned One-stage Object Detection, section 3.2.
    """

    def __init__(
        self, topk: int = 10, alpha: float = 0.5, beta: float = 6.0, min_side: float | None = None
    ) -> None:
        self.topk = topk
        self.alpha = alpha
        self.beta = beta
        self.min_side = min_side

    @torch.no_grad()
    def __call__(
        self,
        scores: Tensor,
        boxes: Tensor,
        points: Tensor,
        strides: Tensor,
        gt_boxes: Tensor,
        gt_labels: Tensor,
        image_index: Tensor,
    ) -> Assignment:
        """Assign points to the objects of a batch.

        Args:
            scores: (B, A, C) predicted probabilities.
            boxes: (B, A, 4) predicted boxes, xyxy pixels.
            points: (A, 2) xy pixels: row-major grids, level by level, from stride / 2.
            strides: (A,) pixels, the stride of each point's level.
            gt_boxes: (G, 4) objects, xyxy pixels.
            gt_labels: (G,) class indices.
            image_index: (G,) index into the B images.

        Returns:
            The positives, ordered by point.
        """
        flat_scores, flat_boxes = scores.flatten(0, 1), boxes.flatten(0, 1)
        gt_boxes = gt_boxes.float()  # Lightning's double precision converts the batch
        selected = []
        for point, owner in _pairs(gt_boxes, image_index, points, strides, self.min_side):
            overlap = ciou(flat_boxes[point], gt_boxes[owner]).clamp(min=0)
            score = flat_scores[point, gt_labels[owner]].float()
            alignment = score**self.alpha * overlap**self.beta
            candidate = (alignment > 0).nonzero().squeeze(1)
            best = candidate[_best(owner[candidate], alignment[candidate], self.topk)]
            selected.append((point[best], owner[best], overlap[best], alignment[best]))
        point, owner, overlap, alignment = (torch.cat(parts) for parts in zip(*selected, strict=True))

        # The selection is in the order of objects, so a tie in overlap goes to the lower one.
        won = _best(point, overlap, 1)
        point, owner, overlap, alignment = point[won], owner[won], overlap[won], alignment[won]
        max_overlap = _highest(overlap, owner, len(gt_boxes))
        max_alignment = _highest(alignment, owner, len(gt_boxes))
        return Assignment(point, owner, alignment / max_alignment[owner] * max_overlap[owner])


@torch.no_grad()
def points_in_boxes(
    boxes: Tensor, image_index: Tensor, points: Tensor, strides: Tensor, min_side: float | None = None
) -> Tensor:
    """Find the points strictly inside any of the boxes, widened as the assigner widens objects.

    Args:
        boxes: (M, 4) xyxy pixels.
        image_index: (M,) index into the images.
        points: (A, 2) xy pixels: row-major grids, level by level, from stride / 2.
        strides: (A,) pixels, the stride of each point's level.
        min_side: pixels, see `TaskAlignedAssigner`.

    Returns:
        (K,) int64 flat point indices `b * A + a`, ascending, each once.
    """
    found = image_index.new_empty(0)
    for point, _ in _pairs(boxes, image_index, points, strides, min_side):
        found = torch.unique(torch.cat((found, point)))
    return found


@torch.no_grad()
def assignment_statistics(assignment: Assignment, gt_boxes: Tensor) -> dict[str, Tensor]:
    """Sum up by object size how well the objects are covered; no device synchronisation.

    The bins are sides sqrt(area) below 8, 8 to 16, 16 to 32, and from 32 pixels. All values are sums: add
    them over steps and ranks, then `unassigned / objects` is the share of objects without a positive and
    `score / objects` the mean target score.

    Args:
        assignment: the positives of a batch.
        gt_boxes: (G, 4) objects of the batch, xyxy pixels.

    Returns:
        Three (4,) float32 tensors: `objects` counts the objects, `unassigned` those without a positive, and
        `score` sums their target scores: that of an object's best positive, 0 without one.
    """
    side = (gt_boxes[:, 2:] - gt_boxes[:, :2]).prod(1).sqrt()
    size_bin = torch.stack([side >= edge for edge in SIZE_EDGES]).sum(0)
    member = size_bin == torch.arange(len(SIZE_EDGES) + 1, device=side.device)[:, None]  # (4, G)
    score = _highest(assignment.score, assignment.object, len(gt_boxes))
    return {
        "objects": member.sum(1).float(),
        "unassigned": (member & (score == 0)).sum(1).float(),
        "score": (member * score).sum(1),
    }


def _pairs(
    boxes: Tensor, image_index: Tensor, points: Tensor, strides: Tensor, min_side: float | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all (flat point, box index) pairs with the point strictly inside the widened box.

    Pairs come ordered by box, then point, in chunks of whole boxes: up to `MAX_PAIRS` pairs and one box more.
    """
    stride, count = torch.unique_consecutive(strides, return_counts=True)  # (L,)
    start = count.cumsum(0) - count
    size = (points[start + count - 1] / stride[:, None]).ceil().long()  # (L, 2) columns, rows
    assert _is_grid(points, stride, start, size), "points are not row-major grids from stride / 2"

    floor = stride[:2][-1] if min_side is None else min_side
    margin = (floor - (boxes[:, 2:] - boxes[:, :2])).clamp(min=0) / 2
    # The box covers columns (and rows) low to high - 1 of a level; exact for strides that are powers of two.
    low = ((boxes[:, :2] - margin)[:, None] / stride[:, None] - 0.5).floor().long().add(1).clamp(min=0)
    high = ((boxes[:, 2:] + margin)[:, None] / stride[:, None] - 0.5).ceil().long().minimum(size)
    width, height = (high - low).clamp(min=0).unbind(-1)  # (G, L)
    columns = size[:, 0]
    first = image_index[:, None] * len(points) + start + low[..., 1] * columns + low[..., 0]

    area = width * height
    pairs = area.sum(1)
    chunk = (pairs.cumsum(0) - pairs) // MAX_PAIRS
    lengths = torch.unique_consecutive(chunk, return_counts=True)[1].tolist() or [0]
    index = torch.arange(len(boxes), device=boxes.device)[:, None].expand_as(area)
    rectangles = torch.stack((index, first, width, columns - width, area))  # (5, G, L)
    for rectangle in rectangles.split_with_sizes(lengths, dim=1):
        area = rectangle[4].flatten()
        owner, first, width, gap, before = torch.stack(
            (*rectangle[:4].flatten(1), area.cumsum(0) - area)
        ).repeat_interleave(area, dim=1)
        step = torch.arange(len(owner), device=boxes.device) - before
        yield first + step + step // width * gap, owner


def _is_grid(points: Tensor, stride: Tensor, start: Tensor, size: Tensor) -> bool:
    """Whether the points are the row-major grids of these (L,) strides and starts and (L, 2) sizes."""
    index = torch.arange(len(points), device=points.device)
    level = torch.searchsorted(start, index, right=True) - 1
    index, columns = index - start[level], size[level, 0]
    grid = torch.stack((index % columns, index // columns), dim=1) + 0.5
    return torch.equal(points, (grid * stride[level, None]).to(points))


def _best(group: Tensor, value: Tensor, k: int) -> Tensor:
    """Find the k highest values of each group.

    Args:
        group: (n,) int64, not negative.
        value: (n,) float32, positive.
        k: at least 1.

    Returns:
        Indices into n, ordered by group, then value descending, then index.
    """
    # The bits of a positive float order as its value does, so one integer carries both keys of the sort.
    order = ((group << 31) - value.view(torch.int32)).argsort(stable=True)
    group = group[order]
    kept = torch.ones_like(group, dtype=torch.bool)
    kept[k:] = group[k:] != group[:-k]  # k places earlier is another group: among the first k of its own
    return order[kept]


def _highest(value: Tensor, group: Tensor, groups: int) -> Tensor:
    """Return the highest value of each group, (groups,), 0 for a group without any; values are positive."""
    return value.new_zeros(groups).scatter_reduce(0, group, value, "amax")

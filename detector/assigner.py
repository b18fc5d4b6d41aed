"""Task-aligned assignment, sparse and exact: which points of the pyramid learn which object.

Legend: B images, G objects of the batch, A points of an image, L pyramid levels, C classes, k = topk,
M (object, point) pairs with the point inside the object's box, P positives.

A flat point index `b * A + a` names point a of image b. Only the M pairs exist: no `(B, n, A)` tensor.

On a GPU the time is that of starting kernels and of waiting for answers. So which pairs there are is worked
out on the host, where the boxes came from; a selection has a fixed shape, (G, k), of which some are void; and
the one answer waited for is how many positives there are (docs/decisions/gpu-step.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from datamodules.limits import require_between
from detector.networks.head import Level, grid_points
from losses.similarity import ciou

MAX_PAIRS = 2**18
"""Pairs worked on at a time, plus one object's: bounds the memory when boxes cover much of the image."""

LAST = 2**31 - 1
"""Places in a selection are below."""

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

    Raises:
        ValueError: a number out of its range.

    Source: Feng et al. 2021, TOOD: Task-aligned One-stage Object Detection, section 3.2.
    """

    def __init__(
        self, topk: int = 10, alpha: float = 0.5, beta: float = 6.0, min_side: float | None = None
    ) -> None:
        require_between("assigner.topk", topk, 1, 10_000)
        for name, value in (("alpha", alpha), ("beta", beta), ("min_side", min_side or 0)):
            require_between(f"assigner.{name}", value, 0, 10_000)
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
        levels: Sequence[Level] | None = None,
        host: tuple[Tensor, Tensor] | None = None,
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
            levels: the grids that the points are, finest first; None to find them in the points.
            host: `gt_boxes` and `image_index` on the CPU; None to fetch them. Without levels or host, a GPU
                is waited for.

        Returns:
            The positives, ordered by point.
        """
        flat_scores, flat_boxes = scores.flatten(0, 1), boxes.flatten(0, 1)
        gt_boxes = gt_boxes.float()  # Lightning's double precision converts the batch
        where = host or (gt_boxes, image_index)
        levels = levels or find_levels(points, strides)
        selected = []
        for objects, point, owner in _pairs(*where, levels, self.min_side, points.device):
            # Brackets would convert these indices, which are int32, every time.
            pred, target = flat_boxes.index_select(0, point), gt_boxes.index_select(0, owner)
            overlap = ciou(pred, target).clamp(min=0)
            del pred, target
            score = flat_scores[point, gt_labels.index_select(0, owner)].float()
            alignment = score**self.alpha * overlap**self.beta
            if answers_at_once(points.device):  # spares sorting
                kept = (alignment > 0).nonzero().squeeze(1)
                point, owner, overlap, alignment = point[kept], owner[kept], overlap[kept], alignment[kept]
            if not len(owner):  # one that is never selected, so that the shapes are as ever
                point, owner = owner.new_zeros(1), owner.new_full((1,), objects.start)
                overlap = alignment = overlap.new_zeros(1)
            best, void = _best(owner, alignment, objects, self.topk)
            selected.append((point[best], overlap[best], alignment[best], void))
        point, overlap, alignment, void = (
            parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*selected, strict=True)
        )
        return _settle(point.long(), overlap, alignment, void, len(flat_boxes))


@torch.no_grad()
def points_in_boxes(
    boxes: Tensor,
    image_index: Tensor,
    points: Tensor,
    strides: Tensor,
    min_side: float | None = None,
    levels: Sequence[Level] | None = None,
    host: tuple[Tensor, Tensor] | None = None,
    repeated: bool = False,
) -> Tensor:
    """Find the points strictly inside any of the boxes, widened as the assigner widens objects.

    Args:
        boxes: (M, 4) xyxy pixels.
        image_index: (M,) index into the images.
        points: (A, 2) xy pixels: row-major grids, level by level, from stride / 2.
        strides: (A,) pixels, the stride of each point's level.
        min_side: pixels, see `TaskAlignedAssigner`.
        levels: see `TaskAlignedAssigner`.
        host: `boxes` and `image_index` on the CPU, see `TaskAlignedAssigner`.
        repeated: a point may come for every box that holds it, in any order: no GPU is waited for, up to
            `MAX_PAIRS` of them.

    Returns:
        (K,) int64 flat point indices `b * A + a`, ascending, each once.
    """
    if not len(boxes):
        return image_index.new_empty(0)
    found: list[Tensor] = []
    levels = levels or find_levels(points, strides)
    for _, point, _ in _pairs(*(host or (boxes, image_index)), levels, min_side, points.device):
        found.append(point.long())
        if not repeated or len(found) > 1:
            found = [torch.unique(torch.cat(found))]
    return found[0]


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


def answers_at_once(device: torch.device) -> bool:
    """Whether the host may look at values on the way: a GPU would have to end all work first."""
    return device.type == "cpu"


def find_levels(points: Tensor, strides: Tensor) -> tuple[Level, ...]:
    """The row-major grids that points are, level by level; waits for a GPU.

    Args:
        points: (A, 2) xy pixels.
        strides: (A,) pixels, the stride of each point's level.
    """
    stride, count = (x.cpu() for x in torch.unique_consecutive(strides, return_counts=True))
    last = points.cpu()[count.cumsum(0) - 1]
    columns, rows = (last / stride[:, None]).ceil().long().unbind(1)
    levels = tuple(map(Level, stride.tolist(), rows.tolist(), columns.tolist()))
    grid, _ = grid_points([level[1:] for level in levels], stride.tolist(), points.device)
    assert torch.equal(points, grid.to(points)), "points are not row-major grids from stride / 2"
    return levels


def _pairs(
    boxes: Tensor,
    image_index: Tensor,
    levels: Sequence[Level],
    min_side: float | None,
    device: torch.device,
) -> Iterator[tuple[range, Tensor, Tensor]]:
    """Yield all (flat point, box index) pairs with the point strictly inside the widened box.

    Pairs come ordered by box, then point, in chunks of whole boxes: up to `MAX_PAIRS` pairs and one box more.
    With each chunk comes which boxes it is of. Points and indices are int32, on the device.
    """
    boxes, image_index = boxes.cpu().float(), image_index.cpu()
    stride = torch.tensor([float(level.stride) for level in levels])  # (L,)
    size = torch.tensor([(level.columns, level.rows) for level in levels])  # (L, 2)
    columns, count = size[:, 0], size.prod(1)
    total, start = int(count.sum()), count.cumsum(0) - count

    floor = stride[:2][-1] if min_side is None else min_side
    margin = (floor - (boxes[:, 2:] - boxes[:, :2])).clamp(min=0) / 2
    # The box covers columns (and rows) low to high - 1 of a level; exact for strides that are powers of two.
    low = ((boxes[:, :2] - margin)[:, None] / stride[:, None] - 0.5).floor().long().add(1).clamp(min=0)
    high = ((boxes[:, 2:] + margin)[:, None] / stride[:, None] - 0.5).ceil().long().minimum(size)
    width, height = (high - low).clamp(min=0).unbind(-1)  # (G, L)
    first = image_index[:, None] * total + start + low[..., 1] * columns + low[..., 0]

    area = width * height
    pairs = area.sum(1)
    chunk = (pairs.cumsum(0) - pairs) // MAX_PAIRS
    lengths = torch.unique_consecutive(chunk, return_counts=True)[1].tolist() or [0]
    index = torch.arange(len(boxes))[:, None].expand_as(area)
    rectangles = torch.stack((index, first, width, columns - width, area))  # (5, G, L)
    done = 0
    for part in rectangles.split_with_sizes(lengths, dim=1):
        objects = range(done, done := done + part.shape[1])
        part = part.flatten(1)
        before = part[4].cumsum(0) - part[4]
        part[1] -= before
        number = int(part[4].sum())
        table = torch.cat((part[:4], before[None], part[4:])).int()
        if device.type == "cuda":
            table = table.pin_memory()  # from there alone a copy is not waited for
        table = table.to(device, non_blocking=True)
        rectangle = torch.repeat_interleave(table[5], output_size=number)
        owner, first, width, gap, before = table[:5].index_select(1, rectangle)
        step = torch.arange(number, dtype=torch.int32, device=device)
        yield objects, first + step + (step - before) // width * gap, owner


def _best(group: Tensor, value: Tensor, groups: range, k: int) -> tuple[Tensor, Tensor]:
    """Find the k highest values of each group.

    Args:
        group: (n,) int32, n >= 1, ascending, each in `groups`.
        value: (n,) float32, not negative; what is 0 or no number is not selected.
        groups: which groups there may be.
        k: at least 1.

    Returns:
        (len(groups), k) indices into n, of a group by value descending, then index; and which of them are
        void, as a group may have fewer.
    """
    # The bits of a positive float order as its value does, so one integer carries both keys of the sort.
    value = value.nan_to_num(0)
    order = ((group.long() << 31) - value.view(torch.int32)).argsort(stable=True)
    bounds = torch.searchsorted(
        group, torch.arange(groups.start, groups.stop + 1, dtype=group.dtype, device=group.device)
    )
    place = bounds[:-1, None] + torch.arange(k, device=group.device)
    best = order[place.clamp(max=len(group) - 1)]
    return best, (place >= bounds[1:, None]) | (value[best] == 0)


def _settle(point: Tensor, overlap: Tensor, alignment: Tensor, void: Tensor, points: int) -> Assignment:
    """Give each point to one of the objects that selected it, and scale the target scores.

    Args:
        point: (G, k) int64 flat points that each object selected, each at most once.
        overlap: (G, k) float32 u.
        alignment: (G, k) float32 t.
        void: (G, k) which of these there are not.
        points: of the batch, B A.
    """
    # A claim to a point holds the overlap's bits above the place in the selection, counted from the end: the
    # highest claim is that of the highest overlap, then of the lowest object.
    place = torch.arange(point.numel(), device=point.device).view_as(point)
    claim = ((overlap.view(torch.int32).long() << 32) + (LAST - place)).masked_fill(void, -1)
    highest = claim.new_full((points,), -1)
    highest.scatter_reduce_(0, point.flatten(), claim.flatten(), "amax")
    lost = void | (highest[point] != claim)
    max_overlap = overlap.masked_fill(lost, 0).amax(1, keepdim=True)
    max_alignment = alignment.masked_fill(lost, 0).amax(1, keepdim=True)
    score = alignment / max_alignment * max_overlap

    taken = (highest >= 0).nonzero().squeeze(1)
    place = LAST - (highest[taken] & LAST)
    return Assignment(taken, place // point.shape[1], score.flatten()[place])


def _highest(value: Tensor, group: Tensor, groups: int) -> Tensor:
    """Return the highest value of each group, (groups,), 0 for a group without any; values are positive."""
    return value.new_zeros(groups).scatter_reduce(0, group, value, "amax")

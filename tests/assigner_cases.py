"""The dense reference of the assigner, and batches for its tests."""

import math
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from losses.similarity import ciou

VISDRONE = Path(__file__).resolve().parents[2] / "shared" / "data" / "visdrone" / "val_annotations"


def pyramid(height, width, strides=(8, 16, 32)):
    """Points (A, 2) and strides (A,) of row-major grids, written with loops."""
    points, levels = [], []
    for stride in strides:
        for row in range(math.ceil(height / stride)):
            for column in range(math.ceil(width / stride)):
                points.append(((column + 0.5) * stride, (row + 0.5) * stride))
                levels.append(float(stride))
    return torch.tensor(points), torch.tensor(levels)


def dense_assign(scores, boxes, points, strides, gt_boxes, gt_labels, image_index, topk=10, min_side=None):
    """The plain reference: image by image, full (g, A) matrices, one object after the other.

    Returns a dict {(flat point, object): target score}.
    """
    if min_side is None:
        levels = sorted(set(strides.tolist()))
        min_side = levels[min(1, len(levels) - 1)]
    positives = {}
    for b in range(len(scores)):
        objects = [g for g in range(len(gt_boxes)) if image_index[g] == b]
        gt = gt_boxes[objects]
        margin = (min_side - (gt[:, 2:] - gt[:, :2])).clamp(min=0) / 2
        low, high = (gt[:, :2] - margin)[:, None], (gt[:, 2:] + margin)[:, None]
        inside = ((low < points) & (points < high)).all(-1)
        u = ciou(boxes[b], gt[:, None]).clamp(min=0)
        t = scores[b].float()[:, gt_labels[objects]].T ** 0.5 * u**6
        t = torch.where(inside, t, 0)
        claims = {}
        for row in range(len(objects)):
            for a in t[row].argsort(descending=True, stable=True)[:topk].tolist():
                if t[row, a] > 0:
                    claims.setdefault(a, []).append(row)
        owner = {a: max(rows, key=lambda row: (u[row, a].item(), -row)) for a, rows in claims.items()}
        for row, g in enumerate(objects):
            mine = [a for a in owner if owner[a] == row]
            for a in mine:
                score = t[row, a] * u[row, mine].max() / t[row, mine].max()
                positives[b * len(points) + a, g] = score.item()
    return positives


def as_dict(assignment):
    pairs = zip(assignment.point.tolist(), assignment.object.tolist(), strict=True)
    return dict(zip(pairs, assignment.score.tolist(), strict=True))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for pair, score in expected.items():
        assert found[pair] == pytest.approx(score, abs=1e-6)


def make_batch(seed, counts, size=(128, 160), strides=(8, 16, 32), classes=3, sides=(1, 60)):
    """A random batch whose predictions partly follow the objects, so that points are contested.

    Returns the arguments of the assigner; `counts` holds the number of objects of each image.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(shape, generator=generator)

    points, levels = pyramid(*size, strides)
    total = sum(counts)
    extent = torch.tensor([size[1], size[0]])
    # log-uniform sides, with quarter-pixel corners: some points fall exactly on an edge
    side = sides[0] * (sides[1] / sides[0]) ** uniform(total, 2)
    corner = uniform(total, 2) * extent - side / 2
    gt_boxes = torch.cat((corner, corner + side), 1).mul(4).round().div(4)
    image_index = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    gt_labels = torch.randint(classes, (total,), generator=generator)

    reach = levels[:, None] * 2
    boxes = torch.cat(
        (
            points - uniform(len(counts), len(points), 2) * reach,
            points + uniform(len(counts), len(points), 2) * reach,
        ),
        -1,
    )
    for b in range(len(counts)):  # three quarters of the points predict the nearest object, jittered
        gt = gt_boxes[image_index == b]
        if len(gt):
            nearest = torch.cdist(points, (gt[:, :2] + gt[:, 2:]) / 2).argmin(1)
            near = gt[nearest] + (uniform(len(points), 4) - 0.5) * 4
            boxes[b] = torch.where(uniform(len(points), 1) < 0.75, near, boxes[b])
    scores = uniform(len(counts), len(points), classes) ** 2
    return scores, boxes, points, levels, gt_boxes, gt_labels, image_index


class Recorder(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that any operator returned."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


def one_level(scores, boxes, gt_boxes, labels=None):
    """Assigner arguments for one image of 32 x 8, one level of stride 8: points x = 4 12 20 28, y = 4."""
    points, strides = pyramid(8, 32, (8,))
    gt_boxes = torch.tensor(gt_boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.zeros(len(gt_boxes), dtype=torch.int64) if labels is None else torch.tensor(labels)
    return (
        torch.tensor(scores).reshape(1, 4, -1),
        torch.tensor(boxes, dtype=torch.float32)[None],
        points,
        strides,
        gt_boxes,
        labels,
        torch.zeros(len(gt_boxes), dtype=torch.int64),
    )

"""Predictions and assignments for the tests of the total loss."""

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from losses.named import BoxLossName, ClassificationName
from losses.size_aware import DynamicLoss, FocalLogLoss, HybridLoss, InverseSqrtLoss, NormalizedSqrtLoss

BOX_NAMES, CLASS_NAMES = get_args(BoxLossName), get_args(ClassificationName)
SIZE_AWARE = (InverseSqrtLoss, FocalLogLoss, DynamicLoss, NormalizedSqrtLoss, HybridLoss)
GRID, C, BINS = 8, 3, torch.arange(-2.0, 14.0)


@dataclass
class FakePredictions:
    """B images with one level of GRID x GRID points."""

    logits: Tensor
    distances: Tensor
    stride: float = 8.0
    boxes: Tensor | None = None  # (B * A, 4) given boxes instead of decoded ones

    @property
    def points(self):
        axis = (torch.arange(GRID, dtype=torch.float32, device=self.logits.device) + 0.5) * self.stride
        return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).flatten(0, 1)

    @property
    def strides(self):
        return torch.full((GRID * GRID,), self.stride, device=self.logits.device)

    @property
    def bins(self):
        return BINS.to(self.logits.device)

    def decode(self, index):
        if self.boxes is not None:
            return self.boxes[index]
        sides = self.distances.flatten(0, 1)[index].float().softmax(-1) @ self.bins * self.stride
        points = self.points[index % len(self.points)]
        return torch.cat((points - sides[:, :2], points + sides[:, 2:]), -1)


@dataclass
class FakeAssignment:
    point: Tensor
    object: Tensor
    score: Tensor


def scene(images: int = 2, positives: tuple[int, ...] = (9, 3), seed: int = 0):
    """Arguments of `DetectionLoss.forward`; image i has `positives[i]` positives and as many objects."""
    generator = torch.Generator().manual_seed(seed)
    a = GRID * GRID
    predictions = FakePredictions(
        torch.randn(images, a, C, generator=generator).requires_grad_(),
        torch.randn(images, a, 4, len(BINS), generator=generator).requires_grad_(),
    )
    place = [
        torch.randperm(a, generator=generator)[:n].sort().values + i * a for i, n in enumerate(positives)
    ]
    point = torch.cat(place)
    middle = predictions.points[point % a] + torch.rand(len(point), 2, generator=generator) * 6 - 3
    half = torch.rand(len(point), 2, generator=generator) * 20 + 2
    objects = torch.randperm(len(point), generator=generator)
    gt_boxes = torch.empty(len(point), 4)
    gt_boxes[objects] = torch.cat((middle - half, middle + half), -1)
    score = 0.5 + torch.rand(len(point), generator=generator) / 2
    gt_labels = torch.randint(0, C, (len(point),), generator=generator)
    ignored = torch.arange(3, images * a, 7)
    return predictions, FakeAssignment(point, objects, score), gt_boxes, gt_labels, ignored


def gradients(loss, arguments):
    total = loss(*arguments)["loss"]
    return torch.autograd.grad(total, (arguments[0].logits, arguments[0].distances))

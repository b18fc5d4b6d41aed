"""The anchor-free head, its points, and the decoding of distances to boxes.

B images, A points of all levels, C classes, P selected points, K distance bins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.networks.layers import conv, separable_conv

MIN_SIDE = 0.01
"""Smallest decoded side, in strides: boxes stay valid however the distances fall."""


class Level(NamedTuple):
    """The grid of points of one level.

    Attributes:
        stride: pixels between its points; the first is half of that from the edges.
        rows: of points.
        columns: of points.
    """

    stride: float
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the network says about a batch; every coordinate in pixels of the input.

    Attributes:
        logits: (B, A, C) class logits.
        distances: (B, A, 4, K) logits of the distributions of the distances from the point to the left,
            top, right and bottom side of the box.
        points: (A, 2) float32 xy pixels; row-major grids, level by level, from stride / 2.
        strides: (A,) float32 pixels between the points of each point's level.
        bins: (K,) float32 distance that each bin stands for, in strides of the point.
        auxiliary: what a branch for training alone says about the same batch; None without one.
        levels: the grids that the points are, in numbers: no GPU has to be asked. None where it is.
    """

    logits: Tensor
    distances: Tensor
    points: Tensor
    strides: Tensor
    bins: Tensor
    auxiliary: Predictions | None = None
    levels: Sequence[Level] | None = None

    def decode(self, index: Tensor) -> Tensor:
        """Boxes of some points: index (P,) = b * A + a. Returns (P, 4) float32 xyxy pixels."""
        point = index % len(self.points)
        return decode(self.distances.flatten(0, 1)[index], self.bins, self.points[point], self.strides[point])

    def boxes(self) -> Tensor:
        """Boxes of all points: (B, A, 4) float32 xyxy pixels."""
        return decode(self.distances, self.bins, self.points, self.strides)


def decode(distances: Tensor, bins: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """Boxes from distance distributions, in float32 under any autocast.

    Args:
        distances: (..., 4, K) logits, sides in the order left, top, right, bottom.
        bins: (K,) strides.
        points: (..., 2) xy pixels.
        strides: (...,) pixels.

    Returns:
        (..., 4) float32 xyxy pixels, every side at least `MIN_SIDE` strides long.
    """
    with torch.autocast(distances.device.type, enabled=False):
        expected = distances.float().softmax(-1) @ bins.float()
        before, after = expected.chunk(2, dim=-1)
        centre = points + (after - before) / 2 * strides[..., None]
        half = (before + after).clamp(min=MIN_SIDE) / 2 * strides[..., None]
        return torch.cat((centre - half, centre + half), dim=-1)


def grid_points(
    sizes: Sequence[tuple[int, int]], strides: Sequence[float], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Centres of the cells of every level.

    Args:
        sizes: (height, width) of each level's map.
        strides: pixels between the points of each level.
        device: device of the points.

    Returns:
        Points (A, 2) float32 xy pixels and their strides (A,) float32 pixels.
    """
    points, point_strides = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * stride
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * stride
        points.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1))
        point_strides.append(x.new_full((height * width,), stride))
    return torch.cat(points), torch.cat(point_strides)


class Head(nn.Module):
    """Decoupled anchor-free head: a class branch and a distance branch on every level.

    The class branch is depthwise separable, the distance branch dense: localisation of small objects gains
    from full convolutions, classification does not.

    Args:
        in_channels: channels of every input map.
        strides: stride of each level in pixels, ascending.
        num_classes: C.
        channels: channels within the branches.
        reg_max: largest distance in strides; bins run from -2 to it, one stride apart.

    Source: Li et al. 2020, Generalized Focal Loss (distance distributions); the range below zero lets points
    outside a small box reach it, as in PaddleDetection's PP-YOLOE-SOD.
    """

    bins: Tensor

    def __init__(
        self, in_channels: int, strides: Sequence[int], num_classes: int, channels: int, reg_max: int
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.register_buffer("bins", torch.arange(-2.0, reg_max + 1), persistent=False)
        self.classes: Iterable[nn.Sequential] = nn.ModuleList(  # type: ignore[assignment]  # of Sequentials
            nn.Sequential(
                separable_conv(in_channels, channels),
                separable_conv(channels, channels),
                nn.Conv2d(channels, num_classes, 1),
            )
            for _ in strides
        )
        self.distances: Iterable[nn.Sequential] = nn.ModuleList(  # type: ignore[assignment]
            nn.Sequential(
                conv(in_channels, channels, 3),
                conv(channels, channels, 3),
                nn.Conv2d(channels, 4 * len(self.bins), 1),
            )
            for _ in strides
        )

    def initialise(self, image_size: tuple[int, int], expected_objects: float) -> None:
        """Start from plausible outputs, see `start_plausibly`."""
        start_plausibly(self.classes, self.distances, self.bins, self.strides, image_size, expected_objects)

    def forward(self, maps: Sequence[Tensor]) -> Predictions:
        """One (B, in_channels, H, W) map per level, finest first, to the predictions of the batch."""
        logits = [branch(x) for branch, x in zip(self.classes, maps, strict=True)]
        distances = [branch(x) for branch, x in zip(self.distances, maps, strict=True)]
        return predict(logits, distances, self.strides, self.bins)


def start_plausibly(
    classes: Iterable[nn.Sequential],
    distances: Iterable[nn.Sequential],
    bins: Tensor,
    strides: Sequence[int],
    image_size: tuple[int, int],
    expected_objects: float,
) -> None:
    """Set the last layers of a head so that training does not begin by unlearning what they say.

    Class scores start such that the scores of a level sum to its share of the expected objects, which are
    spread evenly over levels and classes. Distances start near one stride, the scale of small objects: bins
    weigh exp(-(bin - 1)^2 / 2).

    Args:
        classes: class branch of each level; the last layer gives C logits.
        distances: distance branch of each level; the last layer gives 4 K logits.
        bins: (K,) strides.
        strides: stride of each level, pixels.
        image_size: (height, width) of the input, pixels.
        expected_objects: objects in an image of that size.
    """
    height, width = image_size
    last_layers = ((branch[-1] for branch in branches) for branches in (classes, distances))
    for stride, scores, sides in zip(strides, *last_layers, strict=True):
        cells = math.ceil(height / stride) * math.ceil(width / stride)
        prior = min(expected_objects / len(strides) / (cells * scores.out_channels), 0.1)
        nn.init.normal_(scores.weight, std=0.01)
        nn.init.constant_(scores.bias, math.log(prior / (1 - prior)))
        nn.init.normal_(sides.weight, std=0.01)
        with torch.no_grad():
            sides.bias.copy_((-((bins - 1) ** 2) / 2).repeat(4))


def predict(
    logits: Sequence[Tensor], distances: Sequence[Tensor], strides: Sequence[int], bins: Tensor
) -> Predictions:
    """Join the maps of a head's levels.

    Args:
        logits: (B, C, H, W) per level, finest first.
        distances: (B, 4 K, H, W) per level; channels by side, then bin.
        strides: stride of each level, pixels.
        bins: (K,) strides.
    """
    sizes = tuple((x.shape[-2], x.shape[-1]) for x in logits)
    # Kept where a training goes through the same few sizes, kernel by kernel; a graph has them as constants.
    keep = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    points, point_strides = (_kept_points if keep else grid_points)(sizes, tuple(strides), logits[0].device)
    return Predictions(
        logits=_rows(logits),
        distances=_rows(distances).unflatten(-1, (4, len(bins))),
        points=points,
        strides=point_strides,
        bins=bins,
        levels=[Level(stride, *size) for stride, size in zip(strides, sizes, strict=True)],
    )


_kept_points = lru_cache(maxsize=32)(grid_points)


def _rows(maps: Sequence[Tensor]) -> Tensor:
    """(B, K, H, W) a level to (B, A, K): a single copy of maps whose layout is channels_last."""
    return torch.cat([x.permute(0, 2, 3, 1).flatten(1, 2) for x in maps], dim=1)

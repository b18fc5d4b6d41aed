"""Mosaic: four images of a batch on one canvas, at the scale that each would have alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datamodules.batch import Sample
from datamodules.transforms import Augment, compose, draw_zoom, fit, place, scaled

CENTRE = (0.3, 0.7)
"""Range of the point where the four meet, as a share of the canvas."""


def mosaic(
    samples: Sequence[Sample], size: tuple[int, int], augment: Augment, rng: np.random.Generator
) -> Sample:
    """Put cut-outs of four images together.

    Each quarter shows a part of its image, cut at a random place, zoomed as `jitter` would. Nothing is
    shrunk to make room, so small objects stay as large as they are; the four are resampled once, straight
    onto the canvas, and cost together as much as one image.

    Args:
        samples: four decoded samples; the first gives its `info`.
        size: (H, W) of the canvas.
        augment: zoom range and `min_visibility`.
        rng: the first sample's generator.
    """
    height, width = size
    x, y = round(width * rng.uniform(*CENTRE)), round(height * rng.uniform(*CENTRE))
    regions = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    placements = []
    for sample, region in zip(samples, regions, strict=True):
        shape = sample.image.shape[:2]
        scale = fit(shape, size) * draw_zoom(augment, rng)
        corner = []
        for axis, length in ((0, shape[1]), (1, shape[0])):
            slack = region[axis + 2] - region[axis] - scaled(length, scale)
            corner.append(region[axis] + round(slack * rng.random()))
        placements.append(place(shape, scale, region, (corner[0], corner[1])))
    return compose(samples, placements, size, augment.min_visibility)


def partners(count: int, own: int, rng: np.random.Generator) -> list[int]:
    """Draw the three other members of a mosaic: positions in a batch of `count`, other than `own`.

    A batch of fewer than four images gives some of them twice.
    """
    others = np.delete(np.arange(count), own) if count > 1 else np.array([own])
    return [int(i) for i in rng.choice(others, 3, replace=len(others) < 3)]

"""Several images of a batch in one: mosaic puts four side by side, mixup lays two over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from datamodules.batch import Sample
from datamodules.transforms.augment import Augment, draw_focus, draw_zoom, show_scale
from datamodules.transforms.geometry import Placement, place, scaled

CENTRE = (0.3, 0.7)
"""Range of the point where the four meet, as a share of the canvas."""

MIXUP_BETA = 32.0
"""Both parameters of the beta distribution of a blend's share: 0.5 with a standard deviation of 0.06."""

FAINTEST = 0.35
"""Smallest share of an image in a blend, so that its objects can still be seen and keep their labels."""


def mosaic(
    samples: Sequence[Sample],
    size: tuple[int, int],
    augment: Augment,
    rng: np.random.Generator,
    tile: bool = False,
) -> list[Placement]:
    """Lay out cut-outs of four images.

    Each quarter shows a part of its image, cut at a random place, zoomed as `jitter` would. Nothing is
    shrunk to make room, so small objects stay as large as they are; the four are resampled once, straight
    onto the canvas, and cost together as much as one image.

    Args:
        samples: four decoded samples.
        size: (H, W) of the canvas.
        augment: zoom range.
        rng: the first sample's generator.
        tile: show the images at their original scale, see `base_scale`.
    """
    height, width = size
    x, y = round(width * rng.uniform(*CENTRE)), round(height * rng.uniform(*CENTRE))
    regions = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    placements = []
    for sample, region in zip(samples, regions, strict=True):
        shape = sample.image.shape[:2]
        scale = show_scale(sample, size, tile) * draw_zoom(augment, rng)
        focus = draw_focus(sample, rng) if tile else None
        corner = []
        for axis, length in ((0, shape[1]), (1, shape[0])):
            room = region[axis + 2] - region[axis]
            slack = room - scaled(length, scale)
            shift = slack * rng.random()
            if focus is not None:
                shift = np.clip(rng.uniform(0, room) - focus[axis] * scale, min(slack, 0), max(slack, 0))
            corner.append(region[axis] + round(float(shift)))
        placements.append(place(shape, scale, region, (corner[0], corner[1])))
    return placements


def mixup(first: Sample, second: Sample, rng: np.random.Generator) -> Sample:
    """Blend two samples; all objects and ignore boxes of both stay.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"; for detection without weights
    on the labels, as Zhang et al. 2019, "Bag of Freebies for Training Object Detection Neural Networks".

    Args:
        first: gives the result its `info`.
        second: image of the same size.
        rng: generator of the blend's share.
    """
    share = float(np.clip(rng.beta(MIXUP_BETA, MIXUP_BETA), FAINTEST, 1 - FAINTEST))
    image = cv2.addWeighted(first.image, share, second.image, 1 - share, 0)
    return replace(
        first,
        image=image,  # type: ignore[arg-type]
        boxes=np.concatenate([first.boxes, second.boxes]),
        labels=np.concatenate([first.labels, second.labels]),
        ignore_boxes=np.concatenate([first.ignore_boxes, second.ignore_boxes]),
    )


def partners(count: int, own: int, rng: np.random.Generator, number: int = 3) -> list[int]:
    """Draw other members of a sample: positions in a batch of `count`, other than `own`.

    A batch that has too few others gives some of them twice.
    """
    others = np.delete(np.arange(count), own) if count > 1 else np.array([own])
    return [int(i) for i in rng.choice(others, number, replace=len(others) < number)]

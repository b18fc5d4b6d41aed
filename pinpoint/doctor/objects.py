"""All objects of a split as arrays, and what can be counted of them.

N images, G objects, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from datamodules.records import Record
from datamodules.transforms.geometry import area, fit

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]

BLOCK = 256
"""Objects compared with all others of their image at a time, for memory's sake."""


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of a split, flat.

    Attributes:
        boxes: (G, 4) xyxy pixels of the original image, clipped to it.
        labels: (G,) class indices.
        image_index: (G,) index into the N images, ascending.
        sizes: (N, 2) height and width of the images, pixels.
        scale: (N,) input pixels per original pixel.
    """

    boxes: Reals
    labels: Ints
    image_index: Ints
    sizes: Ints
    scale: Reals

    def at(self, image_size: tuple[int, int]) -> Objects:
        """The same at another input of (H, W) pixels."""
        return replace(self, scale=np.array([fit((h, w), image_size) for h, w in self.sizes.tolist()]))

    @property
    def sides(self) -> Reals:
        """(G,) side, the root of the area, in original pixels."""
        return np.sqrt(area(self.boxes))  # type: ignore[no-any-return]

    @property
    def input_sides(self) -> Reals:
        """(G,) side in input pixels."""
        return self.sides * self.scale[self.image_index]

    @property
    def input_lengths(self) -> Reals:
        """(G,) longer side in input pixels."""
        extent = self.boxes[:, 2:] - self.boxes[:, :2]
        return extent.max(axis=1, initial=0) * self.scale[self.image_index]  # type: ignore[no-any-return]

    @property
    def aspects(self) -> Reals:
        """(G,) width by height."""
        width, height = (self.boxes[:, 2:] - self.boxes[:, :2]).T
        return width / height  # type: ignore[no-any-return]

    @property
    def per_image(self) -> Ints:
        """(N,) number of objects."""
        return np.bincount(self.image_index, minlength=len(self.sizes))

    def per_class(self, classes: int) -> Ints:
        """(C,) number of objects."""
        return np.bincount(self.labels, minlength=classes)

    def images_per_class(self, classes: int) -> Ints:
        """(C,) number of images with an object of the class."""
        pairs = np.unique(self.image_index * classes + self.labels)
        return np.bincount(pairs % classes, minlength=classes)

    def positions(self, cells: int) -> Reals:
        """(cells, cells) share of the objects whose centre lies in each part of the image, row by row."""
        centres = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2 / self.sizes[self.image_index][:, ::-1]
        edges = np.linspace(0, 1, cells + 1)
        counts, _, _ = np.histogram2d(centres[:, 1], centres[:, 0], bins=(edges, edges))
        return counts / max(len(centres), 1)

    def neighbours(self) -> tuple[Ints, Reals]:
        """How crowded each object is.

        Returns:
            (G,) number of other objects whose centre is nearer than the object's own side, and (G,)
            distance to the nearest centre in input pixels, infinite for an object alone.
        """
        count = np.zeros(len(self.boxes), dtype=np.int64)
        nearest = np.full(len(self.boxes), np.inf)
        centres, sides = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2, self.sides
        edges = np.searchsorted(self.image_index, np.arange(len(self.sizes) + 1))
        for image, (start, stop) in enumerate(pairwise(edges)):
            for first in range(start, stop, BLOCK):
                some = slice(first, min(first + BLOCK, stop))
                distance = np.linalg.norm(centres[some, None] - centres[start:stop], axis=-1)
                own = np.arange(len(distance))
                distance[own, own + first - start] = np.inf
                count[some] = (distance < sides[some, None]).sum(axis=1)
                nearest[some] = distance.min(axis=1, initial=np.inf) * self.scale[image]
        return count, nearest


def gather(records: Sequence[Record], image_size: tuple[int, int]) -> Objects:
    """Put the objects of all images together.

    Args:
        records: the images of a split.
        image_size: (H, W) of the input that they are letterboxed to.
    """
    sizes = np.array([record.info.size for record in records], dtype=np.int64).reshape(-1, 2)
    counts = [len(record.annotations.boxes) for record in records]
    image_index = np.repeat(np.arange(len(records)), counts)
    boxes = np.concatenate([np.zeros((0, 4)), *(record.annotations.boxes for record in records)])
    limit = np.tile(sizes[image_index][:, ::-1], 2)
    return Objects(
        boxes=boxes.clip(0, limit),
        labels=np.concatenate([np.zeros(0, np.int64), *(record.annotations.labels for record in records)]),
        image_index=image_index,
        sizes=sizes,
        scale=np.array([fit(record.info.size, image_size) for record in records]),
    )


def percentiles(values: Reals | Ints, wanted: Sequence[float] = (0, 10, 50, 90, 100)) -> list[float]:
    """Percentiles of some values, NaN where there are none."""
    return np.percentile(values, wanted).tolist() if len(values) else [float("nan")] * len(wanted)

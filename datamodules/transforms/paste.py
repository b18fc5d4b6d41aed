"""Copy-paste of small objects by box: more of them, on background where such objects are.

Source of the idea: Kisantal et al. 2019, "Augmentation for small object detection": pasted copies of small
objects that overlap no other object. They cut along masks. A box brings a little of its own background along,
so ours fades out around itself and goes where the background is most alike.

n objects, K places tried, h and w sides of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datamodules.batch import Sample
from datamodules.transforms.geometry import Placement, area, move, scaled

SMALL = 32
"""Objects with both sides up to this, in pixels of the canvas, are copied: COCO's small ones."""

MOST = 8
"""Largest number of copies in a sample."""

RING = 3
"""Width of the faded ring around a pasted box, in pixels of the canvas."""

ZOOM = (0.8, 1.25)
"""Range of a copy's size relative to the object at its image's scale, drawn log-uniformly."""

SIMILAR = 1.5
"""Objects are of similar size up to this ratio of their sides, either way."""

NEAR = (1.0, 5.0)
"""Range of the distance of a copy from a similar object, in sides of the latter."""

ROW = 0.1
"""Largest change of height in the image, as a share of it, where there is no similar object."""

TRIES = 24
"""Places tried for each copy."""

UNLIKE = 40
"""Largest mean difference between the background of a copy and that of its place, in grey levels."""


@dataclass(frozen=True, slots=True)
class Source:
    """An image to copy objects from.

    Attributes:
        sample: the decoded image with its boxes.
        scale: canvas pixels per pixel of the image.
    """

    sample: Sample
    scale: float


@dataclass(frozen=True, slots=True)
class Patch:
    """A copy of an object, ready to be pasted.

    Attributes:
        image: (h, w, 3) uint8, the object and a ring of its surroundings.
        opacity: (h, w, 1) float32, 1 on the object, fading to 0 at the ring's outer edge.
        box: (4,) xyxy pixels of the patch.
    """

    image: NDArray[np.uint8]
    opacity: NDArray[np.float32]
    box: NDArray[np.float32]

    @property
    def background(self) -> NDArray[np.floating]:
        """Mean colour of the ring, (3,)."""
        weights = 1 - self.opacity.reshape(-1)
        mean: NDArray[np.floating] = weights @ self.image.reshape(len(weights), -1) / weights.sum()
        return mean

    def mirrored(self) -> Patch:
        """The patch flipped left to right."""
        x1, y1, x2, y2 = self.box
        width = self.image.shape[1]
        box = np.array((width - x2, y1, width - x1, y2), dtype=np.float32)
        return Patch(self.image[:, ::-1], self.opacity[:, ::-1], box)


def paste_objects(
    sample: Sample,
    windows: NDArray[np.int64],
    sources: Sequence[Source],
    flip: float,
    rng: np.random.Generator,
) -> Sample:
    """Paste copies of small objects where they cover no object, no ignore box, no padding and no seam.

    Each goes near an object of its class and about its size; where there is none, to about the height in
    the image that it comes from.

    Args:
        sample: a canvas; its image is painted over.
        windows: (w, 4) xyxy whole pixels, the parts of the canvas that show one image each.
        sources: where the objects come from.
        flip: probability that a copy is flipped left to right.
        rng: generator of all choices.
    """
    boxes, labels = [], []
    taken = np.concatenate([sample.boxes, sample.ignore_boxes])
    wanted = int(rng.integers(1, MOST + 1))
    for source, index in _draw_objects(sources, 2 * wanted, rng):
        patch = _cut(source, index, rng)
        if patch is None:
            continue
        if rng.random() < flip:
            patch = patch.mirrored()
        label = source.sample.labels[index]
        similar = _similar(sample.boxes[sample.labels == label], patch.box)
        centres = _near(similar, rng) if len(similar) else _in_row(source, index, sample.image.shape[:2], rng)
        target = _choose(sample.image, patch, centres, windows, taken)
        if target is None:
            continue
        _blend(patch, sample.image, target)
        boxes.append(patch.box + np.array(target[:2] * 2))
        labels.append(label)
        taken = np.concatenate([taken, np.array([target], dtype=np.float32)])
        if len(boxes) == wanted:
            break
    return replace(
        sample,
        boxes=np.concatenate([sample.boxes, np.array(boxes, dtype=np.float32).reshape(-1, 4)]),
        labels=np.concatenate([sample.labels, np.array(labels, dtype=np.int64)]),
    )


def _draw_objects(
    sources: Sequence[Source], count: int, rng: np.random.Generator
) -> list[tuple[Source, int]]:
    """Small objects of all sources, up to a number of them, in random order."""
    small = [
        (source, int(index))
        for source in sources
        for index in np.flatnonzero((_sides(source.sample.boxes) * source.scale <= SMALL).all(axis=1))
    ]
    return [small[i] for i in rng.permutation(len(small))[:count]]


def _sides(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Width and height of (n, 4) boxes: (n, 2)."""
    return boxes[:, 2:] - boxes[:, :2]


def _cut(source: Source, index: int, rng: np.random.Generator) -> Patch | None:
    """Copy an object with its ring; None if that sticks out of the image or shows anything else labelled."""
    scale = source.scale * float(np.exp(rng.uniform(*np.log(ZOOM))))
    sample, box = source.sample, source.sample.boxes[index]
    x1, y1 = np.floor(box[:2] - RING / scale).astype(int).tolist()
    x2, y2 = np.ceil(box[2:] + RING / scale).astype(int).tolist()
    height, width = sample.image.shape[:2]
    if min(x1, y1) < 0 or x2 > width or y2 > height:
        return None
    others = np.concatenate([np.delete(sample.boxes, index, axis=0), sample.ignore_boxes])
    if _overlap(np.array([(x1, y1, x2, y2)]), others).any():
        return None
    w, h = scaled(x2 - x1, scale), scaled(y2 - y1, scale)
    placement = Placement((x1, y1, x2, y2), (0, 0, w, h))
    pixels = np.empty((h, w, sample.image.shape[2]), dtype=np.uint8)
    placement.paste(sample.image, pixels)
    moved = move([box[None]], [placement])[0][0]
    return Patch(pixels, _opacity(moved, h, w), moved)


def _opacity(box: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    def along(low: float, high: float, length: int) -> NDArray[np.float64]:
        middle = np.arange(length) + 0.5
        outside: NDArray[np.float64] = np.maximum(low - middle, middle - high)
        return (1 - outside / RING).clip(0, 1)

    x1, y1, x2, y2 = box.tolist()
    return (along(y1, y2, height)[:, None, None] * along(x1, x2, width)[:, None]).astype(np.float32)


def _similar(boxes: NDArray[np.float32], box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Those of (n, 4) boxes that are about as large as a box (4,)."""
    ratio = area(boxes) / area(box[None])
    return boxes[(ratio < SIMILAR**2) & (ratio > SIMILAR**-2)]


def _near(similar: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float64]:
    """Places around objects (n, 4): centres (K, 2)."""
    anchors = similar[rng.integers(len(similar), size=TRIES)]
    distance = np.sqrt(area(anchors)) * rng.uniform(*NEAR, TRIES)
    angle = rng.uniform(0, 2 * np.pi, TRIES)
    offsets = distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    centres: NDArray[np.float64] = (anchors[:, :2] + anchors[:, 2:]) / 2 + offsets
    return centres


def _in_row(
    source: Source, index: int, size: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Places on a canvas (H, W) at about the height that an object has in its image: centres (K, 2)."""
    _, y1, _, y2 = source.sample.boxes[index]
    row = (y1 + y2) / 2 / source.sample.image.shape[0]
    y = row + rng.uniform(-ROW, ROW, TRIES)
    centres: NDArray[np.float64] = np.stack([rng.uniform(0, 1, TRIES), y], axis=1) * (size[1], size[0])
    return centres


def _choose(
    canvas: NDArray[np.uint8],
    patch: Patch,
    centres: NDArray[np.float64],
    windows: NDArray[np.int64],
    taken: NDArray[np.float32],
) -> tuple[int, int, int, int] | None:
    """Of the free places the one most like the patch's background, if it is at all: xyxy whole pixels."""
    size = np.array(patch.image.shape[1::-1])
    corners = np.round(centres - size / 2).astype(np.int64)
    places = np.concatenate([corners, corners + size], axis=1)
    # (K, w, 4) room between a place's sides and a window's; a place lies in a window if none is negative.
    room = np.concatenate(
        [places[:, None, :2] - windows[:, :2], windows[:, 2:] - places[:, None, 2:]], axis=2
    )
    inside = room.min(axis=2).max(axis=1) >= 0
    free = places[inside & ~_overlap(places, taken).any(axis=1)]
    if not len(free):
        return None
    colours = np.array([canvas[y1:y2, x1:x2].mean(axis=(0, 1)) for x1, y1, x2, y2 in free.tolist()])
    unlike = np.abs(colours - patch.background).mean(axis=1)
    if unlike.min() > UNLIKE:
        return None
    x1, y1, x2, y2 = free[unlike.argmin()].tolist()
    return x1, y1, x2, y2


def _overlap(boxes: NDArray[np.number], others: NDArray[np.number]) -> NDArray[np.bool_]:
    """Which of (k, 4) boxes meet which of (n, 4) others: (k, n)."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    both: NDArray[np.bool_] = (low < high).all(axis=2)
    return both


def _blend(patch: Patch, canvas: NDArray[np.uint8], target: tuple[int, int, int, int]) -> None:
    x1, y1, x2, y2 = target
    below = canvas[y1:y2, x1:x2]
    below[...] = np.rint(below + patch.opacity * (patch.image - below.astype(np.float32)))

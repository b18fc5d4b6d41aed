"""Geometry of samples: placing, moving and clipping, letterbox, flips.

Every resampling is a `Placement`: a window of the original pixels lands on a window of the canvas, one
exact affine map per axis. Images are thus resampled once, from the original, whatever the scale.

n boxes of an image, H and W sides of the canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.batch import Sample

FILL = 127
"""Grey level of the canvas where no image lies, unless a network was trained with another."""

SLIVER = 0.1
"""Boxes cut to a side below this, in pixels of the canvas, are gone: nothing of them can be seen."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A window of an image, resampled onto a window of the canvas.

    Attributes:
        source: (x1, y1, x2, y2) whole pixels of the image.
        target: (x1, y1, x2, y2) whole pixels of the canvas.
    """

    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """(x, y) canvas pixels per image pixel."""
        x1, y1, x2, y2 = self.source
        u1, v1, u2, v2 = self.target
        return (u2 - u1) / (x2 - x1), (v2 - v1) / (y2 - y1)

    def paste(self, image: NDArray[np.uint8], canvas: NDArray[np.uint8]) -> None:
        """Write the source window of an `(h, w, 3)` image into the target window of the canvas."""
        x1, y1, x2, y2 = self.source
        u1, v1, u2, v2 = self.target
        resample(image[y1:y2, x1:x2], canvas[v1:v2, u1:u2])


def move(
    boxes: Sequence[NDArray[np.float32]], placements: Sequence[Placement]
) -> tuple[NDArray[np.float32], NDArray[np.floating]]:
    """Map boxes onto the canvas and clip them to the target windows.

    Args:
        boxes: (n_i, 4) xyxy pixels of each image, of positive size.
        placements: where each image goes.

    Returns:
        (n, 4) xyxy pixels of the canvas, all images' one after the other, and (n,) share of each box's area
        that is still visible, 0 for less than a sliver.
    """
    maps = [(p.source[:2] * 2, p.scale * 2, p.target[:2] * 2, p.target[2:] * 2) for p in placements]
    of_box = np.repeat(np.array(maps, dtype=np.float64), [len(part) for part in boxes], axis=0)
    origin, scale, low, high = of_box.transpose(1, 0, 2)
    moved = (np.concatenate(boxes) - origin) * scale + low
    clipped = np.minimum(np.maximum(moved, low), high)
    return clipped.astype(np.float32), visible_share(clipped, moved)


def visible_share(clipped: NDArray[np.floating], whole: NDArray[np.floating]) -> NDArray[np.floating]:
    """Share of each box's area that is left, `(n,)` in [0, 1]; 0 for less than a sliver.

    Args:
        clipped: (n, 4) xyxy pixels, what is left of each box.
        whole: (n, 4) xyxy pixels, of positive size.
    """
    sliver = (clipped[:, 2:] - clipped[:, :2]).min(axis=1, initial=np.inf) < SLIVER
    return np.where(sliver, 0, area(clipped) / area(whole))


def area(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Area of `(n, 4)` xyxy boxes: `(n,)`."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def resample(image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Resize an image without aliasing: halved as often as it can be, then linear interpolation.

    OpenCV's area interpolation would do for any ratio, but takes three times as long for other whole ratios
    and ten times as long for the rest. The linear step shrinks less than twofold, and so misses no pixel.

    Args:
        image: (h, w, bands).
        out: (H, W, bands), perhaps a part of a canvas, to be written to.
    """
    height, width = out.shape[:2]
    while (block := (_halves(image.shape[0], height), _halves(image.shape[1], width))) != (1, 1):
        half = (image.shape[1] // block[1], image.shape[0] // block[0])
        image = _average(image, half)
    if image.shape == out.shape:
        out[:] = image
    else:
        cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)


def _average(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Reduce an image to (width, height); odd sides of more than four bands OpenCV does not take at once."""
    bands = image.shape[2]
    if bands > 4:
        parts = [_average(np.ascontiguousarray(image[..., i : i + 4]), size) for i in range(0, bands, 4)]
        return np.dstack(parts)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], bands)  # type: ignore[return-value]


def _halves(length: int, target: int) -> int:
    """2 if a side can be halved without falling below its target, else 1."""
    return 2 if length >= 2 * target else 1


def place(
    size: tuple[int, int], scale: float, region: tuple[int, int, int, int], corner: tuple[int, int]
) -> Placement:
    """Lay a scaled image on the canvas and cut what sticks out of a region.

    The source window may leave out a few pixels at the image's right or lower edge, for speed.

    Args:
        size: (height, width) of the image.
        scale: wanted canvas pixels per image pixel; the placement's own scale differs by the rounding
            to whole pixels.
        region: (x1, y1, x2, y2) part of the canvas that may be painted.
        corner: (x, y) canvas position of the image's upper left corner; may lie outside the region, but
            part of the image must fall into it.
    """
    x1, x2, u1, u2 = _place_axis(size[1], scale, region[0], region[2], corner[0])
    y1, y2, v1, v2 = _place_axis(size[0], scale, region[1], region[3], corner[1])
    return Placement((x1, y1, x2, y2), (u1, v1, u2, v2))


def _place_axis(length: int, scale: float, low: int, high: int, start: int) -> tuple[int, int, int, int]:
    stop = start + scaled(length, scale)
    target = max(start, low), min(stop, high)
    assert target[0] < target[1], "the image must fall into the region"
    ratio = length / (stop - start)
    first = min(round((target[0] - start) * ratio), length - 1)
    count = min(max(round((target[1] - target[0]) * ratio), 1), length - first)
    halvings = (count // (target[1] - target[0])).bit_length() - 1
    if halvings > 0:
        count -= count % 2**halvings  # even sides keep `resample` on OpenCV's fast path
    return first, first + count, *target


def scaled(length: int, scale: float) -> int:
    """Side of an image in whole pixels after scaling, at least one."""
    return max(round(length * scale), 1)


def fit(size: tuple[int, int], canvas: tuple[int, int]) -> float:
    """Scale at which an image of `size` just fits into the canvas; both (height, width)."""
    return min(canvas[0] / size[0], canvas[1] / size[1])


def centre(window: tuple[int, int, int, int], canvas: tuple[int, int]) -> Placement:
    """Scale a window of an image to fit the canvas, centred.

    Args:
        window: (x1, y1, x2, y2) whole pixels of the image.
        canvas: (height, width).
    """
    width, height = window[2] - window[0], window[3] - window[1]
    scale = fit((height, width), canvas)
    inner = scaled(width, scale), scaled(height, scale)
    left, top = (canvas[1] - inner[0]) // 2, (canvas[0] - inner[1]) // 2
    return Placement(window, (left, top, left + inner[0], top + inner[1]))


def letterbox(sample: Sample, size: tuple[int, int], fill: int = FILL) -> Sample:
    """Scale an image to fit the canvas, centred, and remember the way back in its `info`.

    Args:
        sample: image of any size.
        size: (H, W) of the canvas.
        fill: grey level where no image lies.
    """
    height, width = sample.image.shape[:2]
    placement = centre((0, 0, width, height), size)
    placed = compose([sample], [placement], size, min_visibility=0, fill=fill)
    left, top = placement.target[:2]
    info = replace(sample.info, scale=placement.scale, padding=(float(left), float(top)))
    return replace(placed, info=info, annotations=sample.annotations)


def compose(
    samples: Sequence[Sample],
    placements: Sequence[Placement],
    size: tuple[int, int],
    min_visibility: float,
    fill: int = FILL,
) -> Sample:
    """Paint samples onto one canvas with all their boxes and ignore boxes.

    Objects of which less than `min_visibility` is left become ignore boxes; those without any visible
    part go.

    Args:
        samples: images of any size; the first gives the result its `info`.
        placements: where each of them goes.
        size: (H, W) of the canvas.
        min_visibility: share of an object's area, in [0, 1].
        fill: grey level where no image lies.
    """
    canvas = np.full((*size, samples[0].image.shape[2]), fill, dtype=np.uint8)
    for sample, placement in zip(samples, placements, strict=True):
        placement.paste(sample.image, canvas)
    boxes, visible = move([sample.boxes for sample in samples], placements)
    keep, cut = keep_or_ignore(visible, min_visibility)
    ignore_boxes, ignored = move([sample.ignore_boxes for sample in samples], placements)
    return Sample(
        image=canvas,
        boxes=boxes[keep],
        labels=np.concatenate([sample.labels for sample in samples])[keep],
        ignore_boxes=np.concatenate([ignore_boxes[ignored > 0], boxes[cut]]),
        info=samples[0].info,
    )


def keep_or_ignore(
    visible: NDArray[np.floating], min_visibility: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which objects stay objects, and which become ignore boxes; the others are gone.

    Args:
        visible: (n,) share of each object's area that is left, see `visible_share`.
        min_visibility: smallest share of an object, in [0, 1].

    Returns:
        Two masks (n,).
    """
    keep = (visible > 0) & (visible >= min_visibility)
    return keep, (visible > 0) & ~keep


def mirror(sample: Sample, horizontal: bool, vertical: bool) -> Sample:
    """Flip a sample left to right, upside down, or both."""
    if not horizontal and not vertical:
        return sample
    height, width = sample.image.shape[:2]
    image = cv2.flip(sample.image, -1 if horizontal and vertical else int(horizontal))
    boxes, ignore_boxes = sample.boxes.copy(), sample.ignore_boxes.copy()
    for moved in (boxes, ignore_boxes):
        if horizontal:
            moved[:, [0, 2]] = width - moved[:, [2, 0]]
        if vertical:
            moved[:, [1, 3]] = height - moved[:, [3, 1]]
    return replace(sample, image=image, boxes=boxes, ignore_boxes=ignore_boxes)  # type: ignore[arg-type]

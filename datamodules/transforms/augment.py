"""How training samples may change: the options, and the draws of zoom, shift and focus.

n boxes of an image, H and W sides of the canvas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from datamodules.batch import Sample
from datamodules.limits import require_between
from datamodules.transforms.geometry import Placement, fit, place, scaled

FOCUSED = 0.8
"""Share of tiles that show a chosen object, at any place; the rest lie anywhere, mostly on background."""


PROBABILITIES = ("flip", "vertical_flip", "tile", "mosaic", "mixup", "copy_paste")


@dataclass(frozen=True)
class Augment:
    """Random changes of training samples; probabilities are in [0, 1], and 0 switches a change off.

    Args:
        flip: probability of a flip left to right.
        vertical_flip: probability of a flip upside down; for cameras that look straight down.
        scale: smallest and largest zoom relative to the letterboxed image, drawn log-uniformly.
        translate: largest shift beyond the image's edge, as a share of its visible side, in [0, 1).
        brightness: largest relative change of brightness.
        contrast: largest relative change of contrast.
        saturation: largest relative change of saturation.
        hue: largest shift of hue, in turns of the colour circle.
        tile: probability that images come at their original scale (times the zoom), as tiled inference
            sees them, not scaled to fit; mostly around one of their objects.
        mosaic: probability that a sample is put together from four images of its batch.
        mixup: probability that a second image of the batch is blended in.
        copy_paste: probability that small objects of this image and another of the batch are pasted.
        close_mosaic: number of last epochs without mosaic, mixup and copy_paste; none of a training that only
            its time ends.
        min_visibility: an object cut to less than this share of its area becomes an ignore box.
        extra: further albumentations transforms, applied last; they must keep the size of the image, and
            move boxes and key points if they move anything, for corners of boxes travel as key points.
    """

    flip: float = 0.5
    vertical_flip: float = 0.0
    scale: tuple[float, float] = (0.7, 1.5)
    translate: float = 0.1
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.3
    hue: float = 0.015
    tile: float = 0.0
    mosaic: float = 0.5
    mixup: float = 0.0
    copy_paste: float = 0.0
    close_mosaic: int = 10
    min_visibility: float = 0.2
    extra: list[A.BasicTransform | A.BaseCompose] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: if a parameter lies outside its range, or an extra transform cannot move boxes.
        """
        for transform in _leaves(self.extra):
            for target, own in (
                ("bboxes", A.DualTransform.apply_to_bboxes),
                ("keypoints", A.DualTransform.apply_to_keypoints),
            ):
                if getattr(transform.targets.get(target), "__func__", None) is own:
                    raise ValueError(
                        f"augment.extra: {type(transform).__name__} has no method apply_to_{target}: define "
                        "it (boxes are moved with their corners as key points), or derive the class from "
                        "ImageOnlyTransform if it moves nothing"
                    )
        for name in (*PROBABILITIES, "min_visibility"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("translate", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"augment.{name} must lie in [0, 1), got {getattr(self, name)}")
        require_between("augment.hue", self.hue, 0, 1)
        require_between("augment.close_mosaic", self.close_mosaic, 0, 2**31)
        if not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise ValueError(f"augment.scale must be two numbers, 0 < smallest <= largest, got {self.scale}")

    @property
    def changes_colour(self) -> bool:
        """Whether any colour change is switched on."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))


def _leaves(transforms: Sequence[A.BasicTransform | A.BaseCompose]) -> Iterator[A.BasicTransform]:
    """The transforms within compositions."""
    for transform in transforms:
        if isinstance(transform, A.BaseCompose):
            yield from _leaves(transform.transforms)
        else:
            yield transform


def jitter(
    sample: Sample, size: tuple[int, int], augment: Augment, rng: np.random.Generator, tile: bool = False
) -> Placement:
    """Zoom and shift an image at random.

    An image larger than the canvas is cut anywhere, a smaller one lies anywhere; `translate` lets the
    edges come in, or objects go out, by that much more.

    Args:
        sample: image of any size.
        size: (H, W) of the canvas.
        augment: ranges of zoom and shift.
        rng: generator of the sample.
        tile: show the image at its original scale, see `base_scale`.
    """
    height, width = sample.image.shape[:2]
    scale = show_scale(sample, size, tile) * draw_zoom(augment, rng)
    focus = draw_focus(sample, rng) if tile else None
    corner = []
    for axis, (length, room) in enumerate(((width, size[1]), (height, size[0]))):
        slack = room - scaled(length, scale)
        visible = min(room, room - slack)
        reach = abs(slack) / 2 + min(augment.translate * visible, visible - 1)  # a pixel stays
        shift = rng.uniform(-reach, reach)
        if focus is not None:
            shift = float(np.clip(rng.uniform(0, room) - focus[axis] * scale - slack / 2, -reach, reach))
        corner.append(round(slack / 2 + shift))
    return place((height, width), scale, (0, 0, size[1], size[0]), (corner[0], corner[1]))


def base_scale(original: tuple[int, int], size: tuple[int, int], tile: bool) -> float:
    """Canvas pixels per pixel of the original at zoom 1.

    Args:
        original: (height, width) of the original image.
        size: (H, W) of the canvas.
        tile: the original's own scale, unless it just fits at a larger one; else the letterbox's.
    """
    return max(fit(original, size), 1.0) if tile else fit(original, size)


def largest_scale(original: tuple[int, int], sizes: Sequence[tuple[int, int]], augment: Augment) -> float:
    """Largest number of canvas pixels per pixel of the original in any sample.

    `augment.extra` and the copies of copy-paste, up to a quarter larger, do not count.

    Args:
        original: (height, width) of the original image.
        sizes: (H, W) of all canvases.
        augment: range of the zoom, and whether there are tiles.
    """
    return augment.scale[1] * max(base_scale(original, size, augment.tile > 0) for size in sizes)


def show_scale(sample: Sample, size: tuple[int, int], tile: bool) -> float:
    """The same per pixel of a sample's image, which may have been decoded smaller than the original."""
    # By the longer sides: the shorter one's last block, partly beyond the edge, may be much of it.
    reduction: float = max(sample.info.size) / max(sample.image.shape[:2])
    return base_scale(sample.info.size, size, tile) * reduction


def draw_focus(sample: Sample, rng: np.random.Generator) -> NDArray[np.floating] | None:
    """Centre (x, y) of a random object in pixels of the image, for most tiles of an image that has any."""
    if not len(sample.boxes) or rng.random() >= FOCUSED:
        return None
    box = sample.boxes[rng.integers(len(sample.boxes))]
    return (box[:2] + box[2:]) / 2  # type: ignore[no-any-return]


def draw_zoom(augment: Augment, rng: np.random.Generator) -> float:
    """Log-uniform zoom from `augment.scale`: as often half as double."""
    low, high = np.log(augment.scale)
    return float(np.exp(rng.uniform(low, high)))

"""Geometry and colour of samples: letterbox, jitter, flips, colour changes.

Every resampling is a `Placement`: a window of the original pixels lands on a window of the canvas, one
exact affine map per axis. Images are thus resampled once, from the original, whatever the scale.

n boxes of an image, B images of a batch, H and W sides of the canvas.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import albumentations as A
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.batch import Batch, Sample

FILL = 127
"""Grey level of the canvas where no image lies."""

SLIVER = 0.1
"""Boxes cut to a side below this, in pixels of the canvas, are gone: nothing of them can be seen."""


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
        close_mosaic: number of last epochs without mosaic, mixup and copy_paste.
        min_visibility: an object cut to less than this share of its area becomes an ignore box.
        extra: further albumentations transforms, applied last; they must keep the size of the image.
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
            ValueError: if a parameter lies outside its range.
        """
        for name in (*PROBABILITIES, "min_visibility"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("translate", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"augment.{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"augment.scale must be two numbers, 0 < smallest <= largest, got {self.scale}")

    @property
    def changes_colour(self) -> bool:
        """Whether any colour change is switched on."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))


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
        image: (h, w, 3).
        out: (H, W, 3), perhaps a part of a canvas, to be written to.
    """
    height, width = out.shape[:2]
    while (block := (_halves(image.shape[0], height), _halves(image.shape[1], width))) != (1, 1):
        half = (image.shape[1] // block[1], image.shape[0] // block[0])
        image = cv2.resize(image, half, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    if image.shape == out.shape:
        out[:] = image
    else:
        cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)


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


def letterbox(sample: Sample, size: tuple[int, int]) -> Sample:
    """Scale an image to fit the canvas, centred, and remember the way back in its `info`.

    Args:
        sample: image of any size.
        size: (H, W) of the canvas.
    """
    height, width = sample.image.shape[:2]
    scale = fit((height, width), size)
    inner = scaled(width, scale), scaled(height, scale)
    left, top = (size[1] - inner[0]) // 2, (size[0] - inner[1]) // 2
    placement = Placement((0, 0, width, height), (left, top, left + inner[0], top + inner[1]))
    placed = compose([sample], [placement], size, min_visibility=0)
    info = replace(sample.info, scale=placement.scale, padding=(float(left), float(top)))
    return replace(placed, info=info, annotations=sample.annotations)


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


def compose(
    samples: Sequence[Sample], placements: Sequence[Placement], size: tuple[int, int], min_visibility: float
) -> Sample:
    """Paint samples onto one canvas with all their boxes and ignore boxes.

    Objects of which less than `min_visibility` is left become ignore boxes; those without any visible
    part go.

    Args:
        samples: images of any size; the first gives the result its `info`.
        placements: where each of them goes.
        size: (H, W) of the canvas.
        min_visibility: share of an object's area, in [0, 1].
    """
    canvas = np.full((*size, 3), FILL, dtype=np.uint8)
    for sample, placement in zip(samples, placements, strict=True):
        placement.paste(sample.image, canvas)
    boxes, visible = move([sample.boxes for sample in samples], placements)
    keep, cut = _keep_or_ignore(visible, min_visibility)
    ignore_boxes, ignored = move([sample.ignore_boxes for sample in samples], placements)
    return Sample(
        image=canvas,
        boxes=boxes[keep],
        labels=np.concatenate([sample.labels for sample in samples])[keep],
        ignore_boxes=np.concatenate([ignore_boxes[ignored > 0], boxes[cut]]),
        info=samples[0].info,
    )


def _keep_or_ignore(
    visible: NDArray[np.floating], min_visibility: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
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


class Finish:
    """The last step of a training sample: flips, extra transforms by albumentations, and a colour draw."""

    def __init__(self, augment: Augment) -> None:
        self.augment = augment
        # min_visibility stays 0: albumentations would delete the cut boxes that must become ignore boxes.
        # The corners travel as key points, which are never clipped, and tell how large a cut box would be.
        # NoOp takes boxes and points: a chain that takes none, of colours alone, gives a warning.
        self.extra = A.Compose(
            [A.NoOp(), *augment.extra],
            bbox_params=A.BboxParams("pascal_voc"),
            keypoint_params=A.KeypointParams("xy", remove_invisible=False),
        )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Transform a sample; every random number comes from `rng`.

        Raises:
            ValueError: if an extra transform changed the size of the image.
        """
        horizontal, vertical = rng.random(2) < (self.augment.flip, self.augment.vertical_flip)
        sample = mirror(sample, bool(horizontal), bool(vertical))
        if self.augment.extra:
            sample = self._apply_extra(sample, rng)
        return replace(sample, colour=self._draw_colour(rng) if self.augment.changes_colour else None)

    def _apply_extra(self, sample: Sample, rng: np.random.Generator) -> Sample:
        # One state for the whole chain: `set_random_seed` would give each transform the same stream.
        self.extra.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        objects = len(sample.boxes)
        boxes = np.concatenate([sample.boxes, sample.ignore_boxes])
        indexed = np.column_stack([boxes, np.arange(len(boxes))]).astype(np.float32)
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
        result = self.extra(image=sample.image, bboxes=indexed, keypoints=corners)
        if result["image"].shape != sample.image.shape:
            raise ValueError(
                f"augment.extra changed the image from {sample.image.shape} to {result['image'].shape} "
                "(height, width, channels): use only transforms that keep the size"
            )
        moved = np.asarray(result["bboxes"], dtype=np.float32).reshape(-1, indexed.shape[1])
        index = moved[:, 4].astype(np.int64)
        moved = moved[:, :4]
        unclipped = np.asarray(result["keypoints"], dtype=np.float32).reshape(-1, 4, 2)
        whole = np.concatenate([unclipped.min(axis=1), unclipped.max(axis=1)], axis=1)
        visible = visible_share(moved, whole[index])
        is_object = index < objects
        keep, cut = _keep_or_ignore(visible, self.augment.min_visibility)
        return replace(
            sample,
            image=result["image"],
            boxes=moved[is_object & keep],
            labels=sample.labels[index[is_object & keep]],
            ignore_boxes=np.concatenate([moved[~is_object & (visible > 0)], moved[is_object & cut]]),
        )

    def _draw_colour(self, rng: np.random.Generator) -> NDArray[np.float32]:
        a = self.augment
        centre = np.array([1.0, 1.0, 1.0, 0.0])
        reach = np.array([a.brightness, a.contrast, a.saturation, a.hue])
        return np.asarray(rng.uniform(centre - reach, centre + reach), dtype=np.float32)


def to_float(batch: Batch) -> Batch:
    """Convert images to float32 in [0, 1] and apply the colour changes that the samples drew."""
    images = batch.images.float().div_(255)
    if batch.colour is not None:
        images = change_colour(images, batch.colour)
    return replace(batch, images=images, colour=None)


def change_colour(images: Tensor, colour: Tensor) -> Tensor:
    """Change hue, saturation, brightness and contrast of each image.

    Hue is a rotation about the grey axis, so grey pixels stay grey. Contrast is about the image's mean.

    Args:
        images: (B, 3, H, W) float RGB in [0, 1].
        colour: (B, 4) brightness, contrast and saturation factors, and hue shift in turns.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    brightness, contrast, saturation, hue = colour.to(images).unbind(1)
    eye = torch.eye(3).to(images)
    grey = torch.full((3, 3), 1 / 3).to(images)  # projection onto the grey axis
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]).to(images) / 3**0.5
    angle = (2 * torch.pi * hue)[:, None, None]
    # Rodrigues' rotation about (1, 1, 1) / sqrt 3; saturation scales its part across the axis.
    across = angle.cos() * (eye - grey) + angle.sin() * cross
    matrix = brightness[:, None, None] * (grey + saturation[:, None, None] * across)
    # All of it is one affine map of the three channels, so the pixels are passed over only once.
    flat = images.flatten(2)
    contrast = contrast[:, None, None]
    mean = (matrix @ flat.mean(dim=2, keepdim=True)).mean(dim=1, keepdim=True)
    return torch.baddbmm((1 - contrast) * mean, contrast * matrix, flat).clamp_(0, 1).view_as(images)

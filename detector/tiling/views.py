"""How an image is cut into views: tiles of one or several sizes, the whole, mirrored, at several scales.

A view is a window of the image on a canvas of the network, as training's samples are: `centre` places both.
All sizes are (height, width), all windows (x1, y1, x2, y2) whole pixels of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Integral, Real
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datamodules.images.windows import Source, Window
from datamodules.transforms.geometry import Placement, centre, resample

Merge = Literal["nmm", "nms", "wbf"]
"""How detections of one object in several views become one, see `detector.tiling.merging`."""

MERGES: tuple[Merge, ...] = ("nmm", "nms", "wbf")

LARGEST_CANVAS = 2**26
"""Number of pixels of a canvas above which it is refused: a network needs about a kilobyte for each."""

MOST_VIEWS = 10**6

OVERLAP = 0.2
"""Least share of a tile that the next one shows too, if no other is asked for."""

STRIDE = 32
"""Sides of a scaled canvas are multiples of it: that of the coarsest pyramid level."""


@dataclass(frozen=True, slots=True)
class View:
    """A window of an image, as large as fits on a canvas, centred.

    Attributes:
        window: pixels of the image.
        canvas: size of the canvas.
        flipped: whether the canvas is mirrored left to right.
    """

    window: Window
    canvas: tuple[int, int]
    flipped: bool = False

    @property
    def placement(self) -> Placement:
        """Where the window lies on the canvas, before it is mirrored."""
        return centre(self.window, self.canvas)

    def draw(self, source: Source, canvas: NDArray[np.uint8]) -> None:
        """Read the window and write it to its place on the canvas.

        Args:
            source: the image.
            canvas: (H, W, bands), its background painted.
        """
        u1, v1, u2, v2 = self.placement.target
        resample(source.read(self.window, (v2 - v1, u2 - u1)), canvas[v1:v2, u1:u2])
        if self.flipped:
            canvas[:] = canvas[:, ::-1].copy()

    def to_image(self, boxes: Tensor) -> Tensor:
        """Map boxes (n, 4) xyxy from pixels of the canvas to pixels of the image, clipped to the window."""
        if self.flipped:
            width = self.canvas[1]
            x1, y1, x2, y2 = boxes.unbind(1)
            boxes = boxes.new_empty(boxes.shape)
            boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3] = width - x2, y1, width - x1, y2
        placement = self.placement
        start, offset, scale = (
            boxes.new_tensor(pair * 2)
            for pair in (placement.source[:2], placement.target[:2], placement.scale)
        )
        low, high = (boxes.new_tensor(corner * 2) for corner in (self.window[:2], self.window[2:]))
        return ((boxes - offset) / scale + start).maximum(low).minimum(high)


@dataclass(frozen=True)
class Tiling:
    """How images are looked at, and how what is found is merged; without options as a whole, once.

    Args:
        tile: longer side of a tile, pixels of the image; its shape is that of the network's input, to which
            it is scaled. Several are levels: small tiles for small objects, large ones for large objects.
            None: no tiles.
        overlap: least share of a tile that the next one shows too, in [0, 1).
        whole: look at the whole image, beside its tiles.
        scales: size of the canvases relative to the network's input; each view is shown at each.
        flip: show each view mirrored, too.
        merge: what becomes of the detections of one object in several views: the whole one is kept, or the
            pieces united ("nmm"), the best one is kept as it is ("nms"), the whole ones are averaged ("wbf").

    Raises:
        ValueError: an option out of its range.
    """

    tile: int | Sequence[int] | None = None
    overlap: float = OVERLAP
    whole: bool = False
    scales: Sequence[float] = (1.0,)
    flip: bool = False
    merge: Merge = "nmm"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not all(isinstance(side, Integral) and not isinstance(side, bool) for side in self.sides):
            raise ValueError(f"a tile must be whole pixels, or a list of them, got {self.tile!r}")
        if not all(side >= 1 for side in self.sides):
            raise ValueError(f"a tile must be at least one pixel, got {self.tile}: say for example 640")
        if not 0 <= self.overlap < 1:
            raise ValueError(
                f"the overlap of tiles must lie in [0, 1), got {self.overlap:g}: it is a share of a tile, "
                "for example 0.2"
            )
        listed = isinstance(self.scales, Sequence) and len(self.scales) > 0
        if not listed or not all(isinstance(s, Real) and 0 < s < math.inf for s in self.scales):
            raise ValueError(f"scales must be a list of numbers above 0, got {self.scales!r}")
        if self.merge not in MERGES:
            raise ValueError(f"merge must be one of {', '.join(MERGES)}, got {self.merge!r}")

    @property
    def sides(self) -> tuple[int, ...]:
        """Longer sides of the tiles of each level."""
        if self.tile is None:
            return ()
        return tuple(self.tile) if isinstance(self.tile, Sequence) else (self.tile,)

    @property
    def plain(self) -> bool:
        """Whether each image is looked at once, as a whole."""
        return not self.sides and not self.flip and tuple(self.scales) == (1.0,)

    @property
    def label(self) -> str:
        """What is looked at in a few words, such as "tiles 640 whole flip"."""
        tiles = ["tiles", *map(str, self.sides)] if self.sides else []
        if tiles and self.overlap != OVERLAP:
            tiles += ["overlap", f"{self.overlap:g}"]
        scales = [] if tuple(self.scales) == (1.0,) else ["scales", *(f"{scale:g}" for scale in self.scales)]
        merge = [self.merge] if self.merge != "nmm" else []
        return " ".join([*tiles, *(["whole"] * self.whole), *scales, *(["flip"] * self.flip), *merge])

    def views(self, size: tuple[int, int], canvas: tuple[int, int]) -> list[View]:
        """All views of an image, those of one canvas after the other, row by row.

        An image that one tile holds is one view, the whole.

        Args:
            size: of the image.
            canvas: of the network's input.

        Raises:
            ValueError: more views than could ever be looked at, or a canvas that does not fit in memory.
        """
        shapes = [tile_shape(side, canvas) for side in self.sides]
        rows = [[starts(*axis, self.overlap) for axis in zip(size, shape, strict=True)] for shape in shapes]
        if (count := sum(len(ys) * len(xs) for ys, xs in rows)) > MOST_VIEWS:
            raise ValueError(
                f"tiles of {self.tile} px with an overlap of {self.overlap:g} are {count} for an image of "
                f"{size[1]}x{size[0]} px: use larger tiles or less overlap"
            )
        everything = (0, 0, size[1], size[0])
        windows = [
            (x, y, min(x + width, size[1]), min(y + height, size[0]))
            for (height, width), (ys, xs) in zip(shapes, rows, strict=True)
            for y, x in product(ys, xs)
        ]
        if self.whole or not windows:
            windows.append(everything)
        canvases = [scaled_canvas(canvas, scale) for scale in self.scales]
        flips = (False, True) if self.flip else (False,)
        every = product(dict.fromkeys(canvases), dict.fromkeys(windows), flips)
        return [View(window, canvas, flipped) for canvas, window, flipped in every]


def tile_shape(side: int, canvas: tuple[int, int]) -> tuple[int, int]:
    """Size of a tile whose longer side is given, in the shape of the canvas."""
    scale = side / max(canvas)
    return max(round(canvas[0] * scale), 1), max(round(canvas[1] * scale), 1)


def starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along an axis: the fewest that leave nothing out, evenly spread.

    Args:
        length: of the image, pixels.
        tile: of a tile, pixels.
        overlap: least share of a tile that the next one shows too, up to rounding.
    """
    if length <= tile:
        return [0]
    steps = min(math.ceil((length - tile) / (tile * (1 - overlap))), length - tile)
    return [round(i * (length - tile) / steps) for i in range(steps + 1)]


def scaled_canvas(canvas: tuple[int, int], scale: float) -> tuple[int, int]:
    """A canvas at another scale, its sides multiples of the largest stride.

    Raises:
        ValueError: it would not fit in memory.
    """
    if scale == 1:
        return canvas
    height, width = (max(round(side * scale / STRIDE), 2) * STRIDE for side in canvas)
    if height * width > LARGEST_CANVAS:
        raise ValueError(
            f"a scale of {scale:g} makes a canvas of {width}x{height} px, which does not fit in memory: use "
            "a smaller scale, or smaller tiles, which enlarge what they show"
        )
    return height, width

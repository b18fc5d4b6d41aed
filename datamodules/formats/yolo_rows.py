"""What the numbers of a YOLO row mean: a box, a polygon, or a box and its key points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from datamodules.problems import Box, DataError, Problems

TOLERANCE = 0.01
"""How far beyond the image a share may lie: tools round."""

CORNERS, ENOUGH = 8, 10
"""Numbers of four corners, which a box and two key points look like, and of rows that tell these apart."""

REACH = 0.1
"""Share of a box's side that its key points may lie beyond it."""


def pixels(values: Sequence[float], size: tuple[int, int]) -> Box:
    """(x, y, w, h) in pixels of a row's shares.

    Args:
        values: a box's (cx, cy, w, h), or the corners (x, y, x, y, ...) of a polygon of three or more.
        size: (height, width) of the image.

    Raises:
        ValueError: if they are neither.
    """
    if len(values) == 5:
        raise ValueError("it has 5 numbers after the class: without a confidence or an angle it would have 4")
    points = ", or is data.yaml without kpt_shape?" if len(values) > 5 else ""
    if not all(-TOLERANCE <= value <= 1 + TOLERANCE for value in values):
        numbers = " ".join(f"{value:g}" for value in values[:8])
        raise ValueError(f"its numbers are not all in 0..1: {numbers}{points}")
    if len(values) == 4:
        cx, cy, w, h = values
        left, top = cx - w / 2, cy - h / 2
    elif len(values) >= 6 and len(values) % 2 == 0:
        left, top = min(values[::2]), min(values[1::2])
        w, h = max(values[::2]) - left, max(values[1::2]) - top
    else:
        raise ValueError(f"it has {len(values)} numbers after the class{points}")
    height, width = size
    return left * width, top * height, w * width, h * height


class ClassNumbers:
    """The class numbers of a split, and the rows of those without a name.

    These become problems at the end of the split, when it can be told whether its classes count from 1.

    Args:
        source: file of the names.
        count: number of names; they count from 0.
    """

    def __init__(self, source: Path | str, count: int) -> None:
        self.source, self.count = source, count
        self.seen: set[int] = set()
        self.unknown: list[tuple[str, int, Path]] = []

    def known(self, number: int, place: str, image: Path) -> bool:
        """Whether a row's class has a name.

        Args:
            number: the class.
            place: file and row.
            image: that the row belongs to.
        """
        self.seen.add(number)
        if 0 <= number < self.count:
            return True
        self.unknown.append((place, number, image))
        return False

    def judge(self, remedy: str, problems: Problems) -> None:
        """Make the rows without a name problems of their images."""
        fit = min(self.seen, default=0) > 0 and max(self.seen) == self.count
        hint = f": classes seem to count from 1 to {self.count}, but the first is 0" if fit else ""
        for place, number, image in self.unknown:
            with problems.of_row(place, remedy, image):
                raise ValueError(f"class {number} is not among the names of {self.source}{hint}")


class PoseSuspicion:
    """Tells whether rows of a split that are read as polygons are boxes with key points.

    They are if all have as many numbers, all would make a box within the image that holds its key points, and
    most would make odd polygons.
    """

    def __init__(self) -> None:
        self.rows, self.odd, self.first = 0, 0, ""
        self.length = self.dimensions = 0
        self.possible = True

    def see(self, values: Sequence[float], place: str) -> None:
        """Look at a row that is no box.

        Args:
            values: its numbers after the class.
            place: its file and row.
        """
        if not self.possible or len(values) < 6:
            return
        self.first = self.first or place
        dimensions = _dimensions(values)
        self.possible = dimensions > 0 and self.length in (0, len(values))
        self.rows += 1
        self.length = len(values)
        self.dimensions = max(self.dimensions, dimensions)
        self.odd += _odd(values, dimensions)

    def judge(self, source: str) -> None:
        """Refuse the rows if they are poses.

        Raises:
            DataError: if so; it says how to declare them, or that they are polygons.
        """
        few = self.length == CORNERS and self.rows < ENOUGH
        if self.rows and self.possible and not few and 2 * self.odd >= self.rows:
            points = (self.length - 4) // self.dimensions
            raise DataError(
                f"{source}: the rows seem to be boxes with key points, not polygons (the first is "
                f"{self.first}): write kpt_shape: [{points}, {self.dimensions}] into data.yaml, or "
                "kpt_shape: null if they are polygons"
            )


def _odd(values: Sequence[float], dimensions: int) -> bool:
    """Whether a row that can be a box with key points would make an odd polygon."""
    if dimensions == 3 or len(values) < CORNERS:
        return True
    first, second, *others = zip(values[::2], values[1::2], strict=True)
    if len(values) == CORNERS:
        return any(
            not min(axis) <= value <= max(axis)
            for value, axis in zip(second, zip(first, *others, strict=True), strict=True)
        )
    # A box's centre lies among its key points, but a polygon's corner hardly ever within the others' hull.
    hull = cv2.convexHull(np.array(others, dtype=np.float32))
    extent = float(np.ptp(hull, axis=0).max())
    if cv2.contourArea(hull) < 1e-6:
        return True
    return cv2.pointPolygonTest(hull, first, True) > 0.02 * extent


def _dimensions(values: Sequence[float]) -> int:
    """Numbers a key point, 2 or with its visibility 3, if a row can be a box with such points; else 0."""
    cx, cy, w, h, *rest = values
    if not all(
        -TOLERANCE <= edge <= 1 + TOLERANCE for edge in (cx - w / 2, cx + w / 2, cy - h / 2, cy + h / 2)
    ):
        return 0
    for count in (3, 2):
        if len(rest) % count or (count == 3 and not set(rest[2::3]) <= {0, 1, 2}):
            continue
        # A point at (0, 0) is one that is not seen.
        points = [point for point in zip(rest[::count], rest[1::count], strict=True) if any(point)]
        reach = 0.5 + REACH
        if all(abs(x - cx) <= reach * w and abs(y - cy) <= reach * h for x, y in points):
            return count
    return 0

"""Rows of annotation files on their way to an image's `Annotations`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.batch import ANY_CLASS, Annotations, ImageInfo

LARGEST = 1e12
"""Coordinates and areas from here on are mistakes; they would overflow float32 arithmetic."""


SMALLEST = 0.01
"""A box whose side inside the image is below this many pixels has no size."""


class ObjectList:
    """Gathers the rows of one image, as a reader finds them, into its `Annotations`.

    Args:
        info: the image.

    Attributes:
        vanished: number of boxes left out, because they have no size or lie wholly outside the image.
    """

    def __init__(self, info: ImageInfo) -> None:
        self.info = info
        self.vanished = 0
        self._objects: list[tuple[float, ...]] = []
        self._ignored: list[tuple[float, ...]] = []

    def add(
        self,
        box: tuple[float, float, float, float],
        label: int,
        area: float | None = None,
        ignore: bool = False,
    ) -> None:
        """Add a row.

        Args:
            box: (x, y, width, height) pixels of the original image.
            label: class index; `ANY_CLASS` makes an ignore box of every class.
            area: area of the object, where it is known better than by its box.
            ignore: whether the row is an ignore box of its class.

        Raises:
            ValueError: if a number is not finite, or far too large for pixels.
        """
        x, y, w, h = box
        row = (x, y, x + w, y + h, w * h if area is None else area, label)
        if not all(abs(value) < LARGEST for value in row):
            raise ValueError(f"box {list(box)} with area {row[4]} is not in pixels")
        height, width = self.info.size
        if min(w, h, min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)) < SMALLEST:
            self.vanished += 1
        elif ignore or label == ANY_CLASS:
            self._ignored.append(row)
        else:
            self._objects.append(row)

    def annotations(self) -> Annotations:
        """All rows as arrays, in the order they came."""
        found = np.array(self._objects, dtype=np.float64).reshape(-1, 6)
        ignored = np.array(self._ignored, dtype=np.float64).reshape(-1, 6)
        return Annotations(
            boxes=found[:, :4].astype(np.float32),
            labels=found[:, 5].astype(np.int64),
            areas=found[:, 4].astype(np.float32),
            ignore_boxes=ignored[:, :4].astype(np.float32),
            ignore_labels=ignored[:, 5].astype(np.int64),
        )


def text_rows(path: Path, encoding: str = "utf-8") -> list[tuple[str, str]]:
    """Rows of a text file that are not blank, each after its place: "FILE, line N".

    Raises:
        OSError: if the file cannot be read.
        UnicodeDecodeError: if it is not text.
    """
    rows = path.read_text(encoding).splitlines()
    return [(f"{path}, line {number}", row) for number, row in enumerate(rows, start=1) if row.strip()]

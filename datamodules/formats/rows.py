"""Rows of annotation files on their way to an image's `Annotations`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.batch import ANY_CLASS, Annotations, ImageInfo
from datamodules.files import printable, read_text
from datamodules.images.headers import Header
from datamodules.images.orientation import UPRIGHT, turn_box
from datamodules.problems import Box, Row
from datamodules.records import Record

LARGEST = 1e12
"""Coordinates and areas from here on are mistakes; they would overflow float32 arithmetic."""

SMALLEST = 0.01
"""A box whose side inside the image is below this many pixels has no size."""


class ImageRows:
    """An image and its rows, as a reader finds them.

    Args:
        path: where the image file lies.
        image_id: its id in the data set.
        file_name: its path as the annotations name it.
        header: what its file says.
        frame: orientation of the frame that the rows are in, see `annotated_turn`.

    Attributes:
        rows: what `add` took, in the displayed image.
    """

    def __init__(
        self, path: Path, image_id: int, file_name: str, header: Header, frame: int = UPRIGHT
    ) -> None:
        self.path, self.header, self.frame = path, header, frame
        self.info = ImageInfo(image_id, printable(file_name), header.size)
        self.rows: list[Row] = []

    def add(self, place: str, box: Box, label: int, area: float | None = None, ignore: bool = False) -> None:
        """Add a row.

        Args:
            place: its file and row.
            box: (x, y, width, height) pixels of the frame that the rows are in.
            label: class index; `ANY_CLASS` makes an ignore box of every class.
            area: area of the object, where it is known better than by its box.
            ignore: whether the row is an ignore box of its class.

        Raises:
            ValueError: if a number is far too large for pixels, or an area is negative.
        """
        x, y, w, h = box
        area = w * h if area is None else area
        if max(map(abs, (x, y, x + w, y + h, area))) >= LARGEST:
            raise ValueError(f"box {list(box)} with area {area} is not in pixels")
        if self.frame != UPRIGHT:
            box = turn_box(box, self.frame, self.info.size)
        self.rows.append(Row(place, box, label, ignore or label == ANY_CLASS, area))

    def sees(self, box: Box) -> bool:
        """Whether a box (x, y, width, height) has a size inside the image."""
        x, y, w, h = box
        height, width = self.info.size
        return min(w, h, min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)) >= SMALLEST

    def record(self) -> tuple[Record, int]:
        """The image with its rows as arrays in their order, and how many it has no part of."""
        kept = [row for row in self.rows if self.sees(row.box)]
        objects, ignored = ([row for row in kept if row.ignore == wanted] for wanted in (False, True))
        annotations = Annotations(
            boxes=_corners(objects),
            labels=np.array([row.label for row in objects], dtype=np.int64),
            areas=np.array([row.area for row in objects], dtype=np.float32),
            ignore_boxes=_corners(ignored),
            ignore_labels=np.array([row.label for row in ignored], dtype=np.int64),
        )
        return Record(str(self.path), self.info, annotations, self.header.turn, self.header.bands), len(
            self.rows
        ) - len(kept)


def _corners(rows: list[Row]) -> np.ndarray:
    boxes = np.array([row.box for row in rows], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes.astype(np.float32)


def text_rows(path: Path) -> list[tuple[str, str]]:
    """Rows of a text file that are not blank, each after its place: "FILE, line N".

    Raises:
        OSError: if the file cannot be read.
        UnicodeDecodeError: if it is not text.
    """
    rows = read_text(path).splitlines()
    return [(f"{path}, line {number}", row) for number, row in enumerate(rows, start=1) if row.strip()]

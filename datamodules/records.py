"""What a reader finds: images with their annotations, and the errors of a user's data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from datamodules.batch import ANY_CLASS, Annotations, ImageInfo

Split = Literal["train", "val", "test"]


class DataError(ValueError):
    """A mistake in the user's data or paths: one message with the file and the remedy.

    A `DataLoader` raises a worker's exception again with the worker's whole traceback as its message;
    of that, only the message itself is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition("DataError: ")[2].strip())


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a data set, not yet read.

    Attributes:
        path: where the image file lies.
        info: image id, file name and size.
        annotations: its objects and ignore regions.
    """

    path: str
    info: ImageInfo
    annotations: Annotations


@dataclass(frozen=True, slots=True)
class Records:
    """A data set split, as its reader found it.

    Attributes:
        class_names: name of each class index.
        category_ids: id that the data set gives each class index; for writing predictions.
        images: the images, ascending by image id.
    """

    class_names: list[str]
    category_ids: list[int]
    images: list[Record]


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


OnError = Literal["raise", "skip"]


class Problems:
    """What is wrong with the images of a split, each with its file and row.

    Args:
        on_error: "raise" stops at the first; "skip" gathers them, and their images are left out.

    Attributes:
        found: message of each problem, in the order they came.
    """

    def __init__(self, on_error: OnError = "raise") -> None:
        self.on_error = on_error
        self.found: list[str] = []

    def add(self, message: str) -> None:
        """Note a problem.

        Args:
            message: file, row and remedy.

        Raises:
            DataError: under "raise".
        """
        if self.on_error == "raise":
            raise DataError(message)
        self.found.append(message)


Reader = Callable[[Sequence[str]], Records]
"""Reads one split, given the class names that set the order of the class indices."""

"""What a reader finds: images with their annotations, and the errors of a user's data."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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

    def draw(self, fraction: float, seed: int) -> Records:
        """A share of the images, at least one, in their order; a larger share contains a smaller one.

        Args:
            fraction: share in (0, 1].
            seed: which images are drawn.
        """
        order = list(range(len(self.images)))
        random.Random(f"fraction/{seed}").shuffle(order)
        drawn = sorted(order[: max(round(fraction * len(order)), 1)])
        return replace(self, images=[self.images[i] for i in drawn])


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


OnError = Literal["raise", "skip"]

MESSAGES = 5
"""Number of problems that a summary shows."""


class Problems:
    """What is wrong with single images of a split, each with its file and row.

    What is wrong with a split as a whole is no matter of these: its reader raises a `DataError`.

    Args:
        on_error: "raise" stops at the first; "skip" gathers them, and their images are left out as a whole,
            so that no unlabelled object is trained as background.

    Attributes:
        found: message of each problem, in the order they came.
        images: path of each image that has one.
    """

    def __init__(self, on_error: OnError = "raise") -> None:
        self.on_error = on_error
        self.found: list[str] = []
        self.images: set[str] = set()

    def add(self, message: str, image: str | None = None) -> None:
        """Note a problem.

        Args:
            message: file, row and remedy.
            image: path of the image that it belongs to; None for a row that belongs to no image of the split
                and is left out alone.

        Raises:
            DataError: under "raise".
        """
        if self.on_error == "raise":
            raise DataError(message)
        self.found.append(message)
        if image is not None:
            self.images.add(image)

    def row(
        self,
        place: str,
        image: str,
        info: ImageInfo,
        box: tuple[float, float, float, float],
        label: int,
        ignore: bool = False,
    ) -> None:
        """Take notice of a row that can be read; readers tell of each one, and the doctor keeps them.

        Args:
            place: its file and row.
            image: path of its image.
            info: that image.
            box: (x, y, width, height) pixels of the original image, unchanged.
            label: class index, `ANY_CLASS` for an ignore box of every class.
            ignore: whether the row is an ignore box of its class.
        """

    def sift(self, images: Sequence[Record]) -> list[Record]:
        """The images without a problem.

        Raises:
            DataError: if all of them have one.
        """
        kept = [record for record in images if record.path not in self.images]
        if not kept:
            raise DataError(f"every image has a problem, so none is left; the first of them: {self.found[0]}")
        return kept

    def summary(self, kept: int) -> str:
        """All problems in one message.

        Args:
            kept: number of images without a problem.
        """
        shown = [f"\n  {message}" for message in self.found[:MESSAGES]]
        if more := len(self.found) - len(shown):
            shown.append(f"\n  and {more} more")
        out = len(self.images)
        return f"{out} of {kept + out} images are left out (data.on_error is skip):{''.join(shown)}"


Reader = Callable[[Sequence[str], Problems], Records]
"""Reads one split, given the class names that set the order of the class indices."""

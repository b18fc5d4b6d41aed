"""What is wrong with the user's data, gathered image by image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from datamodules.batch import ImageInfo
from datamodules.records import Record


class DataError(ValueError):
    """A mistake in the user's data or paths: one message with the file and the remedy.

    A `DataLoader` raises a worker's exception again with the worker's whole traceback as its message;
    of that, only the message itself is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition("DataError: ")[2].strip())


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

"""What is wrong with the user's data, gathered image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datamodules.batch import ImageInfo
from datamodules.files import printable, reason
from datamodules.records import Record, Records

Box = tuple[float, float, float, float]


class DataError(ValueError):
    """A mistake in the user's data or paths: one message with the file and the remedy.

    A `DataLoader` raises a worker's exception again with the worker's whole traceback as its message;
    of that, only the message itself is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message.rpartition("DataError: ")[2].strip()))


class RowsWarning(UserWarning):
    """Sums up what is wrong with single rows, each of which the doctor names by itself."""


class PixelsWarning(UserWarning):
    """Sums up what single images hold, each of which the doctor names by itself where it decodes them."""


OnError = Literal["raise", "skip"]


MESSAGES = 5
"""Number of problems that a summary shows."""

NEARLY_ALL = 0.9
"""A larger share of images or rows with a problem is a mistake of the whole split."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the annotations.

    Attributes:
        place: its file and row.
        box: (x, y, width, height) pixels of the displayed image, not clipped to it.
        label: class index; `ANY_CLASS` for an ignore box of every class.
        ignore: whether it is an ignore box.
        area: of the object, square pixels.
    """

    place: str
    box: Box
    label: int
    ignore: bool
    area: float


class Problems:
    """What is wrong with single images of a split, each with its file and row.

    What is wrong with a split as a whole is no matter of these: its reader raises a `DataError`.

    Args:
        on_error: "raise" stops at the first; "skip" gathers them, and their images are left out as a whole,
            so that no unlabelled object is trained as background.

    Attributes:
        found: message of each problem, in the order they came.
        images: path of each image that has one.
        rows: each image, by its path, and all of its rows that could be read.
        malformed_rows: number of the others.
    """

    def __init__(self, on_error: OnError = "raise") -> None:
        self.on_error = on_error
        self.found: list[str] = []
        self.images: set[str] = set()
        self.rows: dict[str, tuple[ImageInfo, list[Row]]] = {}
        self.malformed_rows = 0

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
        self.found.append(printable(message))
        if image is not None:
            self.images.add(image)

    def of_row(self, place: str, remedy: str, image: Path | str | None = None) -> Attempt:
        """A context that reads a row: a value that is wrong is a problem of its image.

        Args:
            place: its file and row.
            remedy: what to do about it.
            image: see `add`.
        """
        return Attempt(
            self, f"{place} is malformed", remedy, None if image is None else str(image), ValueError
        )

    def of_file(self, file: Path, remedy: str, image: Path) -> Attempt:
        """A context that reads a file: one that is missing or malformed is a problem of its image."""
        return Attempt(self, f"{file} cannot be read", remedy, str(image), (OSError, ValueError))

    def without_problems(self, images: Sequence[Record]) -> list[Record]:
        """The images without a problem.

        Raises:
            DataError: if nearly all images, or images with nearly all rows, have one: what is left would
                train and be scored without a word.
        """
        kept = [record for record in images if record.path not in self.images]
        if not self.found:
            return kept
        first = f"the first of them: {self.found[0]}"
        if not kept:
            raise DataError(f"every image has a problem, so none is left; {first}")
        dropped = len(self.images) / (len(kept) + len(self.images))
        if dropped > NEARLY_ALL:
            raise DataError(f"{dropped:.0%} of the images have a problem, so hardly any is left; {first}")
        rows, out = self._rows()
        if out > NEARLY_ALL * rows:
            raise DataError(f"{out} of {rows} rows are malformed or of images with a problem; {first}")
        return kept

    def _rows(self) -> tuple[int, int]:
        """Number of rows, and of those that are malformed or of images with a problem."""
        counts = {path: len(rows) for path, (_, rows) in self.rows.items()}
        out = sum(count for path, count in counts.items() if path in self.images)
        return sum(counts.values()) + self.malformed_rows, out + self.malformed_rows

    def summary(self, kept: int) -> str:
        """All problems in one message.

        Args:
            kept: number of images without a problem.
        """
        shown = [f"\n  {message}" for message in self.found[:MESSAGES]]
        if more := len(self.found) - len(shown):
            shown.append(f"\n  and {more} more")
        images, (rows, out) = len(self.images), self._rows()
        of_rows = f" and {out} of {rows} rows ({out / rows:.0%})" if out else ""
        dropped = f"{images} of {kept + images} images{of_rows}"
        return f"{dropped} are left out (data.on_error is skip):{''.join(shown)}"


class Attempt:
    """A context in which an error becomes a problem that names image, file and row; see `Problems`.

    Attributes:
        image: path of the image concerned, which may become known within.
    """

    def __init__(
        self, problems: Problems, what: str, remedy: str, image: str | None, errors: type | tuple[type, ...]
    ) -> None:
        self.problems, self.what, self.remedy, self.image, self.errors = problems, what, remedy, image, errors

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, self.errors) or isinstance(error, DataError):
            return False
        self.problems.malformed_rows += self.errors is ValueError
        self.problems.add(f"{self.what} ({reason(error)}): {self.remedy}", self.image)
        return True


Reader = Callable[[Sequence[str], Problems], Records]
"""Reads one split, given the class names that set the order of the class indices."""

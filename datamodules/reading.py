"""Image files to pixels, no larger than they are ever shown.

k, the reduction of an image: its decoded pixels stand for blocks of k x k of the original.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.records import DataError, Record

REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""Flags of cv2 by reduction. libjpeg knows all eighths, but takes longer for 3, 5, 6 and 7 than for 8."""

JPEG = b"\xff\xd8\xff"
"""First bytes of a JPEG file."""


@dataclass(frozen=True)
class Reading:
    """How training images become pixels.

    Images that no sample shows at more than a half, a quarter or an eighth of their size, by image_size,
    the canvases of sampling and the zoom of augment, are made that much smaller at once; with tiles none is.

    Args:
        reduced_decode: decode JPEGs at the smaller size, not at full size and then average blocks of pixels;
            faster, and as good.
        cache: keep the decoded images, from before the first epoch on: in the shared memory of the machine
            ("ram", Linux), once for all its processes, or in a file ("disk"), also for later runs.
        gigabytes: largest size of the cache; images beyond it are decoded each time.
        folder: where the file is made.
    """

    reduced_decode: bool = True
    cache: Literal["ram", "disk"] | None = None
    gigabytes: float = 16.0
    folder: Path = Path("data/cache")

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: if the cache has no size.
        """
        if self.gigabytes <= 0:
            raise ValueError(f"reading.gigabytes must be above 0, got {self.gigabytes}")


class Stored(Protocol):
    """Decoded images that are kept somewhere."""

    def get(self, index: int) -> NDArray[np.uint8] | None:
        """An image, not to be written to, or None if it is not kept."""


class Images:
    """The images of a split as pixels, by index.

    Args:
        records: the images.
        reductions: k of each image; 1 for all if not given.
        reduced_decode: see `Reading`.
        stored: where to look before decoding.
    """

    def __init__(
        self,
        records: Sequence[Record],
        reductions: Sequence[int] | None = None,
        reduced_decode: bool = True,
        stored: Stored | None = None,
    ) -> None:
        self.records, self.reductions = records, reductions or [1] * len(records)
        self.reduced_decode, self.stored = reduced_decode, stored

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """An image (h, w, 3) uint8 RGB, at its reduction; see `read_image`."""
        image = self.stored.get(index) if self.stored else None
        return self.decode(index) if image is None else image

    def decode(self, index: int) -> NDArray[np.uint8]:
        """The same from its file."""
        return read_image(self.records[index], self.reductions[index], self.reduced_decode)

    def shape(self, index: int) -> tuple[int, int, int]:
        """Shape of the image, without reading it."""
        return (*reduced_size(self.records[index].info.size, self.reductions[index]), 3)


def reduction(scale: float) -> int:
    """Largest k of 1, 2, 4 and 8 at which an image still has all pixels that are shown.

    Args:
        scale: largest scale at which the image is shown, in pixels per pixel of the original.
    """
    return max(k for k in REDUCED if k == 1 or k * scale <= 1 + 1e-6)


def reduced_size(size: tuple[int, int], k: int) -> tuple[int, int]:
    """(height, width) after a reduction: a last block may lie partly beyond the edge, as in libjpeg."""
    return -(-size[0] // k), -(-size[1] // k)


def read_image(record: Record, k: int = 1, reduced_decode: bool = True) -> NDArray[np.uint8]:
    """Decode an image: (h, w, 3) uint8 RGB, as stored (an EXIF rotation is not applied).

    A point (x, y) of the original lies at exactly (x / k, y / k), whether or not k divides the sides.

    Args:
        record: the image.
        k: reduction, 1, 2, 4 or 8.
        reduced_decode: let libjpeg compute the pixels of a JPEG at the smaller size from its cosine
            coefficients, not average the full ones.

    Raises:
        DataError: if the file cannot be read or has another size than its record.
    """
    try:
        data = np.fromfile(record.path, dtype=np.uint8)
    except OSError:
        data = np.empty(0, dtype=np.uint8)
    # cv2 reduces other formats after decoding, by another rule for odd sides.
    by_decoder = reduced_decode and data[:3].tobytes() == JPEG
    decoded = k if by_decoder else 1
    image = cv2.imdecode(data, REDUCED[decoded] | cv2.IMREAD_IGNORE_ORIENTATION) if len(data) else None
    if image is None:
        problem = "is not a readable image" if os.path.exists(record.path) else "does not exist"
        raise DataError(f"{record.path} {problem}: restore the file or remove it from the annotations")
    if image.shape[:2] != reduced_size(record.info.size, decoded):
        raise DataError(
            f"{record.path} is {image.shape[1] * decoded}x{image.shape[0] * decoded} pixels, but its "
            f"annotations say {record.info.size[1]}x{record.info.size[0]}: correct the width and height there"
        )
    if decoded < k:
        image = _average_blocks(image, k)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)  # type: ignore[return-value]


def _average_blocks(image: cv2.typing.MatLike, k: int) -> cv2.typing.MatLike:
    height, width = image.shape[:2]
    h, w = reduced_size((height, width), k)
    if (h * k, w * k) != (height, width):
        border = cv2.BORDER_REPLICATE
        image = cv2.copyMakeBorder(image, 0, h * k - height, 0, w * k - width, border)
    return cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)

"""Image files to pixels, no larger than they are ever shown.

k, the reduction of an image: its decoded pixels stand for blocks of k x k of the original.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from datamodules.drawing import as_rgb
from datamodules.images.headers import ARRAY, SIXTEEN_BITS, read_header
from datamodules.images.orientation import UPRIGHT, displayed_size, turn_image
from datamodules.problems import DataError
from datamodules.records import Record, Records

# Errors alone: each tag of a GeoTIFF is one that OpenCV does not know.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

REDUCTIONS = (1, 2, 4, 8)
"""Choices of k. libjpeg knows all eighths, but takes longer for 3, 5, 6 and 7 than for 8."""

JPEG = b"\xff\xd8\xff"
"""First bytes of a JPEG file."""

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF file, small and large."""

EXTRA_SAMPLES, MULTIPLIED = 338, (1,)
"""TIFF's tag of what a fourth channel is, and its value where the colours are multiplied by it already."""


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
        if not self.gigabytes > 0:
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
        """An image (h, w, bands) uint8, RGB if three, at its reduction; see `read_image`."""
        image = self.stored.get(index) if self.stored else None
        return self.decode(index) if image is None else image

    def decode(self, index: int) -> NDArray[np.uint8]:
        """The same from its file."""
        return read_image(self.records[index], self.reductions[index], self.reduced_decode)

    def shape(self, index: int) -> tuple[int, int, int]:
        """Shape of the image, without reading it."""
        return (
            *reduced_size(self.records[index].info.size, self.reductions[index]),
            self.records[index].bands,
        )


def reduction(scale: float) -> int:
    """Largest k of 1, 2, 4 and 8 at which an image still has all pixels that are shown.

    Args:
        scale: largest scale at which the image is shown, in pixels per pixel of the original.
    """
    return max(k for k in REDUCTIONS if k == 1 or k * scale <= 1 + 1e-6)


def reduced_size(size: tuple[int, int], k: int) -> tuple[int, int]:
    """(height, width) after a reduction: a last block may lie partly beyond the edge, as in libjpeg."""
    return -(-size[0] // k), -(-size[1] // k)


def read_image(record: Record, k: int = 1, reduced_decode: bool = True) -> NDArray[np.uint8]:
    """Decode an image: (h, w, bands) uint8, RGB if three, as displayed (turned as EXIF says).

    A point (x, y) of the original lies at exactly (x / k, y / k), whether or not k divides the sides.

    Args:
        record: the image.
        k: reduction, 1, 2, 4 or 8.
        reduced_decode: let libjpeg compute the pixels of a JPEG at the smaller size from its cosine
            coefficients, not average the full ones.

    Raises:
        DataError: if the file cannot be read or has another size than its record.
    """
    return _read(record.path, record.info.size, record.turn, record.bands, k, reduced_decode)


def read_image_file(path: str, bands: int | None = 3) -> NDArray[np.uint8]:
    """Decode an image that no data set lists: (h, w, bands) uint8, RGB if three, as displayed.

    Args:
        path: the file.
        bands: channels that are wanted; None for all of an array, and colours of all else.

    Raises:
        DataError: if the file cannot be read rightly, or has others.
    """
    header, array = read_header(Path(path)), path.lower().endswith(ARRAY)
    if header.sixteen_bits:  # said once, as it names no file
        warnings.warn(f"an image {SIXTEEN_BITS}", stacklevel=2)
    bands = bands or (header.bands if array else 3)
    # What a TIFF has beyond colour is dropped where it is not wanted; an array does not say what that is.
    if header.bands != bands and (bands != 3 or array):
        raise DataError(f"{path} has {header.bands} channels, and {bands} are wanted: convert it")
    return _read(path, header.size, header.turn, bands)


def _read(
    path: str, displayed: tuple[int, int], turn: int, bands: int = 3, k: int = 1, reduced_decode: bool = True
) -> NDArray[np.uint8]:
    stored = displayed_size(displayed, turn)
    # A last block partly beyond the edge would come first in an image that is turned.
    whole_blocks = turn == UPRIGHT or reduced_size(stored, k) == (stored[0] / k, stored[1] / k)
    try:
        data = Path(path).read_bytes()
        if bands == 3 and not path.lower().endswith(ARRAY):
            size, image = _decode(data, stored, k, reduced_decode and whole_blocks)
        else:
            size, image = _decode_bands(data, path, bands)
    except (OSError, SyntaxError, ValueError, cv2.error):
        problem = "is not a readable image" if os.path.exists(path) else "does not exist"
        message = f"{path} {problem}: restore the file or remove it from the annotations"
        raise DataError(message) from None
    if size != stored:
        raise DataError(
            f"{path} is {size[1]}x{size[0]} pixels, but was {stored[1]}x{stored[0]} when the data set "
            "was set up: start again"
        )
    image = turn_image(image, turn)
    return image if image.shape[:2] == reduced_size(displayed, k) else _average_blocks(image, k)


def _decode(
    data: bytes, expected: tuple[int, int], k: int, reduced_decode: bool
) -> tuple[tuple[int, int], NDArray[np.uint8]]:
    """The size (height, width) of an image, and if it is as expected its pixels, perhaps reduced already.

    Raises:
        cv2.error: if it is none.
    """
    if data.startswith(JPEG):
        try:
            size = simplejpeg.decode_jpeg_header(data)[:2]
            if size != expected:
                return size, np.empty((0, 0, 3), dtype=np.uint8)
            height, width = reduced_size(size, k) if reduced_decode and k > 1 else (0, 0)  # 0: full size
            # Averaged over blocks, colours repeated for their pixels are as good as interpolated ones.
            averaged = k > 1 and not reduced_decode
            return size, simplejpeg.decode_jpeg(
                data, min_height=height, min_width=width, fastupsample=averaged
            )
        except ValueError:
            pass  # a rare kind, or damaged: OpenCV's to judge
    if data.startswith(TIFF) and (coloured := _without_fourth(data)) is not None:
        return coloured.shape[:2], coloured
    # IMREAD_COLOR_RGB would swap the colours of some formats.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise cv2.error("not an image")
    return image.shape[:2], cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)  # type: ignore[return-value]


def _without_fourth(data: bytes) -> NDArray[np.uint8] | None:
    """Colours of a TIFF with a fourth channel beside them, often near infrared; None for all others.

    cv2 would multiply the colours by it, as by transparency.

    Raises:
        OSError, SyntaxError: it cannot be decoded.
    """
    try:
        file = Image.open(io.BytesIO(data))
    except OSError:  # Pillow does not know all kinds
        return None
    with file:
        beside = file.mode == "RGBA" and file.tag_v2.get(EXTRA_SAMPLES) != MULTIPLIED  # type: ignore[attr-defined]
        return np.ascontiguousarray(np.asarray(file)[..., :3]) if beside else None


def _decode_bands(data: bytes, path: str, bands: int) -> tuple[tuple[int, int], NDArray[np.uint8]]:
    """The size (height, width) and all channels of an array, of a TIFF, or of its pages.

    Raises:
        OSError, ValueError: if it is none.
    """
    if path.lower().endswith(ARRAY):
        image = np.load(io.BytesIO(data), allow_pickle=False)
    else:
        # Not cv2, see `_without_fourth`.
        with Image.open(io.BytesIO(data)) as file:
            image = np.dstack([np.asarray(page) for page in ImageSequence.Iterator(file)])
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    image = image.reshape(*image.shape[:2], -1)
    if image.shape[2] == 1:
        image = np.repeat(image, bands, axis=2)
    if image.shape[2] != bands:
        raise ValueError(f"{image.shape[2]} bands")
    return (image.shape[0], image.shape[1]), np.ascontiguousarray(image)


def _average_blocks(image: NDArray[np.uint8], k: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    h, w = reduced_size((height, width), k)
    if (h * k, w * k) != (height, width):
        border = cv2.BORDER_REPLICATE
        image = cv2.copyMakeBorder(image, 0, h * k - height, 0, w * k - width, border)  # type: ignore[assignment]
    return cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def image_loader(records: Records) -> Callable[[int], NDArray[np.uint8]]:
    """Function that reads the original image of an id, (h, w, 3) RGB to be looked at."""
    by_id = {record.info.image_id: record for record in records.images}
    return lambda image_id: as_rgb(read_image(by_id[image_id]))

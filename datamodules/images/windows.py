"""Images read window by window, so that one of any size needs little memory.

Files of more than `DECODED_WHOLE` pixels are read by GDAL through rasterio, where it is installed: GeoTIFF,
COG, other TIFF, JPEG, PNG and what else it knows. All others are decoded whole, up to `LARGEST_IMAGE` pixels.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.images.decoding import read_image_file
from datamodules.images.headers import LARGEST_IMAGE
from datamodules.images.orientation import (
    BACK,
    UPRIGHT,
    displayed_size,
    read_orientation,
    turn_box,
    turn_image,
)
from datamodules.problems import DataError

Window = tuple[int, int, int, int]
"""(x1, y1, x2, y2) whole pixels of an image."""

DECODED_WHOLE = 2**26
"""Number of pixels up to which a file is decoded whole: 200 MB."""

BLOCKS = 256 * 2**20
"""Bytes of decoded blocks that GDAL keeps: rows of tiles of an image 100,000 pixels wide fit in."""


class Source(Protocol):
    """An image of which windows are read.

    Attributes:
        size: (height, width) in pixels.
        bands: channels.
    """

    size: tuple[int, int]
    bands: int

    def read(self, window: Window, least: tuple[int, int]) -> NDArray[np.uint8]:
        """A window, (h, w, bands), RGB if three, perhaps smaller than it is, but no smaller than `least`.

        Args:
            window: within the image.
            least: (height, width) that is needed.

        Raises:
            DataError: if the file cannot be read there.
        """

    def close(self) -> None:
        """Give back what is open."""


class Decoded:
    """An image whose pixels are there.

    Args:
        pixels: (H, W, bands), RGB if three.
    """

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels, self.size, self.bands = pixels, (pixels.shape[0], pixels.shape[1]), pixels.shape[2]

    def read(self, window: Window, least: tuple[int, int]) -> NDArray[np.uint8]:
        """A window as it is, not copied."""
        x1, y1, x2, y2 = window
        return self.pixels[y1:y2, x1:x2]

    def close(self) -> None:
        """Nothing is open."""


class Raster:
    """A file of which GDAL reads windows; for one thread at a time, and to be closed.

    Args:
        path: the file.
        orientation: EXIF's, by which GDAL does not go; windows are of the image as displayed.
        bands: channels that are wanted; what is beyond three colours is dropped.

    Raises:
        DataError: if it cannot be read, holds what is no picture, or has other channels.
    """

    def __init__(self, path: str, orientation: int = UPRIGHT, bands: int = 3) -> None:
        import rasterio

        self.path, self.gdal, self.bands = path, rasterio, bands
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            try:
                self.file: Any = rasterio.open(path)
            except rasterio.errors.RasterioError as error:
                raise self._unreadable(error) from None
        self.orientation, self.stored = orientation, (self.file.height, self.file.width)
        self.size = displayed_size(self.stored, orientation)
        kinds = set(self.file.dtypes)
        if not kinds <= {"uint8", "uint16"}:
            self.file.close()
            raise DataError(
                f"{path} holds {', '.join(sorted(kinds))}: convert it to 8 bits a channel, grey or RGB"
            )
        if bands != 3 and self.file.count != bands:
            self.file.close()
            raise DataError(f"{path} has {self.file.count} channels, and {bands} are wanted: convert it")
        colours = self.file.colorinterp[0] is rasterio.enums.ColorInterp.palette
        self.palette = self._palette() if colours else None
        # Black and white, or a few greys: GDAL gives their numbers, not their shades.
        self.bits = int(self.file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8))

    def _palette(self) -> NDArray[np.uint8]:
        table = np.zeros((2**16, 3), np.uint8)
        for index, colour in self.file.colormap(1).items():
            table[index] = colour[:3]
        return table

    def read(self, window: Window, least: tuple[int, int]) -> NDArray[np.uint8]:
        """A window, averaged over blocks as far as `least` allows, by the file's overviews if it has any."""
        x, y, width, height = self._stored(window)
        least = displayed_size(least, self.orientation)
        k = 1
        while k * 2 * least[0] <= height and k * 2 * least[1] <= width and self.palette is None:
            k *= 2
        bands = list(range(1, self.bands + 1)) if self.file.count >= self.bands else [1]
        try:
            with self.gdal.Env(GDAL_CACHEMAX=BLOCKS):
                pixels = self.file.read(
                    bands,
                    window=self.gdal.windows.Window(x, y, width, height),
                    out_shape=(len(bands), -(-height // k), -(-width // k)),
                    resampling=self.gdal.enums.Resampling.average,
                )
        except self.gdal.errors.RasterioError as error:
            raise self._unreadable(error) from None
        if self.palette is not None:
            return turn_image(self.palette[pixels[0]], self.orientation)
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        elif self.bits < 8:
            pixels *= 255 // (2**self.bits - 1)
        pixels = np.repeat(pixels, 3, axis=0) if len(pixels) == 1 else pixels
        return turn_image(np.ascontiguousarray(pixels.transpose(1, 2, 0)), self.orientation)

    def _stored(self, window: Window) -> tuple[int, int, int, int]:
        """Where a window lies in the file: x, y, width, height."""
        x1, y1, x2, y2 = window
        back = BACK.get(self.orientation, self.orientation)
        x, y, width, height = turn_box((x1, y1, x2 - x1, y2 - y1), back, self.stored)
        return int(x), int(y), int(width), int(height)

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(f"{self.path} is not a readable image ({error}): restore the file")

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def open_image(path: str, bands: int | None = 3) -> Decoded | Raster:
    """An image file, decoded whole if it is small enough, else to be read by windows.

    Args:
        path: the file.
        bands: channels that are wanted, see `read_image_file`.

    Raises:
        DataError: if it cannot be read rightly, has other channels, or is too large to be decoded whole
            without rasterio.
    """
    pixels, orientation = _glance(path)
    if pixels is None:  # Pillow does not know colours of 16 bits
        pixels = LARGEST_IMAGE if path.lower().endswith((".tif", ".tiff")) and Path(path).is_file() else 0
    if pixels <= DECODED_WHOLE:
        return Decoded(read_image_file(path, bands))
    try:
        return Raster(path, orientation, bands or 3)
    except ImportError:
        if pixels <= LARGEST_IMAGE:
            return Decoded(read_image_file(path, bands))
        raise DataError(
            f"{path} has more than 2^28 pixels, and rasterio, which reads such images by windows, is not "
            "installed: pip install 'pinpoint-detector[geo]'"
        ) from None


def _glance(path: str) -> tuple[int | None, int]:
    """Number of pixels of a file, None if Pillow cannot tell, and its orientation."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Path(path).open("rb") as file, Image.open(file) as image:
                return image.width * image.height, read_orientation(image, file)
    except Image.DecompressionBombError:
        return 2**31, UPRIGHT
    except Exception:  # damaged headers bring it to raise nearly anything
        return None, UPRIGHT

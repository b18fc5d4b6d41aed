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

    Raises:
        DataError: if it cannot be read, or holds what is no picture.
    """

    bands = 3

    def __init__(self, path: str) -> None:
        import rasterio

        self.path, self.gdal = path, rasterio
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            try:
                self.file: Any = rasterio.open(path)
            except rasterio.errors.RasterioError as error:
                raise self._unreadable(error) from None
        self.size = self.file.height, self.file.width
        kinds = set(self.file.dtypes)
        if not kinds <= {"uint8", "uint16"}:
            self.file.close()
            raise DataError(
                f"{path} holds {', '.join(sorted(kinds))}: convert it to 8 bits a channel, grey or RGB"
            )
        colours = self.file.colorinterp[0] is rasterio.enums.ColorInterp.palette
        self.palette = self._palette() if colours else None

    def _palette(self) -> NDArray[np.uint8]:
        table = np.zeros((2**16, 3), np.uint8)
        for index, colour in self.file.colormap(1).items():
            table[index] = colour[:3]
        return table

    def read(self, window: Window, least: tuple[int, int]) -> NDArray[np.uint8]:
        """A window, averaged over blocks as far as `least` allows, by the file's overviews if it has any."""
        x1, y1, x2, y2 = window
        height, width = y2 - y1, x2 - x1
        k = 1
        while k * 2 * least[0] <= height and k * 2 * least[1] <= width and self.palette is None:
            k *= 2
        bands = [1, 2, 3] if self.file.count >= 3 else [1]
        try:
            with self.gdal.Env(GDAL_CACHEMAX=BLOCKS):
                pixels = self.file.read(
                    bands,
                    window=self.gdal.windows.Window(x1, y1, width, height),
                    out_shape=(len(bands), -(-height // k), -(-width // k)),
                    resampling=self.gdal.enums.Resampling.average,
                )
        except self.gdal.errors.RasterioError as error:
            raise self._unreadable(error) from None
        if self.palette is not None:
            coloured: NDArray[np.uint8] = self.palette[pixels[0]]
            return coloured
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        pixels = np.repeat(pixels, 3, axis=0) if len(pixels) == 1 else pixels
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(f"{self.path} is not a readable image ({error}): restore the file")

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def open_image(path: str) -> Decoded | Raster:
    """An image file, decoded whole if it is small enough, else to be read by windows.

    Raises:
        DataError: if it cannot be read rightly, or is too large to be decoded whole without rasterio.
    """
    pixels = _pixels(path)
    if pixels is None:  # Pillow does not know colours of 16 bits
        pixels = LARGEST_IMAGE if path.lower().endswith((".tif", ".tiff")) and Path(path).is_file() else 0
    if pixels <= DECODED_WHOLE:
        return Decoded(read_image_file(path))
    try:
        return Raster(path)
    except ImportError:
        if pixels <= LARGEST_IMAGE:
            return Decoded(read_image_file(path))
        raise DataError(
            f"{path} has more than 2^28 pixels, and rasterio, which reads such images by windows, is not "
            "installed: pip install 'pinpoint-detector[geo]'"
        ) from None


def _pixels(path: str) -> int | None:
    """Number of pixels of a file, None if Pillow cannot tell."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Path(path).open("rb") as file, Image.open(file) as image:
                return image.width * image.height
    except Image.DecompressionBombError:
        return 2**31
    except Exception:  # damaged headers bring it to raise nearly anything
        return None

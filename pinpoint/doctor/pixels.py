"""Every image file decoded once: whether that works, its pixel format, and a thumbnail."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from datamodules.images.decoding import read_image
from datamodules.images.headers import ARRAY
from datamodules.images.orientation import turn_image
from datamodules.problems import DataError
from datamodules.progress import progress_bar
from datamodules.records import Record

THUMBNAIL = 64
"""Side of the thumbnails, pixels."""

GREY = ("1", "L")
COLOUR = ("RGB", "P", "YCbCr")
MODES = {
    "LA": "grey with transparency, which is dropped",
    "PA": "a palette with transparency, which is dropped",
    "RGBA": "colour with transparency, which is dropped",
    "CMYK": "CMYK, made for printing: colours may differ from those of the other images",
}
"""Pillow's pixel formats that training reads with a loss."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """What decoding a file told.

    Attributes:
        mode: Pillow's name of its pixel format; empty if not even its header can be read.
        thumbnail: (64, 64) uint8 grey, whatever the image's aspect ratio; black if it cannot be decoded.
        error: why it cannot be decoded; empty if it can.
        damage: what libjpeg remarks on a JPEG that it decodes all the same; empty for nothing.
    """

    mode: str
    thumbnail: NDArray[np.uint8]
    error: str = ""
    damage: str = ""


def read_pixels(records: Sequence[Record]) -> list[Pixels]:
    """Decode all images, one a CPU at a time, with a line of progress."""
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # Pillow's, on odd metadata; here, as threads share the filters
        found = pool.map(_read, records)
        return list(progress_bar(found, len(records), "reading images"))


def unusual_modes(pixels: Iterable[Pixels]) -> list[str]:
    """What is unusual about each image's pixel format; empty for nothing.

    Grey images are unusual where most are in colour, and the other way round.
    """
    modes = [image.mode for image in pixels]
    grey, colour = (sum(mode in group for mode in modes) for group in (GREY, COLOUR))
    odd = dict(MODES)
    if grey < colour:
        odd |= dict.fromkeys(GREY, f"grey, as are {grey} images, where {colour} are in colour")
    elif colour:
        odd |= dict.fromkeys(COLOUR, f"in colour, as are {colour} images, where {grey} are grey")
    return [
        "16 bits a channel or more, of which the upper 8 are read"
        if mode.startswith(("I", "F"))
        else odd.get(mode, "")
        for mode in modes
    ]


def _read(record: Record) -> Pixels:
    path = record.path
    if record.bands != 3 or path.lower().endswith(ARRAY):
        return _read_bands(record)
    mode, side, damage = "", (THUMBNAIL, THUMBNAIL), ""
    try:
        with Image.open(path) as image:
            mode = image.mode
            grey = None
            if image.format in ("JPEG", "MPO"):  # MPO: several JPEGs in one, by some phones
                grey, damage = _decode_jpeg(path)
            if grey is None:
                image.draft(
                    "L", side
                )  # of a JPEG, decodes all of the file, but the fewest pixels that will do
                grey = _grey(image)
            thumbnail = turn_image(np.asarray(grey.resize(side, Image.Resampling.BOX)), record.turn)
            return Pixels(mode, thumbnail, damage=damage)
    # Damaged files bring Pillow to raise nearly anything.
    except Exception as error:
        return Pixels(mode, np.zeros(side, np.uint8), str(error) or type(error).__name__)


def _read_bands(record: Record) -> Pixels:
    """What Pillow does not know: its mean channel."""
    try:
        grey = Image.fromarray(read_image(record).mean(axis=2).astype(np.uint8))
    except DataError as error:
        return Pixels("", np.zeros((THUMBNAIL, THUMBNAIL), np.uint8), str(error))
    return Pixels("RGB", np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)))


def _grey(image: Image.Image) -> Image.Image:
    if image.mode[0] == "I":
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert("L")


def _decode_jpeg(path: str) -> tuple[Image.Image | None, str]:
    """All of a JPEG decoded, but to the fewest pixels that will do for a thumbnail, grey.

    Returns:
        The image, None if libjpeg complains of it or does not know its kind; and the complaint, if any.
    """
    data = Path(path).read_bytes()
    decode = partial(simplejpeg.decode_jpeg, data, "GRAY", min_height=THUMBNAIL, min_width=THUMBNAIL)
    try:
        return Image.fromarray(decode()[..., 0]), ""
    except ValueError as error:
        complaint = str(error)
    try:
        decode(strict=False)
    except ValueError:
        return None, ""
    return None, complaint

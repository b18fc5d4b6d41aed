"""Images as they are displayed: EXIF's orientation, applied to pixels and boxes.

Orientation: 1 as stored, 2 mirrored left to right, 3 turned by 180 degrees, 4 mirrored upside down, 5 to 8
first transposed, then as 1, 2, 4 and 3 in the order 5, 6, 8, 7. CIPA DC-008 (Exif 2.32), tag 274.
"""

from __future__ import annotations

import os
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

ORIENTATION = 0x0112
"""EXIF's and TIFF's tag."""

UPRIGHT = 1

MIRRORED_X, MIRRORED_Y, TRANSPOSED = {2, 3, 6, 7}, {3, 4, 7, 8}, {5, 6, 7, 8}

BACK = {6: 8, 8: 6}
"""Orientation that undoes another; the rest undo themselves."""

PNG_TAIL = 4096
"""Number of last bytes of a PNG in which EXIF is looked for, where it is not before the pixels."""


def read_orientation(image: Image.Image, file: BinaryIO) -> int:
    """Orientation of an image file, 1 to 8; what is no such number counts as upright.

    Args:
        image: opened, not loaded.
        file: the file that it was opened from; a PNG may say it at the end.
    """
    try:
        if image.format == "TIFF":
            value = image.tag_v2.get(ORIENTATION)  # type: ignore[attr-defined]
        else:
            exif = Image.Exif()
            exif.load(_exif(image, file))
            value = exif.get(ORIENTATION)
    # Damaged EXIF brings Pillow to raise nearly anything; the pixels may be fine.
    except Exception:
        value = UPRIGHT
    return value if isinstance(value, int) and value in range(1, 9) else UPRIGHT


def _exif(image: Image.Image, file: BinaryIO) -> bytes:
    if "exif" in image.info or image.format != "PNG":
        return image.info.get("exif", b"")  # type: ignore[no-any-return]
    position, length = file.tell(), file.seek(0, os.SEEK_END)
    file.seek(max(length - PNG_TAIL, 0))
    tail = file.read()
    file.seek(position)
    start = tail.find(b"eXIf")
    return tail[start + 4 : start + 4 + int.from_bytes(tail[start - 4 : start])] if start >= 4 else b""


def displayed_size(stored: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(height, width) as displayed of those stored, and the other way round."""
    return (stored[1], stored[0]) if orientation in TRANSPOSED else stored


def turn_image(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Stored pixels (h, w, c) as displayed."""
    if orientation in TRANSPOSED:
        image = cv2.transpose(image)  # type: ignore[assignment]
    x, y = orientation in MIRRORED_X, orientation in MIRRORED_Y
    if x or y:
        image = cv2.flip(image, -1 if x and y else int(x))  # type: ignore[assignment]
    return image


def turn_box(
    box: tuple[float, float, float, float], orientation: int, displayed: tuple[int, int]
) -> tuple[float, float, float, float]:
    """A box (x, y, w, h) of the stored pixels in those displayed.

    Args:
        box: in pixels as stored.
        orientation: how they are turned.
        displayed: (height, width) as displayed.
    """
    x, y, w, h = box
    if orientation in TRANSPOSED:
        x, y, w, h = y, x, h, w
    if orientation in MIRRORED_X:
        x = displayed[1] - x - w
    if orientation in MIRRORED_Y:
        y = displayed[0] - y - h
    return x, y, w, h

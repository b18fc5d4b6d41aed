"""Whether an image file is whole, by where its parts should end; decoded only where that says nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

TAIL = 64
"""Number of last bytes that are searched for an end marker: some cameras and servers pad their files."""

JPEG_END, PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"

SCAN = 0xDA
"""JPEG's marker of the segment before the pixels."""

OFFSETS_AND_LENGTHS = ((273, 279), (324, 325))
"""TIFF's tags of strips and of tiles: where each begins, and its number of bytes."""

UNREAD = {
    **{33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA"},
    **{50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"},
}
"""TIFF's compressions that OpenCV's library lacks."""

COMPRESSION, JPEG_IN_TIFF, JPEG_TABLES = 259, 7, 347
"""TIFF's tag of the compression, its number of JPEG, and the tag of what that cannot be decoded without."""

SAMPLES = 277
"""TIFF's tag of the number of channels."""

FIRST_PICTURE = 0xB002
"""MPO's tag of the list of pictures."""


def unread_compression(image: Image.Image) -> str | None:
    """Name of the compression of an image if it is one that is not read."""
    return UNREAD.get(image.tag_v2.get(COMPRESSION)) if image.format == "TIFF" else None  # type: ignore[attr-defined]


def unseen_channels(image: Image.Image) -> int | None:
    """Number of a TIFF's channels where the first alone would be seen; None for all other images.

    Of channels that lie one after the other Pillow and OpenCV see one, as grey.
    """
    if image.format != "TIFF" or len(image.getbands()) > 1:
        return None
    channels: int = image.tag_v2.get(SAMPLES, 1)  # type: ignore[attr-defined]
    return channels if channels > 2 else None


def is_complete(image: Image.Image, file: BinaryIO) -> bool:
    """Whether all of an image is in its file.

    Args:
        image: opened, not loaded; loaded if where its parts lie does not tell.
        file: the file that it was opened from.
    """
    position, length = file.tell(), file.seek(0, os.SEEK_END)
    try:
        whole = _ends_as_it_should(image, file, length)
    except (LookupError, TypeError, ValueError):  # of damaged tags
        whole = False
    if not whole and image.format in ("JPEG", "MPO"):
        # More may follow the image. Decoding would not tell: of a rest of zeros it makes grey pixels.
        whole = _jpeg_ends(_read(file, 0, length))
    elif not whole:
        file.seek(position)
        whole = _can_be_decoded(image, file, length)
    file.seek(position)
    return whole


def _jpeg_ends(data: bytes) -> bool:
    """Whether an end marker follows the first scan, in whose data there is none by chance."""
    place = 2
    while data[place : place + 1] == b"\xff":
        kind, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4])
        if kind == SCAN:
            return JPEG_END in data[place:]
        place += 1 if kind == 0xFF else 2 + length  # fill bytes may come before a marker
    return False


def _can_be_decoded(image: Image.Image, file: BinaryIO, length: int) -> bool:
    """Whether Pillow can, and OpenCV, which reads all but images of several bands."""
    try:
        image.load()
    except (OSError, SyntaxError):
        return False
    if image.format == "TIFF" and (image.mode == "RGBA" or getattr(image, "n_frames", 1) > 1):
        return True
    data = np.frombuffer(_read(file, 0, length), np.uint8)
    try:
        return cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) is not None
    except cv2.error:
        return False


def _ends_as_it_should(image: Image.Image, file: BinaryIO, length: int) -> bool:
    match image.format:
        case "JPEG":
            return JPEG_END in _read(file, length - TAIL, length)
        case "PNG":
            return PNG_END in _read(file, length - TAIL, length)
        case "MPO":  # several JPEGs in one file, of which the first is read
            end: int = image.mpinfo[FIRST_PICTURE][0]["Size"]  # type: ignore[attr-defined]
            return end <= length and JPEG_END in _read(file, end - TAIL, end + TAIL)
        case "WEBP":
            end = int.from_bytes(_read(file, 4, 8), "little") + 8
            return end <= length and any(_read(file, end - TAIL, end))
        case "TIFF":
            tags = image.tag_v2  # type: ignore[attr-defined]
            if tags.get(COMPRESSION) == JPEG_IN_TIFF and JPEG_TABLES not in tags:
                return False
            return any(_parts_fit(tags, *pair, length) for pair in OFFSETS_AND_LENGTHS)
        case "BMP":
            tiles: list[tuple[str, object, int, tuple[str, int, int]]] = image.tile  # type: ignore[attr-defined]
            return all(
                codec == "raw" and start + row[1] * image.height <= length for codec, _, start, row in tiles
            )
    return False


def _read(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(max(start, 0))
    return file.read(stop - max(start, 0))


def _parts_fit(tags: Mapping[int, Sequence[int]], offsets: int, lengths: int, length: int) -> bool:
    parts = list(zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=True))
    return bool(parts) and all(start + size <= length for start, size in parts)

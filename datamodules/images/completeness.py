"""Whether an image file is whole, by where its parts should end; decoded only where that says nothing."""

from __future__ import annotations

import os
from typing import BinaryIO

from PIL import Image

TAIL = 64
"""Number of last bytes that are searched for an end marker: some cameras and servers pad their files."""

JPEG_END, PNG_END = b"\xff\xd9", b"IEND"

OFFSETS_AND_LENGTHS = ((273, 279), (324, 325))
"""TIFF's tags of strips and of tiles: where each begins, and its number of bytes."""

FIRST_PICTURE = 0xB002
"""MPO's tag of the list of pictures."""


def is_complete(image: Image.Image, file: BinaryIO) -> bool:
    """Whether all of an image is in its file.

    Args:
        image: opened, not loaded; loaded if where its parts lie does not tell.
        file: the file that it was opened from.
    """
    position = file.tell()
    try:
        whole = _ends_as_it_should(image, file, file.seek(0, os.SEEK_END))
    except (LookupError, TypeError, ValueError):  # of damaged tags
        whole = False
    file.seek(position)
    if whole:
        return True
    try:
        image.load()  # more may follow the image, or nothing where it should end: decoding tells
    except (OSError, SyntaxError):
        return False
    return True


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
            return int.from_bytes(_read(file, 4, 8), "little") + 8 <= length
        case "TIFF":
            return any(_parts_fit(image, *tags, length) for tags in OFFSETS_AND_LENGTHS)
        case "BMP":
            tiles: list[tuple[str, object, int, tuple[str, int, int]]] = image.tile  # type: ignore[attr-defined]
            return all(
                codec == "raw" and start + row[1] * image.height <= length for codec, _, start, row in tiles
            )
    return False


def _read(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(max(start, 0))
    return file.read(stop - max(start, 0))


def _parts_fit(image: Image.Image, offsets: int, lengths: int, length: int) -> bool:
    tags = image.tag_v2  # type: ignore[attr-defined]
    parts = list(zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=True))
    return bool(parts) and all(start + size <= length for start, size in parts)

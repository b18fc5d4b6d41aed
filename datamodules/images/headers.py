"""Image files judged by their header and their end, without decoding: thousands a second."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import cv2
from lightning.pytorch.utilities import rank_zero_warn
from PIL import ExifTags, Image

from datamodules.problems import Problems
from datamodules.progress import announced

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
"""Which files of a folder are its images, in lower case."""

END_MARKERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
"""What the last bytes of a complete file hold."""

TAIL = 64
"""Number of last bytes that are searched for it: some cameras and servers pad their files."""

UNREADABLE_MODES = {"I": "32-bit numbers", "F": "32-bit floating-point numbers", "LAB": "CIE Lab colours"}
"""Pixels of TIFF files that cv2 refuses, or takes for RGB."""

LARGEST_IMAGE = 2**30
"""Number of pixels from which cv2 refuses an image."""

# Pillow refuses to read even the size of an image of twice this number; its own limit is 0.09 * 2**30, which
# a large aerial image passes.
Image.MAX_IMAGE_PIXELS = LARGEST_IMAGE


@dataclass(frozen=True, slots=True)
class Header:
    """What the head of an image file says.

    Attributes:
        size: (height, width) in pixels as stored.
        upright: whether it is to be shown as stored; no EXIF entry says otherwise.
        sixteen_bits: whether it is grey with 16 bits a pixel.
    """

    size: tuple[int, int]
    upright: bool
    sixteen_bits: bool


def check_images(paths: Sequence[Path], source: Path, problems: Problems) -> dict[Path, Header]:
    """Look at every image file of a split; those that cannot be read rightly become problems.

    Read rightly are JPEG, PNG, TIFF, WebP, BMP and GIF files in grey, RGB, CMYK, palette or black and white,
    with or without transparency (which is dropped). Of 16 bits a channel the upper 8 are taken, with a
    warning for grey ones.

    Args:
        paths: the image files.
        source: file or folder that names them.
        problems: takes the missing, unreadable, truncated and unsuitable ones.

    Returns:
        The header of each file that is fine.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("ignore")  # Pillow's, on odd metadata; here, as threads share the filters
        found = announced(pool.map(partial(_inspect, source=source), paths), len(paths), "checking images")
        results = dict(zip(paths, found, strict=True))
    missing = sum(isinstance(result, FileNotFoundError) for result in results.values())
    headers = {}
    for path, result in results.items():
        if isinstance(result, Header):
            headers[path] = result
        elif isinstance(result, FileNotFoundError):
            problems.add(
                f"{path} does not exist; {missing} of the {len(paths)} images of {source} are missing: "
                "restore them, check the image folder, or remove them there",
                str(path),
            )
        else:
            problems.add(f"{path} {result}", str(path))
    if deep := sum(header.sixteen_bits for header in headers.values()):
        rank_zero_warn(
            f"{deep} of {len(paths)} images hold 16 bits a pixel and are read as value / 256: convert "
            "them to 8 bits if they use less than the whole range"
        )
    return headers


def require_size(path: Path, header: Header, size: tuple[int, int], source: str, problems: Problems) -> None:
    """Note a problem if an image has another size than its annotations say.

    Args:
        path: the image file.
        header: its header.
        size: (height, width) that the annotations say.
        source: where they say it.
        problems: takes the difference.
    """
    if header.size != size:
        problems.add(
            f"{path} is {header.size[1]}x{header.size[0]} pixels, but {source} says {size[1]}x{size[0]}: "
            "correct the width and height there, or restore the image",
            str(path),
        )


def _inspect(path: Path, source: Path) -> Header | FileNotFoundError | str:
    """The header of a file, or what is wrong with it."""
    try:
        with path.open("rb") as file, Image.open(file) as image:
            kind, mode = image.format or "", image.mode
            header = Header(
                size=(image.height, image.width),
                # For a PNG, where cameras do not write it, Pillow would decode all pixels first.
                upright=kind == "PNG" or image.getexif().get(ExifTags.Base.Orientation, 1) in (0, 1),
                sixteen_bits=mode.startswith("I;16") or (kind, mode) == ("PNG", "I"),
            )
            if not _is_complete(image, file, END_MARKERS.get(kind)):
                return f"is truncated: restore the file or remove it from {source}"
    except FileNotFoundError as error:
        return error
    # Damaged headers bring Pillow to raise nearly anything.
    except Exception:
        return f"is not a readable image: restore the file or remove it from {source}"
    if kind == "TIFF" and mode in UNREADABLE_MODES:
        return f"holds {UNREADABLE_MODES[mode]}: convert it to 8 bits a channel, grey or RGB"
    if header.size[0] * header.size[1] > LARGEST_IMAGE:
        return f"has more than 2^30 pixels ({header.size[1]}x{header.size[0]}): cut it into tiles"
    if not cv2.haveImageReader(os.fspath(path)):
        return f"is a {kind} file, which cannot be read: convert it to JPEG or PNG"
    return header


def _is_complete(image: Image.Image, file: BinaryIO, marker: bytes | None) -> bool:
    if marker is None:
        return True
    position = file.tell()
    file.seek(0, os.SEEK_END)
    file.seek(max(file.tell() - TAIL, 0))
    tail = file.read()
    file.seek(position)
    if marker in tail:
        return True
    try:
        image.load()  # more may follow the image, or nothing where it should end: decoding tells
    except (OSError, SyntaxError):
        return False
    return True

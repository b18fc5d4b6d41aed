"""Image files judged by their header and their end, without decoding: thousands a second."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image

from datamodules.files import files_below, is_image, require_file
from datamodules.images.completeness import is_complete, unread_compression, unseen_channels
from datamodules.images.orientation import TRANSPOSED, UPRIGHT, displayed_size, read_orientation
from datamodules.problems import DataError, PixelsWarning, Problems
from datamodules.progress import progress_bar

READABLE = {"BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP"}
"""Pillow's names of the formats that cv2 reads. cv2 itself, asked by file name, dies of a name in Latin-1."""

BESIDE = {
    "",
    ".cache",
    ".csv",
    ".db",
    ".html",
    ".ini",
    ".json",
    ".md",
    ".npz",
    ".pkl",
    ".txt",
    ".xml",
    ".yaml",
    ".yml",
}
"""Endings of what tools leave beside images."""

ARRAY = ".npy"
"""Ending of numpy's files: (height, width) or (height, width, bands) of 8 or 16 bits."""

MOST_BANDS = 8

UNREADABLE_MODES = {"I": "32-bit numbers", "F": "32-bit floating-point numbers", "LAB": "CIE Lab colours"}
"""Pixels of TIFF files that cv2 refuses, or takes for RGB."""

SIXTEEN_BITS = (
    "of 16 bits a pixel is read as value / 256: convert it to 8 bits if it uses less than the whole range"
)

LARGEST_IMAGE = 2**28
"""Number of pixels above which an image is refused: decoded, each loader process would hold 1 GB of it."""

# Pillow refuses to read even the size of an image of twice this number; its own limit is 0.09 * 2**30, which
# a large aerial image passes.
Image.MAX_IMAGE_PIXELS = 2**30


@dataclass(frozen=True, slots=True)
class Header:
    """What the head of an image file says.

    Attributes:
        size: (height, width) in pixels as displayed.
        orientation: EXIF's, how the stored pixels are turned for display; 1 for not at all.
        turn: the part of it that is left to do once the image is decoded: TIFF's decoders turn by themselves.
        sixteen_bits: whether it is grey with 16 bits a pixel.
        bands: channels that it has, if it is an array or a TIFF of more than colours; else 3, for RGB.
    """

    size: tuple[int, int]
    orientation: int
    turn: int
    sixteen_bits: bool
    bands: int = 3


def images_in(folder: Path, deep: bool = False) -> list[Path]:
    """Image files of a folder, sorted; a warning says what else is there that may have been meant as one.

    Args:
        folder: the folder; one that does not exist has no images.
        deep: look into its subfolders too.
    """
    if not folder.is_dir():
        return []
    files = [path for path in files_below(folder) if path.name[0] != "."]
    if not deep and (deeper := [path for path in files if path.parent != folder and is_image(path)]):
        rank_zero_warn(
            f"{folder}: {len(deeper)} images in its subfolders are left out, such as {deeper[0]}: put them "
            "into the folder itself"
        )
    files = [path for path in files if deep or path.parent == folder]
    other = Counter(path.suffix.lower() for path in files if not is_image(path))
    left_out = {suffix: count for suffix, count in other.items() if suffix not in BESIDE}
    if left_out:
        kinds = ", ".join(f"{count} {suffix or 'without ending'}" for suffix, count in left_out.items())
        rank_zero_warn(
            f"{folder}: files that are no images by their ending are left out ({kinds}): convert to JPEG or "
            "PNG what is one"
        )
    return sorted(without_copies([path for path in files if is_image(path)]))


def without_copies(images: Sequence[Path]) -> list[Path]:
    """The images without those arrays in which other trainers keep decoded copies beside them."""
    originals = {path.with_suffix("") for path in images if path.suffix.lower() != ARRAY}
    return [path for path in images if path.suffix.lower() != ARRAY or path.with_suffix("") not in originals]


def same_names(paths: Iterable[Path]) -> list[list[Path]]:
    """Groups of image files that differ in their ending alone, and so share one file of annotations."""
    groups: dict[Path, list[Path]] = {}
    for path in paths:
        groups.setdefault(path.with_suffix(""), []).append(path)
    return [group for group in groups.values() if len(group) > 1]


def refuse_same_names(paths: Iterable[Path], problems: Problems) -> None:
    """Make each image a problem that shares its file of annotations with another."""
    for group in same_names(paths):
        for path in group:
            one = " and ".join(map(str, group))
            problems.add(f"{one} have one file of annotations: rename or remove one of them", str(path))


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
        found = progress_bar(pool.map(partial(_inspect, source=source), paths), len(paths), "checking images")
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
            "them to 8 bits if they use less than the whole range",
            category=PixelsWarning,
        )
    return headers


def read_header(path: Path) -> Header:
    """The header of an image that no data set lists.

    Raises:
        DataError: if it cannot be read rightly, see `check_images`.
    """
    result = _inspect(path, path.parent)
    if isinstance(result, Header):
        return result
    raise DataError(f"{path} {'does not exist' if isinstance(result, FileNotFoundError) else result}")


def annotated_turn(
    path: Path, header: Header, size: tuple[int, int] | None, source: str, problems: Problems
) -> int:
    """Orientation of the frame that an image's annotations are in: 1 if that is the displayed image.

    Annotations whose size is that of the stored pixels, where it differs, were made by a tool that does not
    look at EXIF. A size of neither frame is a problem.

    Args:
        path: the image file.
        header: its header.
        size: (height, width) that the annotations say; None if they do not.
        source: where they say it.
        problems: takes the difference.
    """
    if size is None or size == header.size:
        return UPRIGHT
    if header.orientation in TRANSPOSED and size == header.size[::-1]:
        return header.orientation
    found, said = (f"{width}x{height}" for height, width in (header.size, size))
    remedy = "correct the width and height there, or restore the image"
    if size == header.size[::-1]:
        remedy = "either they are swapped there, or the image was turned after it was annotated"
    problems.add(f"{path} is {found} pixels, but {source} says {said}: {remedy}", str(path))
    return UPRIGHT


def _inspect(path: Path, source: Path) -> Header | FileNotFoundError | str:
    """The header of a file, or what is wrong with it."""
    try:
        require_file(path)
        if path.suffix.lower() == ARRAY:
            return _inspect_array(path)
        with path.open("rb") as file, Image.open(file) as image:
            kind, mode = image.format or "", image.mode
            orientation = read_orientation(image, file)
            size = image.height, image.width
            header = Header(
                size=size if kind == "TIFF" else displayed_size(size, orientation),
                orientation=orientation,
                turn=UPRIGHT if kind == "TIFF" else orientation,
                bands=_bands(image),
                sixteen_bits=mode.startswith("I;16") or (kind, mode) in (("PNG", "I"), ("PPM", "I")),
            )
            if kind not in READABLE:
                return f"is a {kind} file, which cannot be read: convert it to JPEG or PNG"
            if size[0] * size[1] > LARGEST_IMAGE:
                return f"has more than 2^28 pixels ({size[1]}x{size[0]}): cut it into tiles"
            if (compression := unread_compression(image)) is not None:
                return f"is compressed by {compression}, which is not read: save it with deflate or LZW"
            if (channels := unseen_channels(image)) is not None:
                return (
                    f"has {channels} channels that are not read as such: save it anew, with GDAL by "
                    "INTERLEAVE=PIXEL and PHOTOMETRIC=RGB, or as .npy"
                )
            if not is_complete(image, file):
                return f"is truncated: restore the file or remove it from {source}"
    except FileNotFoundError as error:
        return error
    except Image.DecompressionBombError:
        return "has more than 2^31 pixels: cut it into tiles"
    # Damaged headers bring Pillow to raise nearly anything.
    except Exception:
        other = "save it as RGB of 8 bits, " if path.suffix.lower() in (".tif", ".tiff") else ""
        return f"is not a readable image: restore the file, {other}or remove it from {source}"
    if kind == "TIFF" and mode in UNREADABLE_MODES:
        return f"holds {UNREADABLE_MODES[mode]}: convert it to 8 bits a channel, grey or RGB"
    return header


def _bands(image: Image.Image) -> int:
    """Of a TIFF with a fourth channel, or with grey pages, their number; else 3."""
    if image.format != "TIFF":
        return 3
    pages: int = getattr(image, "n_frames", 1) if image.mode.startswith(("L", "I;16")) else 1
    return pages if pages > 1 else 4 if image.mode == "RGBA" else 3


def _inspect_array(path: Path) -> Header | str:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    bands = array.shape[2] if array.ndim == 3 else 1
    if (
        array.ndim not in (2, 3)
        or not array.size
        or array.dtype not in (np.uint8, np.uint16)
        or bands > MOST_BANDS
    ):
        return (
            f"is an array {array.shape} of {array.dtype}: it must be (height, width) or (height, width, "
            f"2 to {MOST_BANDS} bands) of uint8 or uint16"
        )
    size = array.shape[0], array.shape[1]
    return Header(size, UPRIGHT, UPRIGHT, array.dtype == np.uint16, 3 if bands == 1 else bands)

"""Files of the user's: opened only if they can be read to an end, decoded, listed, and named in messages."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

IMAGE_SUFFIXES = {
    *(".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm"),
    *(".npy", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
}
"""Which files of a folder are its images, in lower case."""

BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
"""How a text begins that says its encoding, as Windows programs write it; longer ones first."""

DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Marks that turn the direction of what follows them."""


def require_file(path: Path) -> None:
    """Refuse what is no file; opening a pipe would wait for ever, and a device may have no end.

    Raises:
        OSError: if it is none, or does not exist.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{printable(path)} is not a file")


def read_bytes(path: Path) -> bytes:
    """All of a file; see `require_file`."""
    require_file(path)
    return path.read_bytes()


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """A text in what its first bytes say, else in an encoding.

    Raises:
        OSError: if the file cannot be read.
        UnicodeDecodeError: if it is not text.
        LookupError: if there is no such encoding.
    """
    content = read_bytes(path)
    for mark, said in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return content.decode(said)
    return content.decode(encoding)


def reason(error: object) -> str:
    """What to say of an error after the name of its file, which the system's own text would say again."""
    return getattr(error, "strerror", None) or str(error)


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is an image; hidden files (macOS writes `._a.jpg`) are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def files_below(folder: Path) -> Iterator[Path]:
    """All files of a folder and its subfolders, linked ones too; each folder once, so that circles end."""
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        found = os.stat(parent)
        if (found.st_dev, found.st_ino) in seen:
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        yield from (Path(parent, name) for name in files)


def printable(text: object) -> str:
    """A text that can be shown in one line: bytes of file names that are no text, and line ends, escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(text)
    )


def visible(name: str) -> str:
    """A name that can be shown anywhere, in any script and with emoji.

    What would move a terminal's cursor, change its colours or turn the direction of a line is escaped.
    """
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter) in ("Cc", "Zl", "Zp") or letter in DIRECTIONS
        else letter
        for letter in name
    )


def named_below(folder: Path, name: str) -> Path:
    """The file of a folder that a list names, perhaps with the separators of Windows."""
    path = folder / name
    if "\\" in name and not exists(path):
        other = folder / name.replace("\\", "/")
        return other if exists(other) else path
    return path


def sidecar(path: Path) -> Path:
    """An annotation file, or that with its ending in capital letters if only that is there."""
    capital = path.with_suffix(path.suffix.upper())
    return capital if not exists(path) and exists(capital) else path


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; not if the path is none, too long or with a null character."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False

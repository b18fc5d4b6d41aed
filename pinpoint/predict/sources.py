"""From what was named on the command line to images and videos, and what their results are called."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.files import exists, files_below, is_image, named_below, printable, read_text

VIDEO_SUFFIXES = {
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"),
}
"""Which files are videos, in lower case."""


@dataclass(frozen=True, slots=True)
class Item:
    """A file to look at.

    Attributes:
        path: the file.
        name: what its results are called, with folders between slashes and without an ending.
    """

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether it is a video; else an image."""
        return is_video(self.path)


def find_items(inputs: Sequence[str], recursive: bool = False) -> list[Item]:
    """All images and videos that are meant, each file once.

    Args:
        inputs: images, videos, folders, patterns such as `*.jpg`, and .txt files that list paths, one a line.
        recursive: look into the subfolders of folders too.

    Returns:
        In the order of the inputs, sorted within each. Files that a list names but that do not exist are
        among them, for they are missing like others that cannot be read.

    Raises:
        ValueError: an input is none of these, or has no image or video in it.
    """
    paths: dict[Path, str] = {}
    for given in inputs:
        found = list(_files(given, recursive))
        if not found:
            remedy = "" if recursive else "; --recursive looks into its subfolders"
            raise ValueError(f"{printable(given)} holds no images or videos{remedy}")
        for path, name in found:
            paths.setdefault(Path(os.path.abspath(path)), name)
    return list(_named(paths))


def is_video(path: Path) -> bool:
    """Whether a file's name says that it is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def _files(given: str, recursive: bool) -> Iterator[tuple[Path, str]]:
    """Files that an input stands for, and where they lie in it."""
    path = Path(given)
    if not exists(path):
        matches = sorted(map(Path, glob.glob(given, recursive=True)))
        if not glob.has_magic(given):
            raise ValueError(f"there is no file or folder {printable(given)}")
        yield from ((match, match.name) for match in matches if is_image(match) or is_video(match))
    elif path.is_dir():
        below = files_below(path) if recursive else path.iterdir()
        files = sorted(file for file in below if is_image(file) or is_video(file))
        yield from ((file, file.relative_to(path).as_posix()) for file in files)
    elif path.suffix.lower() == ".txt":
        yield from ((file, file.name) for file in _listed(path))
    elif is_image(path) or is_video(path):
        yield path, path.name
    else:
        raise ValueError(
            f"{printable(given)} is no image, video, folder or .txt list by its name: convert or rename it"
        )


def _listed(file: Path) -> Iterable[Path]:
    try:
        rows = [row.strip() for row in read_text(file).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read ({error}): it must list one path a line") from None
    return [named_below(file.parent, row) for row in rows if row]


def _named(paths: dict[Path, str]) -> Iterator[Item]:
    """Items with names of their own: files that differ in their folder or ending alone are told apart."""
    taken: dict[str, str] = {}
    for path, place in paths.items():
        stem = Path(place).with_suffix("").as_posix()
        choices = [stem, f"{stem}_{path.suffix[1:]}", f"{path.parent.name}/{stem}"]
        if taken.get(stem) == path.suffix:  # their folders differ
            choices.pop(1)
        choices += [f"{stem}_{number}" for number in range(2, len(paths) + 2)]
        name = next(choice for choice in choices if choice not in taken)
        taken[name] = path.suffix
        yield Item(path, name)

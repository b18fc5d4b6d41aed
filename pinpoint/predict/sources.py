"""From what was named on the command line to images and videos, and what their results are called."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from datamodules.files import exists, files_below, is_image, named_below, printable, read_text
from datamodules.images.headers import without_copies

VIDEO_SUFFIXES = {
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"),
}
"""Which files are videos, in lower case."""


FRAME = re.compile(r"(.+)_[0-9]{6,}")
"""Names that frames have, see `frame_name`."""


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


def find_files(inputs: Sequence[str], recursive: bool = False, output: Path | None = None) -> dict[Path, str]:
    """All images and videos that are meant, each file once.

    Args:
        inputs: images, videos, folders, patterns such as `*.jpg`, and .txt files that list paths, one a line.
        recursive: look into the subfolders of folders too.
        output: folder of results, of which nothing is looked at; it may lie within an input.

    Returns:
        Files in the order of the inputs, sorted within each, and where they lie in them. Files that a list
        names but that do not exist are among them, for they are missing like others that cannot be read.

    Raises:
        ValueError: an input is none of these, or has no image or video in it.
    """
    paths: dict[Path, str] = {}
    for given in inputs:
        found = list(_files(given, recursive, output))
        if not found:
            remedy = "" if recursive else "; --recursive looks into its subfolders"
            raise ValueError(f"{printable(given)} holds no images or videos{remedy}")
        for path, name in found:
            paths.setdefault(Path(os.path.abspath(path)), name)
    return paths


def is_video(path: Path) -> bool:
    """Whether a file's name says that it is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def _files(given: str, recursive: bool, output: Path | None) -> Iterator[tuple[Path, str]]:
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
        files = without_copies(files)
        results = None if output is None else output.resolve()
        if results is not None and not path.resolve().is_relative_to(results):
            files = [file for file in files if not file.resolve().is_relative_to(results)]
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


def name_items(files: Mapping[Path, str], done: Mapping[str, str]) -> list[Item]:
    """Items with names of their own: files that differ in their folder or ending alone are told apart.

    Nor is an image called as a frame of a video is, see `frame_name`.

    Args:
        files: see `find_files`.
        done: names of files that earlier calls looked at, by path; they keep them.
    """
    taken = {name: Path(path) for path, name in done.items()}
    items = []
    for path, place in files.items():
        if (name := done.get(str(path))) is None:
            stem = Path(place).with_suffix("").as_posix()
            choices = [stem, f"{stem}_{path.suffix[1:]}", f"{path.parent.name}/{stem}"]
            if stem in taken and taken[stem].suffix == path.suffix:  # their folders differ
                choices.pop(1)
            numbered = (f"{stem}_{number}" for number in count(2))
            name = next(choice for choice in chain(choices, numbered) if _is_free(choice, path, taken))
            taken[name] = path
        items.append(Item(path, name))
    return items


def frame_name(video: str, number: int) -> str:
    """What the results of a video's frame are called."""
    return f"{video}_{number:06d}"


def _is_free(name: str, path: Path, taken: Mapping[str, Path]) -> bool:
    if is_video(path) and any((m := FRAME.fullmatch(other)) and m[1] == name for other in taken):
        return False
    of_a_frame = FRAME.fullmatch(name)
    if of_a_frame and of_a_frame[1] in taken and is_video(taken[of_a_frame[1]]):
        return False
    return name not in taken

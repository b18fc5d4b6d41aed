"""Data sets in the folders and text files of the YOLO family, described by a data.yaml.

Format: one row an object, `class cx cy w h` as shares of the image's width and height, or a class and the
corners of a polygon, `class x1 y1 x2 y2 x3 y3 ...`; https://docs.ultralytics.com/datasets/detect/.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.batch import ImageInfo
from datamodules.formats.categories import Categories
from datamodules.formats.rows import ObjectList, text_rows
from datamodules.images.headers import IMAGE_SUFFIXES, check_images
from datamodules.problems import DataError, Problems
from datamodules.records import Records, Split

TOLERANCE = 0.01
"""How far beyond the image a share may lie: tools round."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a data.yaml says.

    Attributes:
        file: the data.yaml.
        names: name of each class number.
        splits: folders and lists of images of each split.
    """

    file: Path
    names: dict[int, str]
    splits: dict[Split, list[Path]]


def read_description(file: Path) -> Description:
    """Read a data.yaml.

    A relative `path` is relative to the file; if there is no such folder, the file's own folder is taken, for
    data.yaml files travel with their images. `../train` of an export is looked up as `train` if the former
    does not exist.

    Raises:
        DataError: if the file is missing or malformed, or lacks `names`, `train` or `val`.
    """
    try:
        data = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): give the path of a data.yaml") from None
    # Values that look like dates or numbers but are none raise ValueError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{file} is not valid YAML ({' '.join(str(error).split())}): correct it") from None
    if not isinstance(data, dict):
        raise DataError(f"{file} is not a data.yaml: it holds no mapping with train, val and names")
    folder = data.get("path") or ""
    if not isinstance(folder, str):
        raise DataError(f"{file}: path must be a folder, not {folder!r}")
    root = file.parent / folder
    root = root if _exists(root) else file.parent
    splits: dict[Split, list[Path]] = {}
    for split in ("train", "val", "test"):
        if data.get(split) is None and split == "test":
            continue
        places = data.get(split)
        places = places if isinstance(places, list) else [places]
        if not places or not all(isinstance(place, str) and place for place in places):
            raise DataError(
                f"{file}: {split} must be a folder, a list of folders or a text file of image paths"
            )
        splits[split] = [_place(root, place) for place in places]
    return Description(file, _names(file, data), splits)


def _place(root: Path, place: str) -> Path:
    path = root / place
    return root / place[3:] if place.startswith("../") and not _exists(path) else path


def _names(file: Path, data: dict[str, Any]) -> dict[int, str]:
    names = data.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or sorted(map(str, names)) != sorted(map(str, range(len(names)))):
        raise DataError(f"{file}: names must be a list, or a mapping from 0, 1, 2, ... to the class names")
    for name in names.values():
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise DataError(f"{file}: names must be texts, but one of them is {name!r}: put it in quotes")
    return {int(number): str(name) for number, name in names.items()}


def read_yolo(
    description: Description,
    split: Split,
    ignore_categories: Sequence[str] = (),
    class_names: Sequence[str] | None = None,
    problems: Problems | None = None,
) -> Records:
    """Read one split of a YOLO data set.

    Image ids count the images from 1 in the order of their paths. An image without a label file has no
    objects; how many are so is said once. Boxes without size are left out, with one warning.

    Args:
        description: the data.yaml.
        split: which split.
        ignore_categories: names of categories that mark regions with unlabelled objects.
        class_names: order of the class indices; the data.yaml's own order if not given.
        problems: takes what is wrong with single images; the first is raised if not given.

    Raises:
        DataError: if there is no image or no label file, a row is malformed, or an object's category is
            neither among the class names nor ignored.
    """
    problems = problems or Problems()
    categories = Categories(description.file, description.names, ignore_categories, class_names)
    paths = _image_paths(description, split)
    headers = check_images(paths, description.file, problems)
    images, unlabelled = [], []
    for image_id, path in enumerate(paths, start=1):
        if path not in headers:
            continue
        if not headers[path].upright:
            problems.add(
                f"{path} is stored turned or mirrored (EXIF), so its labels may lie elsewhere: turn its "
                "pixels, and remove the EXIF orientation",
                str(path),
            )
        objects = ObjectList(
            ImageInfo(image_id, _relative(path, description.file.parent), headers[path].size)
        )
        label_file = label_path(path)
        if label_file.is_file():
            _read_rows(label_file, path, objects, categories, problems)
        else:
            unlabelled.append(label_file)
        images.append((path, objects))
    if unlabelled:
        message = f"{len(unlabelled)} of {len(images)} images have no label file, such as {unlabelled[0]}"
        if len(unlabelled) == len(images):
            raise DataError(f"{description.file}, {split}: {message}: put the label files there")
        rank_zero_warn(f"{description.file}, {split}: {message}: they are taken to have no objects")
    return categories.records(images, problems)


def label_path(image: Path) -> Path:
    """Where the labels of an image lie: in `labels` instead of the last folder `images` of its path."""
    parts = list(image.with_suffix(".txt").parts)
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts)


def _image_paths(description: Description, split: Split) -> list[Path]:
    paths: set[Path] = set()
    for place in description.splits[split]:
        if _exists(place) and place.is_dir():
            paths |= {path for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
        elif place.suffix == ".txt" and _exists(place):
            paths |= _listed(place)
        else:
            raise DataError(
                f"{place} is neither a folder nor a .txt file: correct {split} or path in {description.file}"
            )
    if not paths:
        places = ", ".join(str(place) for place in description.splits[split])
        raise DataError(f"{places} holds no images: correct {split} or path in {description.file}")
    return sorted(paths)


def _listed(file: Path) -> set[Path]:
    """Images that a text file lists, relative to its folder."""
    try:
        rows = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({error}): it must list one image path a line") from None
    return {file.parent / row.strip() for row in rows if row.strip()}


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _read_rows(
    path: Path, image: Path, objects: ObjectList, categories: Categories, problems: Problems
) -> None:
    try:
        rows = text_rows(path, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problems.add(f"{path} cannot be read ({error}): restore the file", str(image))
        return
    for where, row in rows:
        try:
            values = [float(value) for value in row.split()]
            category = values[0]
            if category not in categories:
                raise ValueError(f"class {category:g} is not among the names of {categories.source}")
            box, label = _box(values[1:], objects.info.size), categories.label(int(category), where)
            objects.add(box, label)
            problems.row(where, str(image), objects.info, box, label)
        except DataError:
            raise
        except ValueError as error:
            problems.add(
                f"{where} is malformed ({error}): it must be a class number and cx cy w h, or the corners "
                "of a polygon, as shares of the image",
                str(image),
            )


def _box(values: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """(x, y, w, h) in pixels of a row's shares: a box's, or a polygon's of three corners or more."""
    if not all(math.isfinite(value) and -TOLERANCE <= value <= 1 + TOLERANCE for value in values):
        raise ValueError(f"its numbers are not all in 0..1: {' '.join(f'{value:g}' for value in values[:8])}")
    if len(values) == 4:
        cx, cy, w, h = values
        left, top = cx - w / 2, cy - h / 2
    elif len(values) >= 6 and len(values) % 2 == 0:
        left, top = min(values[::2]), min(values[1::2])
        w, h = max(values[::2]) - left, max(values[1::2]) - top
    else:
        raise ValueError(f"it has {len(values)} numbers after the class")
    height, width = size
    return left * width, top * height, w * width, h * height

"""Data sets in the folders and text files of the YOLO family, described by a data.yaml.

Format: one row an object, `class cx cy w h` as shares of the image's width and height; a class and the
corners of a polygon, `class x1 y1 x2 y2 x3 y3 ...`; or, where data.yaml has a kpt_shape, a box and its key
points, `class cx cy w h px1 py1 [v1] ...`; https://docs.ultralytics.com/datasets/detect/.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.files import exists, named_below, read_bytes, read_text, reason, sidecar
from datamodules.formats.categories import Categories
from datamodules.formats.rows import ImageRows, text_rows
from datamodules.formats.values import columns, number, numbers, shown, whole
from datamodules.formats.yolo_rows import ClassNumbers, PoseSuspicion, pixels
from datamodules.images.headers import check_images, images_in, same_names
from datamodules.parsing import load_yaml
from datamodules.problems import DataError, Problems
from datamodules.records import Records, Split

REMEDY = "it must be a class number and cx cy w h, or the corners of a polygon, as shares of the image"


@dataclass(frozen=True, slots=True)
class Description:
    """What a data.yaml says.

    Attributes:
        file: the data.yaml.
        names: name of each class number.
        splits: folders and lists of images of each split.
        key_points: number of values after the box in rows with key points; None if rows have none.
        declared: whether it says so, rather than nothing.
    """

    file: Path
    names: dict[int, str]
    splits: dict[Split, list[Path]]
    key_points: int | None = None
    declared: bool = False


def read_description(file: Path, needed: Sequence[Split] = ("train", "val")) -> Description:
    """Read a data.yaml.

    A relative `path` is relative to the file; if there is no such folder, the file's own folder is taken, for
    data.yaml files travel with their images. `../train` of an export is looked up as `train` if the former
    does not exist.

    Args:
        file: the data.yaml.
        needed: splits that it must have.

    Raises:
        DataError: if the file is missing or malformed, or lacks `names` or a split.
    """
    data = _load(file)
    folder = data.get("path") or ""
    if not isinstance(folder, str):
        raise DataError(f"{file}: path must be a folder, not {shown(folder)}")
    root = file.parent / folder
    root = root if exists(root) else file.parent
    splits: dict[Split, list[Path]] = {}
    for split in ("train", "val", "test"):
        if data.get(split) is None and split not in needed:
            continue
        places = data.get(split)
        places = places if isinstance(places, list) else [places]
        if not places or not all(isinstance(place, str) and place for place in places):
            absent = "; without one, data.val_fraction takes it from train" if split == "val" else ""
            others = {str(key).lower(): key for key in data if key not in ("train", "val", "test", "names")}
            close = get_close_matches(split, others, 1) or [key for key in others if key.startswith(split)]
            meant = f" (is {others[close[0]]} meant?)" if close else ""
            raise DataError(
                f"{file}: {split} must be a folder, a list of folders or a text file of image paths"
                f"{absent}{meant}"
            )
        splits[split] = [_place(root, place) for place in places]
    return Description(file, _names(file, data), splits, _key_points(file, data), "kpt_shape" in data)


def _load(file: Path) -> dict[str, Any]:
    try:
        content = read_bytes(file)
        data = load_yaml(content)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({reason(error)}): give the path of a data.yaml") from None
    # Values that look like dates or numbers but are none raise ValueError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{file} is not valid YAML ({' '.join(str(error).split())}): correct it") from None
    if not isinstance(data, dict):
        raise DataError(f"{file} is not a data.yaml: it holds no mapping with train, val and names")
    return data


def _place(root: Path, place: str) -> Path:
    path = named_below(root, place)
    return named_below(root, place[3:]) if place.startswith("../") and not exists(path) else path


def _names(file: Path, data: dict[str, Any]) -> dict[int, str]:
    names = data.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or sorted(map(str, names)) != sorted(map(str, range(len(names)))):
        raise DataError(f"{file}: names must be a list, or a mapping from 0, 1, 2, ... to the class names")
    for name in names.values():
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise DataError(f"{file}: names must be texts, but one is {shown(name)}: put it in quotes")
        if not str(name).strip():
            raise DataError(f"{file}: names has one that is blank: correct it")
    try:
        count = len(names) if data.get("nc") is None else whole(data["nc"], "nc")
    except ValueError as error:
        raise DataError(f"{file}: {error}: correct or remove it") from None
    if count != len(names):
        raise DataError(f"{file}: nc is {count}, but names has {len(names)}: correct one of them")
    return {int(number): str(name).strip() for number, name in names.items()}


def _key_points(file: Path, data: dict[str, Any]) -> int | None:
    shape = data.get("kpt_shape")
    if shape is None:
        return None
    try:
        count, values = (int(item) for item in numbers(shape, ("points", "numbers"), "kpt_shape"))
        if count < 1 or values not in (2, 3):
            raise ValueError("no such key points")
    except ValueError:
        raise DataError(
            f"{file}: kpt_shape is {shown(shape)}: it must be [number of key points, 2 or 3]"
        ) from None
    return count * values


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
    images, unlabelled, poses = [], [], PoseSuspicion()
    classes = ClassNumbers(description.file, len(description.names))
    file_names = _file_names(paths, description.file.parent)
    for image_id, (path, name) in enumerate(zip(paths, file_names, strict=True), start=1):
        if path not in headers:
            continue
        image = ImageRows(path, image_id, name, headers[path])
        label_file = sidecar(label_path(path))
        if exists(label_file):
            _read_rows(label_file, image, description.key_points, categories, problems, poses, classes)
        else:
            unlabelled.append(label_file)
        images.append(image)
    classes.judge(REMEDY, problems)
    source = f"{description.file}, {split}"
    if not description.declared:
        poses.judge(source)
    if unlabelled:
        message = f"{len(unlabelled)} of {len(images)} images have no label file, such as {unlabelled[0]}"
        if len(unlabelled) == len(images):
            raise DataError(f"{source}: {message}: put the label files there")
        rank_zero_warn(f"{source}: {message}: they are taken to have no objects")
    if groups := same_names(paths):
        pair = " and ".join(map(str, groups[0]))
        rank_zero_warn(f"{source}: {len(groups)} label files are of several images each, such as {pair}")
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
        if exists(place) and place.is_dir():
            paths |= set(images_in(place, deep=True))
        elif place.suffix.lower() == ".txt" and exists(place):
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
        rows = read_text(file).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file} cannot be read ({reason(error)}): it must list one image path a line"
        ) from None
    return {named_below(file.parent, row.strip()) for row in rows if row.strip()}


def _file_names(paths: Sequence[Path], folder: Path) -> list[str]:
    """Where images lie in the folder of the data.yaml, or if some do not, in the innermost that holds all."""
    if not all(path.is_relative_to(folder) for path in paths):
        paths = [Path(os.path.abspath(path)) for path in paths]
        try:
            folder = Path(os.path.commonpath([path.parent for path in paths]))
        except ValueError:  # on several drives
            return [path.name for path in paths]
    return [path.relative_to(folder).as_posix() for path in paths]


def _read_rows(
    file: Path,
    image: ImageRows,
    key_points: int | None,
    categories: Categories,
    problems: Problems,
    poses: PoseSuspicion,
    classes: ClassNumbers,
) -> None:
    rows: list[tuple[str, str]] = []
    with problems.of_file(file, "restore it", image.path):
        rows = text_rows(file)
    for place, row in rows:
        with problems.of_row(place, REMEDY, image.path):
            first, *rest = columns(row)
            category = whole(first, "the class")
            if not classes.known(category, place, image.path):
                continue
            values = [number(value, "a share") for value in rest]
            if key_points is not None:
                if len(values) not in (4, 4 + key_points):
                    raise ValueError(
                        f"it has {len(values)} numbers after the class, not 4 and {key_points} of key points"
                    )
                values = values[:4]
            poses.see(values, place)
            image.add(place, pixels(values, image.info.size), categories.label(category, place))

"""COCO data sets: a JSON of annotations and a folder of images.

Format: https://cocodataset.org/#format-data, sections 1 "Object Detection".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.batch import ImageInfo
from datamodules.formats.categories import Categories
from datamodules.formats.rows import ObjectList
from datamodules.images.headers import check_images, require_size
from datamodules.problems import DataError, Problems
from datamodules.records import Records

MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a row raises when an entry is missing or of the wrong kind."""


def read_class_names(annotations: Path, ignore_categories: Sequence[str] = ()) -> list[str]:
    """Names of the categories of a COCO JSON, ascending by id, without the ignored ones.

    Raises:
        DataError: if the file is missing or malformed, or an ignored category is not in it.
    """
    names = _category_names(annotations, _load(annotations))
    return Categories(annotations, names, ignore_categories).class_names


def read_coco(
    annotations: Path,
    images: Path,
    ignore_categories: Sequence[str] = (),
    class_names: Sequence[str] | None = None,
    problems: Problems | None = None,
) -> Records:
    """Read a COCO data set.

    Crowd annotations become ignore boxes of their class, annotations of `ignore_categories` ignore boxes
    of every class. Boxes without size or wholly outside their image are left out, with one warning.

    Args:
        annotations: COCO JSON file.
        images: folder that the `file_name`s are relative to.
        ignore_categories: names of categories that mark regions with unlabelled objects.
        class_names: order of the class indices; the file's own order by category id if not given.
            Names that the file does not have get new category ids above its largest.
        problems: takes what is wrong with single images; the first is raised if not given.

    Raises:
        DataError: if a file is missing or malformed, the data set is empty, or an annotation's category is
            neither among the class names nor ignored.
    """
    problems = problems or Problems()
    data = _load(annotations)
    categories = Categories(annotations, _category_names(annotations, data), ignore_categories, class_names)
    if not images.is_dir():
        raise DataError(f"{images} is not a folder: give the folder of the images of {annotations}")
    infos = _infos(annotations, images, data, problems)
    paths = {id_: images / info.file_name for id_, info in infos.items() if info}
    headers = check_images(list(paths.values()), annotations, problems)

    objects = {id_: ObjectList(info) for id_, info in infos.items() if info}
    for id_, image in objects.items():
        if header := headers.get(paths[id_]):
            require_size(paths[id_], header, image.info.size, str(annotations), problems)
    for row, entry in enumerate(_list(annotations, data, "annotations")):
        where, path = f"{annotations}: annotations[{row}]", None
        try:
            id_ = entry["image_id"]
            if id_ not in infos:
                raise ValueError(f"image_id {id_} is not among the images")
            if id_ not in objects:  # of an image whose own row is malformed
                continue
            path = str(paths[id_])
            if entry["category_id"] not in categories:
                raise ValueError(f"category_id {entry['category_id']} is not among the categories")
            x, y, w, h = (float(value) for value in entry["bbox"])
            area = float(entry.get("area", w * h))
            label = categories.label(entry["category_id"], where)
            ignore = bool(entry.get("iscrowd"))
            objects[id_].add((x, y, w, h), label, area, ignore)
            problems.row(where, path, objects[id_].info, (x, y, w, h), label, ignore)
        except DataError:
            raise
        except MALFORMED as error:
            problems.add(_malformed(where, error), path)
    return categories.records([(path, objects[id_]) for id_, path in sorted(paths.items())], problems)


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give the path of a COCO JSON") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}): export the annotations again") from None
    if not isinstance(data, dict):
        raise DataError(f"{path} is not a COCO file: it holds a {type(data).__name__}, not an object")
    return data


def _list(path: Path, data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list):
        raise DataError(f"{path} is not a COCO file: it has no list '{key}'")
    return value


def _malformed(where: str, error: Exception) -> str:
    reason = f"no entry {error}" if isinstance(error, KeyError) else str(error)
    return f"{where} is malformed ({reason}): correct or remove it"


def _category_names(path: Path, data: dict[str, Any]) -> dict[int, str]:
    """Name by category id."""
    names: dict[int, str] = {}
    for row, entry in enumerate(_list(path, data, "categories")):
        try:
            id_ = _id(entry)
            if id_ in names:
                raise ValueError(f"category id {id_} occurs twice")
            names[id_] = str(entry["name"])
        except MALFORMED as error:
            raise DataError(_malformed(f"{path}: categories[{row}]", error)) from None
    return names


def _infos(path: Path, images: Path, data: dict[str, Any], problems: Problems) -> dict[int, ImageInfo | None]:
    """What the rows say about each image, by its id; None for one whose row is malformed."""
    rows = _list(path, data, "images")
    if not rows:
        raise DataError(f"{path} lists no images: a data set needs at least one")
    infos: dict[int, ImageInfo | None] = {}
    for row, entry in enumerate(rows):
        where, id_ = f"{path}: images[{row}]", None
        try:
            id_ = _id(entry)
            if id_ in infos:
                raise ValueError(f"image id {id_} occurs twice")
            info = ImageInfo(id_, str(entry["file_name"]), (int(entry["height"]), int(entry["width"])))
            if min(info.size) < 1:
                raise ValueError(f"height and width are {info.size}")
            infos[id_] = info
        except MALFORMED as error:
            problems.add(_malformed(where, error), where)
            if id_ is not None:  # of two images of one id, neither can be told from the other
                if twin := infos.get(id_):
                    problems.images.add(str(images / twin.file_name))
                infos[id_] = None
    return infos


def _id(entry: dict[str, Any]) -> int:
    id_ = int(entry["id"])
    if abs(id_) >= 2**63:
        raise ValueError(f"id {id_} has more than 64 bits")
    return id_

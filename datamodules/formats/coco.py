"""COCO data sets: a JSON of annotations and a folder of images.

Format: https://cocodataset.org/#format-data, sections 1 "Object Detection".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from datamodules.files import named_below, read_bytes, reason
from datamodules.formats.categories import Categories
from datamodules.formats.rows import ImageRows
from datamodules.formats.values import (
    IGNORE_FLAGS,
    entry,
    flag,
    number,
    numbers,
    shown,
    side,
    text,
    unknown,
    whole,
)
from datamodules.images.headers import annotated_turn, check_images
from datamodules.problems import DataError, Problems
from datamodules.records import Records

Documents = MutableMapping[Path, dict[str, Any]]

REMEDY = "correct or remove it"
BOX = ("bbox's x", "bbox's y", "bbox's width", "bbox's height")


def read_categories(annotations: Path, documents: Documents | None = None) -> dict[int, str]:
    """Name of each category id of a COCO JSON.

    Of ids of one name those count that are annotated: exports list a parent of its child's name.

    Args:
        annotations: the file.
        documents: takes its content, for `read_coco`, so that a large file is parsed once.

    Raises:
        DataError: if the file is missing or malformed.
    """
    data = _load(annotations)
    if documents is not None:
        documents[annotations] = data
    return _category_names(annotations, data)


def read_coco(
    annotations: Path,
    images: Path,
    ignore_categories: Sequence[str] = (),
    class_names: Sequence[str] | None = None,
    problems: Problems | None = None,
    documents: Documents | None = None,
) -> Records:
    """Read a COCO data set.

    Crowd annotations become ignore boxes of their class, annotations of `ignore_categories` ignore boxes
    of every class. Boxes without size or wholly outside their image are left out, with one warning. Numbers
    and flags may be texts; a height or width that is missing, null or 0 is the image's own. Ids that are all
    texts, and no numbers, become their positions from 1.

    Args:
        annotations: COCO JSON file.
        images: folder that the `file_name`s are relative to.
        ignore_categories: names of categories that mark regions with unlabelled objects.
        class_names: order of the class indices; the file's own order by category id if not given.
            Names that the file does not have get new category ids above its largest.
        problems: takes what is wrong with single images; the first is raised if not given.
        documents: content of files that have been parsed already; taken out.

    Raises:
        DataError: if a file is missing or malformed, the data set is empty, or an annotation's category is
            neither among the class names nor ignored.
    """
    problems = problems or Problems()
    data = (documents or {}).pop(annotations, None) or _load(annotations)
    categories = Categories(annotations, _category_names(annotations, data), ignore_categories, class_names)
    if not images.is_dir():
        raise DataError(f"{images} is not a folder: give the folder of the images of {annotations}")
    read_id = _ids(_list(annotations, data, "images"))
    read_category = _ids(_list(annotations, data, "categories"))
    listed = _listed(annotations, images, data, read_id, problems)
    paths = [path for path, _, _ in filter(None, listed.values())]
    headers = check_images(paths, annotations, problems)
    found = {}
    for id_, listing in listed.items():
        if listing is not None and (header := headers.get(listing[0])):
            path, name, size = listing
            frame = annotated_turn(path, header, size, str(annotations), problems)
            found[id_] = ImageRows(path, id_, name, header, frame)

    for row, content in enumerate(_list(annotations, data, "annotations")):
        place = f"{annotations}: annotations[{row}]"
        with problems.of_row(place, REMEDY) as attempt:
            id_ = read_id(entry(content, "image_id"), "image_id")
            if id_ not in listed:
                raise ValueError(f"image_id {id_} is not among the images")
            if image := found.get(id_):
                attempt.image = str(image.path)
                category = read_category(entry(content, "category_id"), "category_id")
                _add(content, place, image, category, categories)
    return categories.records([image for _, image in sorted(found.items())], problems)


def _add(
    content: dict[str, Any], place: str, image: ImageRows, category: int, categories: Categories
) -> None:
    if category not in categories:
        raise ValueError(f"category_id {category} is not among the categories")
    x, y, w, h = numbers(entry(content, "bbox"), BOX, "bbox")
    area = content.get("area")
    area = None if unknown(area) else number(area, "area")
    if area is not None and area < 0:
        raise ValueError(f"area is {area}")
    ignore = any([flag(content[key], key) for key in IGNORE_FLAGS if key in content])
    image.add(place, (x, y, w, h), categories.label(category, place), area, ignore)


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(read_bytes(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({reason(error)}): give the path of a COCO JSON") from None
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


def _ids(rows: list[Any]) -> Callable[[object, str], int]:
    """How ids are read that rows define: whole numbers, or where all are other texts, positions from 1."""
    ids = [content.get("id") if isinstance(content, dict) else None for content in rows]
    texts = [id_ for id_ in ids if isinstance(id_, str) and id_.strip()]
    if len(texts) < len(ids) or all(id_.strip().isdecimal() for id_ in texts):
        return whole
    positions = {id_: position for position, id_ in enumerate(dict.fromkeys(texts), start=1)}

    def read(value: object, name: str) -> int:
        if not isinstance(value, str) or value not in positions:
            raise ValueError(f"{name} {shown(value)} is not among the ids")
        return positions[value]

    return read


def _category_names(path: Path, data: dict[str, Any]) -> dict[int, str]:
    """Name by category id."""
    names: dict[int, str] = {}
    read = _ids(_list(path, data, "categories"))
    for row, content in enumerate(_list(path, data, "categories")):
        try:
            id_ = read(entry(content, "id"), "id")
            if id_ in names:
                raise ValueError(f"category id {id_} occurs twice")
            names[id_] = text(entry(content, "name"), "name")
        except ValueError as error:
            raise DataError(f"{path}: categories[{row}] is malformed ({error}): {REMEDY}") from None
    count = Counter(names.values())
    if max(count.values(), default=0) > 1:
        used = _used_categories(_list(path, data, "annotations"), read)
        kept = {name for id_, name in names.items() if id_ in used}
        names = {id_: name for id_, name in names.items() if id_ in used or name not in kept}
    return names


def _used_categories(rows: list[Any], read: Callable[[object, str], int]) -> set[int]:
    used = set()
    for content in rows:
        with suppress(ValueError):
            used.add(read(entry(content, "category_id"), "category_id"))
    return used


def _listed(
    annotations: Path,
    images: Path,
    data: dict[str, Any],
    read_id: Callable[[object, str], int],
    problems: Problems,
) -> dict[int, tuple[Path, str, tuple[int, int] | None] | None]:
    """Path, file name and (height, width), if known, of each image by its id; None for a malformed row."""
    rows = _list(annotations, data, "images")
    if not rows:
        raise DataError(f"{annotations} lists no images: a data set needs at least one")
    listed: dict[int, tuple[Path, str, tuple[int, int] | None] | None] = {}
    for row, content in enumerate(rows):
        place, id_ = f"{annotations}: images[{row}]", None
        with problems.of_row(place, REMEDY, place):
            id_ = read_id(entry(content, "id"), "id")
            if id_ in listed:  # of two images of one id, neither can be told from the other
                if twin := listed[id_]:
                    problems.images.add(str(twin[0]))
                listed[id_] = None
                raise ValueError(f"image id {id_} occurs twice")
            listed[id_] = None
            name = entry(content, "file_name")
            if not isinstance(name, str) or not name:
                raise ValueError(f"file_name is {shown(name)}, not a text")
            height, width = (side(content.get(key), key) for key in ("height", "width"))
            listed[id_] = named_below(images, name), name, (height, width) if height and width else None
    return listed

"""COCO data sets: a JSON of annotations and a folder of images.

Format: https://cocodataset.org/#format-data, sections 1 "Object Detection".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.base import DetectionDataModule
from datamodules.batch import ANY_CLASS, ImageInfo
from datamodules.records import DataError, ObjectList, Reader, Record, Records, Split

MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a row raises when an entry is missing or of the wrong kind."""


class CocoDataModule(DetectionDataModule):
    """A data set in COCO's format.

    Args:
        train_images: folder of the training images.
        train_annotations: COCO JSON of the training images.
        val_images: folder of the validation images.
        val_annotations: COCO JSON of the validation images.
        ignore_categories: categories that mark regions with unlabelled objects of any class.
        class_names: order of the classes, where a trained model sets it; the data set's own categories
            ascending by id if not given.
        **options: see `DetectionDataModule`.

    Raises:
        DataError: if class names are needed and `val_annotations` cannot be read.
    """

    def __init__(
        self,
        train_images: Path,
        train_annotations: Path,
        val_images: Path,
        val_annotations: Path,
        ignore_categories: Sequence[str] = (),
        class_names: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        readers: dict[Split, Reader] = {
            "train": partial(read_coco, train_annotations, train_images, ignore_categories),
            "val": partial(read_coco, val_annotations, val_images, ignore_categories),
        }
        # The smaller file: COCO's own training annotations take 20 s to parse.
        names = class_names or read_class_names(val_annotations, ignore_categories)
        super().__init__(readers, names, **options)


def read_class_names(annotations: Path, ignore_categories: Sequence[str] = ()) -> list[str]:
    """Names of the categories of a COCO JSON, ascending by id, without the ignored ones.

    Raises:
        DataError: if the file is missing or malformed, or an ignored category is not in it.
    """
    categories = _categories(annotations, _load(annotations), ignore_categories)
    return [name for name in categories.values() if name not in ignore_categories]


def read_coco(
    annotations: Path,
    images: Path,
    ignore_categories: Sequence[str] = (),
    class_names: Sequence[str] | None = None,
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

    Raises:
        DataError: if a file is missing or malformed, the data set is empty, or an annotation's category is
            neither among the class names nor ignored.
    """
    data = _load(annotations)
    categories = _categories(annotations, data, ignore_categories)
    own_names = [name for name in categories.values() if name not in ignore_categories]
    names = list(class_names) if class_names else own_names
    labels = {
        id_: ANY_CLASS if name in ignore_categories else names.index(name)
        for id_, name in categories.items()
        if name in names or name in ignore_categories
    }
    infos = _infos(annotations, data)
    _require_images(annotations, images, infos)

    objects = {id_: ObjectList(info) for id_, info in infos.items()}
    for row, entry in enumerate(_list(annotations, data, "annotations")):
        try:
            category = entry["category_id"]
            if category not in categories:
                raise ValueError(f"category_id {category} is not among the categories")
            if entry["image_id"] not in objects:
                raise ValueError(f"image_id {entry['image_id']} is not among the images")
            x, y, w, h = (float(value) for value in entry["bbox"])
            area = float(entry.get("area", w * h))
            label = labels.get(category)
            if label is not None:
                objects[entry["image_id"]].add((x, y, w, h), label, area, ignore=bool(entry.get("iscrowd")))
        except MALFORMED as error:
            _malformed(annotations, "annotations", row, error)
        if label is None:
            raise DataError(
                f"{annotations}: annotations[{row}] is of category '{categories[category]}', which the model "
                f"does not know (it knows {', '.join(names)}): add it to data.ignore_categories, or train a "
                "model on it"
            )
    vanished = sum(image.vanished for image in objects.values())
    if vanished:
        rank_zero_warn(f"{annotations}: {vanished} boxes without size or outside their image are left out")
    return Records(
        class_names=names,
        category_ids=_category_ids(names, categories),
        images=[
            Record(str(images / info.file_name), info, objects[id_].annotations())
            for id_, info in sorted(infos.items())
        ],
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give the path of a COCO JSON") from None
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}): export the annotations again") from None
    if not isinstance(data, dict):
        raise DataError(f"{path} is not a COCO file: it holds a {type(data).__name__}, not an object")
    return data


def _list(path: Path, data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list):
        raise DataError(f"{path} is not a COCO file: it has no list '{key}'")
    return value


def _malformed(path: Path, key: str, row: int, error: Exception) -> NoReturn:
    reason = f"no entry {error}" if isinstance(error, KeyError) else str(error)
    raise DataError(f"{path}: {key}[{row}] is malformed ({reason}): correct or remove it") from None


def _categories(path: Path, data: dict[str, Any], ignored: Sequence[str]) -> dict[int, str]:
    """Name by id, ascending by id."""
    categories: dict[int, str] = {}
    for row, entry in enumerate(_list(path, data, "categories")):
        try:
            id_ = int(entry["id"])
            if id_ in categories:
                raise ValueError(f"category id {id_} occurs twice")
            categories[id_] = str(entry["name"])
        except MALFORMED as error:
            _malformed(path, "categories", row, error)
    if unknown := [name for name in ignored if name not in categories.values()]:
        raise DataError(
            f"{path} has no category {unknown} named in data.ignore_categories: "
            f"its categories are {', '.join(categories.values())}"
        )
    if len(set(categories.values())) < len(categories):
        raise DataError(f"{path} has categories of the same name: give each name one id")
    if set(categories.values()) <= set(ignored):
        raise DataError(f"{path} has no category to detect: its categories are {list(categories.values())}")
    return dict(sorted(categories.items()))


def _infos(path: Path, data: dict[str, Any]) -> dict[int, ImageInfo]:
    infos: dict[int, ImageInfo] = {}
    for row, entry in enumerate(_list(path, data, "images")):
        try:
            info = ImageInfo(
                image_id=int(entry["id"]),
                file_name=str(entry["file_name"]),
                size=(int(entry["height"]), int(entry["width"])),
            )
            if min(info.size) < 1:
                raise ValueError(f"height and width are {info.size}")
            if info.image_id in infos:
                raise ValueError(f"image id {info.image_id} occurs twice")
        except MALFORMED as error:
            _malformed(path, "images", row, error)
        infos[info.image_id] = info
    if not infos:
        raise DataError(f"{path} lists no images: a data set needs at least one")
    return infos


def _require_images(path: Path, images: Path, infos: dict[int, ImageInfo]) -> None:
    """Fail now, not in a worker an hour later; one listing a folder, not one look-up a file."""
    if not images.is_dir():
        raise DataError(f"{images} is not a folder: give the folder of the images of {path}")
    paths = [images / info.file_name for info in infos.values()]
    present = {file for folder in {p.parent for p in paths} if folder.is_dir() for file in folder.iterdir()}
    if missing := [p for p in paths if p not in present]:
        raise DataError(
            f"{missing[0]} does not exist; {len(missing)} of the {len(paths)} images of {path} are missing: "
            "check the image folder, or remove them from the annotations"
        )


def _category_ids(names: Sequence[str], categories: dict[int, str]) -> list[int]:
    ids = {name: id_ for id_, name in categories.items()}
    for name in names:
        ids.setdefault(name, max(ids.values()) + 1)
    return [ids[name] for name in names]

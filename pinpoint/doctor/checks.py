"""What is wrong with the images, files and classes of a data set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from datamodules.files import IMAGE_SUFFIXES
from datamodules.images.orientation import UPRIGHT
from datamodules.records import Record, Split
from pinpoint.doctor.findings import Finding
from pinpoint.doctor.near_duplicates import Pair
from pinpoint.doctor.objects import Objects
from pinpoint.doctor.pixels import Pixels, unusual_modes

RARE = 50
"""A class is rare if the most frequent one has more than so many times its objects."""

SHARED: tuple[tuple[Split, Split, str], ...] = (
    ("val", "train", "leak"),
    ("test", "train", "leak"),
    ("test", "val", "chosen-on"),
)
"""Splits that should have no image file of another, and the kind of finding if they do."""

IMAGE_FOLDERS = ("images", "JPEGImages")
"""Names of image folders, beside which YOLO, VisDrone and VOC keep a file of annotations for each image."""

LABEL_FOLDERS = ("labels", "annotations", "Annotations")
LABEL_SUFFIXES = {".txt", ".xml"}
NO_LABELS = ("classes.txt", "notes.txt")
"""What annotation tools write beside the files of the YOLO family."""


def check_images(
    records: Sequence[Record], pixels: Sequence[Pixels] | None, split: Split
) -> Iterator[Finding]:
    """Look at every image for itself.

    Args:
        records: the images of a split.
        pixels: what decoding each of them told; None if that was not asked.
        split: the split.
    """
    for record in records:
        if not len(record.annotations.boxes):
            yield Finding("empty", split, record.path, f"{record.path}: no objects")
        if record.turn != UPRIGHT:
            yield Finding("turned", split, record.path, f"{record.path}: EXIF orientation {record.turn}")
    for record, image, odd in zip(records, pixels or (), unusual_modes(pixels or ()), strict=False):
        if image.error:
            yield Finding("unreadable", split, record.path, f"{record.path}: {image.error}")
        elif odd:
            yield Finding("mode", split, record.path, f"{record.path}: {odd}")
        if image.damage:
            yield Finding("damaged", split, record.path, f"{record.path}: {image.damage}")


def check_shared(records: Mapping[Split, Sequence[Record]]) -> Iterator[Finding]:
    """Look for image files that are in two splits.

    Args:
        records: the images of each split that could be read.
    """
    for split, other, kind in SHARED:
        files = {os.path.abspath(record.path) for record in records.get(other, ())}
        for path in (record.path for record in records.get(split, ())):
            if os.path.abspath(path) in files:
                yield Finding(kind, split, path, f"{path}: is an image of {other} too")


def check_orphans(paths: Mapping[str, Split]) -> Iterator[Finding]:
    """Look for images that no annotation names, and label files without image, in the folders of the images.

    Args:
        paths: every image that the annotations name, and the split that it belongs to.
    """
    folders: dict[Path, dict[Path, Split]] = {}
    for path, split in paths.items():
        folders.setdefault(Path(path).parent, {})[Path(path)] = split
    for folder, named in sorted(folders.items()):
        split = next(iter(named.values()))
        for file in _files(folder, IMAGE_SUFFIXES):
            if file not in named:
                yield Finding("orphan", split, str(file), f"{file}: no annotation names this image")
        stems = {image.stem for image in named}
        for labels in _label_folders(folder):
            for file in _files(labels, LABEL_SUFFIXES):
                if file.stem not in stems and file.name not in NO_LABELS:
                    yield Finding("orphan", split, str(file), f"{file}: annotations without an image")


def check_classes(objects: Mapping[Split, Objects], class_names: Sequence[str]) -> Iterator[Finding]:
    """Look for classes that are rare in training, or only in validation, and for one class of two names.

    Args:
        objects: the objects of the splits that could be read.
        class_names: name of each class index.
    """
    alike: dict[str, list[str]] = {}
    for name in class_names:
        alike.setdefault(name.casefold(), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            named = " and ".join(f"'{name}'" for name in names)
            yield Finding("case", "train", "", f"classes {named} differ in capital letters alone")
    if "train" not in objects:
        return
    train = objects["train"].per_class(len(class_names))
    val = objects["val"].per_class(len(class_names)) if "val" in objects else np.zeros_like(train)
    for name, in_train, in_val in zip(class_names, train, val, strict=True):
        if not in_train and in_val:
            yield Finding("unseen", "val", "", f"class '{name}': {in_val} objects in val, none in train")
        elif in_train * RARE < train.max():
            most = class_names[int(train.argmax())]
            message = f"class '{name}': {in_train} objects, where '{most}' has {train.max()}"
            yield Finding("rare", "train", "", message)


def describe_pairs(
    pairs: Sequence[Pair], records: Sequence[Record], others: Sequence[Record], split: Split, leak: bool
) -> Iterator[Finding]:
    """Name the images of near duplicates.

    Args:
        pairs: indices into the two.
        records: the images of the split.
        others: the images that they were found among.
        split: the split of the first.
        leak: whether the others are those of training.
    """
    for pair in pairs:
        path, other = records[pair.query].path, others[pair.other].path
        if leak and os.path.abspath(path) == os.path.abspath(other):
            continue  # `check_shared` has said it
        message = f"{path}: shows what {other} shows (correlation {pair.correlation:.3f})"
        yield Finding("leak" if leak else "repeat", split, path, message)


def _files(folder: Path, suffixes: set[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    files = (file for file in folder.iterdir() if not file.name.startswith("."))
    return sorted(file for file in files if file.suffix.lower() in suffixes)


def _label_folders(folder: Path) -> list[Path]:
    parts = folder.parts
    return [
        Path(*parts[:i], name, *parts[i + 1 :])
        for i, part in enumerate(parts)
        if part in IMAGE_FOLDERS
        for name in LABEL_FOLDERS
    ]

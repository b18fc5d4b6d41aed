"""VisDrone2019-DET in its own folders and text files.

Format: one row an object, `x,y,w,h,score,category,truncation,occlusion` in pixels, some rows with a trailing
comma; https://github.com/VisDrone/VisDrone2018-DET-toolkit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules.files import sidecar
from datamodules.formats.categories import Categories
from datamodules.formats.rows import ImageRows, text_rows
from datamodules.formats.values import columns, number, whole
from datamodules.images.headers import check_images, images_in, refuse_same_names
from datamodules.problems import DataError, Problems
from datamodules.records import Records

CLASS_NAMES = (
    "pedestrian",
    "people",
    "bicycle",
    "car",
    "van",
    "truck",
    "tricycle",
    "awning-tricycle",
    "bus",
    "motor",
)
"""Names of the categories 1 to 10."""

IGNORED = (0, 11)
"""Categories that mark regions with unlabelled objects: ignored regions and others."""

FIELDS = ("x", "y", "width", "height", "score", "category")
"""Of a row; truncation and occlusion follow."""

COLUMNS = 8

REMEDY = "it must be eight numbers x,y,w,h,score,category,truncation,occlusion"


def read_visdrone(
    folder: Path, class_names: Sequence[str] = CLASS_NAMES, problems: Problems | None = None
) -> Records:
    """Read one split of VisDrone.

    Rows of category 0 and 11 become ignore boxes of every class, other rows of score 0 ignore boxes of
    their own. Image ids count the images from 1 in the order of their file names. Boxes without size or
    wholly outside their image are left out, with one warning.

    Args:
        folder: the split's folder, with `images` and `annotations` in it.
        class_names: order of the class indices.
        problems: takes what is wrong with single images; the first is raised if not given.

    Raises:
        DataError: if a folder or file is missing, a row is malformed, or a category is not among the
            class names.
    """
    problems = problems or Problems()
    paths = images_in(folder / "images")
    if not paths:
        raise DataError(
            f"{folder / 'images'} holds no images: unpack VisDrone2019-DET there (or set "
            "data.download), so that data.root holds the folders VisDrone2019-DET-train, -val and -test-dev, "
            "each with images and annotations"
        )
    if not (folder / "annotations").is_dir():
        raise DataError(f"{folder / 'annotations'} is not a folder: unpack VisDrone2019-DET there")
    names = dict(enumerate(("ignored regions", *CLASS_NAMES, "others")))
    categories = Categories(folder, names, [names[category] for category in IGNORED], class_names)
    refuse_same_names(paths, problems)
    images = []
    headers = check_images(paths, folder, problems)
    for image_id, path in enumerate(paths, start=1):
        if path in headers:
            image = ImageRows(path, image_id, path.name, headers[path])
            _read_rows(sidecar(folder / "annotations" / f"{path.stem}.txt"), image, categories, problems)
            images.append(image)
    return categories.records(images, problems)


def _read_rows(file: Path, image: ImageRows, categories: Categories, problems: Problems) -> None:
    rows: list[tuple[str, str]] = []
    missing = "each image needs a text file of its name, empty if nothing is in it"
    with problems.of_file(file, missing, image.path):
        rows = text_rows(file)
    for place, row in rows:
        with problems.of_row(place, REMEDY, image.path):
            fields = columns(row)
            while fields and not fields[-1]:
                fields.pop()
            if not len(FIELDS) <= len(fields) <= COLUMNS:
                raise ValueError(f"it has {len(fields)} columns")
            x, y, w, h = map(number, fields, FIELDS[:4])
            score, category = whole(fields[4], "score"), whole(fields[5], "category")
            if score not in (0, 1):
                raise ValueError(f"score is {score}, not 0 or 1")
            if category not in categories:
                raise ValueError(f"category {category} is not in 0..{max(IGNORED)}")
            image.add(place, (x, y, w, h), categories.label(category, place), ignore=score == 0)

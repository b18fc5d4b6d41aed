"""VisDrone2019-DET in its own folders and text files.

Format: one row an object, `x,y,w,h,score,category,truncation,occlusion` in pixels, some rows with a trailing
comma; https://github.com/VisDrone/VisDrone2018-DET-toolkit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules.batch import ImageInfo
from datamodules.formats.categories import Categories
from datamodules.formats.rows import ObjectList, text_rows
from datamodules.images.headers import check_images
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
    paths = sorted((folder / "images").glob("*.jpg"))
    if not paths:
        raise DataError(
            f"{folder / 'images'} holds no .jpg images: unpack VisDrone2019-DET there (or set "
            "data.download), so that data.root holds the folders VisDrone2019-DET-train, -val and -test-dev, "
            "each with images and annotations"
        )
    if not (folder / "annotations").is_dir():
        raise DataError(f"{folder / 'annotations'} is not a folder: unpack VisDrone2019-DET there")
    names = dict(enumerate(("ignored regions", *CLASS_NAMES, "others")))
    categories = Categories(folder, names, [names[category] for category in IGNORED], class_names)
    images = []
    headers = check_images(paths, folder, problems)
    for image_id, path in enumerate(paths, start=1):
        if path not in headers:
            continue
        objects = ObjectList(ImageInfo(image_id, path.name, headers[path].size))
        _read_rows(folder / "annotations" / f"{path.stem}.txt", path, objects, categories, problems)
        images.append((path, objects))
    return categories.records(images, problems)


def _read_rows(
    path: Path, image: Path, objects: ObjectList, categories: Categories, problems: Problems
) -> None:
    try:
        rows = text_rows(path)
    except (OSError, UnicodeDecodeError) as error:
        problems.add(
            f"{path} cannot be read ({error}): each image needs a text file of its name, empty if nothing "
            "is in it",
            str(image),
        )
        return
    for where, row in rows:
        try:
            x, y, w, h, score, category, *_ = (int(value) for value in row.strip().rstrip(",").split(","))
            if category not in categories:
                raise ValueError(f"category {category} is not in 0..{max(IGNORED)}")
            label, ignore = categories.label(category, where), score == 0
            objects.add((x, y, w, h), label, ignore=ignore)
            problems.row(where, str(image), objects.info, (x, y, w, h), label, ignore)
        except DataError:
            raise
        except ValueError as error:
            problems.add(
                f"{where} is malformed ({error}): it must be eight whole numbers "
                "x,y,w,h,score,category,truncation,occlusion",
                str(image),
            )

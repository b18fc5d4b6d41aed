"""VisDrone2019-DET in its own folders and text files.

Format: one row an object, `x,y,w,h,score,category,truncation,occlusion` in pixels, some rows with a trailing
comma; https://github.com/VisDrone/VisDrone2018-DET-toolkit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.base import DetectionDataModule
from datamodules.batch import ImageInfo
from datamodules.download.fetch import provide
from datamodules.formats.categories import Categories
from datamodules.images.headers import check_images
from datamodules.records import DataError, ObjectList, Problems, Reader, Records, Split, text_rows

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

PUBLISHED = "https://github.com/ultralytics/assets/releases/download/v0.0.0"
"""Address of the folder that holds the three archives VisDrone2019-DET-*.zip: 1.44 GB, 77 MB and 297 MB."""

LAYOUT = "images/*.jpg and annotations/*.txt"


class VisDroneDataModule(DetectionDataModule):
    """VisDrone2019-DET: ten classes seen from drones.

    Args:
        root: folder that holds VisDrone2019-DET-train, VisDrone2019-DET-val and VisDrone2019-DET-test-dev.
        class_names: order of the classes, where a trained model sets it; VisDrone's own if not given.
        download: whether to fetch and unpack the splits that are needed and not there.
        download_url: address of the folder that holds the archives, VisDrone2019-DET-train.zip and so on.
        **options: see `DetectionDataModule`.

    Raises:
        ValueError: if `download_url` is not an address of the web.
    """

    def __init__(
        self,
        root: Path = Path("data/visdrone"),
        class_names: Sequence[str] | None = None,
        download: bool = False,
        download_url: str = PUBLISHED,
        **options: Any,
    ) -> None:
        if not download_url.startswith(("https://", "http://")):
            raise ValueError(f"data.download_url must begin with https:// or http://, got {download_url!r}")
        self.download, self.download_url = download, download_url.rstrip("/")
        names: dict[Split, str] = {"train": "train", "val": "val", "test": "test-dev"}
        self.folders = {split: root / f"VisDrone2019-DET-{name}" for split, name in names.items()}
        readers: dict[Split, Reader] = {
            split: partial(read_visdrone, folder) for split, folder in self.folders.items()
        }
        super().__init__(readers, class_names or CLASS_NAMES, **options)

    def prepare_data(self) -> None:
        """Fetch and unpack the splits that the stage needs and that are not there, if `download` is set.

        Raises:
            DataError: if one cannot be had; it says how to put it there by hand.
        """
        if not self.download:
            return
        for split in self.splits():
            folder = self.folders[split]
            provide(f"{self.download_url}/{folder.name}.zip", folder, LAYOUT)

    @property
    def visdrone_annotations(self) -> Path:
        """Folder of the evaluated split's annotation files."""
        return self.folders[self.evaluated_split] / "annotations"


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

"""VisDrone2019-DET in its own folders and text files.

Format: one row an object, `x,y,w,h,score,category,truncation,occlusion` in pixels, some rows with a trailing
comma; https://github.com/VisDrone/VisDrone2018-DET-toolkit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image, UnidentifiedImageError

from datamodules.base import DetectionDataModule
from datamodules.batch import ANY_CLASS, ImageInfo
from datamodules.download import provide
from datamodules.records import DataError, ObjectList, Reader, Record, Records, Split

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
        stage = self.trainer.state.fn if self.trainer else "fit"
        needed: dict[str | None, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        for split in needed.get(stage, ("test",)):
            folder = self.folders[split]
            provide(f"{self.download_url}/{folder.name}.zip", folder, LAYOUT)

    @property
    def visdrone_annotations(self) -> Path:
        """Folder of the evaluated split's annotation files."""
        return self.folders[self.evaluated_split] / "annotations"


def read_visdrone(folder: Path, class_names: Sequence[str] = CLASS_NAMES) -> Records:
    """Read one split of VisDrone.

    Rows of category 0 and 11 become ignore boxes of every class, other rows of score 0 ignore boxes of
    their own. Image ids count the images from 1 in the order of their file names. Boxes without size or
    wholly outside their image are left out, with one warning.

    Args:
        folder: the split's folder, with `images` and `annotations` in it.
        class_names: order of the class indices.

    Raises:
        DataError: if a folder or file is missing, a row is malformed, or a category is not among the
            class names.
    """
    paths = sorted((folder / "images").glob("*.jpg"))
    if not paths:
        raise DataError(
            f"{folder / 'images'} holds no .jpg images: unpack VisDrone2019-DET there, so that data.root "
            "holds the folders VisDrone2019-DET-train, -val and -test-dev, each with images and annotations"
        )
    names = list(class_names)
    labels = {
        category: names.index(name) for category, name in enumerate(CLASS_NAMES, start=1) if name in names
    }
    labels |= dict.fromkeys(IGNORED, ANY_CLASS)
    images, vanished = [], 0
    for image_id, path in enumerate(paths, start=1):
        info = ImageInfo(image_id=image_id, file_name=path.name, size=_image_size(path))
        objects = _read_rows(folder / "annotations" / f"{path.stem}.txt", info, labels, names)
        vanished += objects.vanished
        images.append(Record(str(path), info, objects.annotations()))
    if vanished:
        rank_zero_warn(f"{folder}: {vanished} boxes without size or outside their image are left out")
    ids = {name: category for category, name in enumerate(CLASS_NAMES, start=1)}
    unknown = [name for name in names if name not in ids]
    ids |= {name: id_ for id_, name in enumerate(unknown, start=max(IGNORED) + 1)}
    return Records(class_names=names, category_ids=[ids[name] for name in names], images=images)


def _image_size(path: Path) -> tuple[int, int]:
    """(height, width) from the file's header, without decoding."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, UnidentifiedImageError):
        raise DataError(f"{path} is not a readable image: restore the file or remove it") from None


def _read_rows(path: Path, info: ImageInfo, labels: dict[int, int], names: Sequence[str]) -> ObjectList:
    try:
        rows = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): each image needs a text file of its name, empty if nothing "
            "is in it"
        ) from None
    objects = ObjectList(info)
    for number, row in enumerate(rows, start=1):
        if not row.strip():
            continue
        try:
            x, y, w, h, score, category, *_ = (int(value) for value in row.strip().rstrip(",").split(","))
            if not 0 <= category <= len(CLASS_NAMES) + 1:
                raise ValueError(f"category {category} is not in 0..{len(CLASS_NAMES) + 1}")
            if category in labels:
                objects.add((x, y, w, h), labels[category], ignore=score == 0)
        except ValueError as error:
            raise DataError(
                f"{path}, line {number} is malformed ({error}): it must be eight whole numbers "
                "x,y,w,h,score,category,truncation,occlusion"
            ) from None
        if category not in labels:
            raise DataError(
                f"{path}, line {number} is of class '{CLASS_NAMES[category - 1]}', which the model does not "
                f"know (it knows {', '.join(names)}): train a model on VisDrone's classes"
            )
    return objects

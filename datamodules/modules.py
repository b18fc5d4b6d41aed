"""The data modules that YAML names: each hands the readers of its format to `DetectionDataModule`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.base import DetectionDataModule
from datamodules.download.fetch import provide
from datamodules.formats import coco, visdrone, voc
from datamodules.formats import yolo as yolo_format
from datamodules.formats.categories import Categories, union
from datamodules.problems import DataError, Reader
from datamodules.records import Split
from datamodules.scenes import writing as scenes

PUBLISHED = "https://github.com/ultralytics/assets/releases/download/v0.0.0"
"""Address of the folder that holds the three archives VisDrone2019-DET-*.zip: 1.44 GB, 77 MB and 297 MB."""
LAYOUT = "images/*.jpg and annotations/*.txt"


class CocoDataModule(DetectionDataModule):
    """A data set in COCO's format.

    Args:
        train_images: folder of the training images.
        train_annotations: COCO JSON of the training images.
        val_images: folder of the validation images; none with `val_fraction` or `folds`.
        val_annotations: COCO JSON of the validation images.
        ignore_categories: categories that mark regions with unlabelled objects of any class.
        class_names: order of the classes, where a trained model sets it; the categories of all files if not
            given: those of the training file ascending by id, then what only the others have.
        test_images: folder of the test images; none without test split.
        test_annotations: COCO JSON of the test images.
        **options: see `DetectionDataModule`.

    Raises:
        DataError: if class names are needed and no file can be read.
        ValueError: if there are no validation images, or a folder goes without its file.
    """

    def __init__(
        self,
        train_images: Path,
        train_annotations: Path,
        val_images: Path | None = None,
        val_annotations: Path | None = None,
        ignore_categories: Sequence[str] = (),
        class_names: Sequence[str] | None = None,
        test_images: Path | None = None,
        test_annotations: Path | None = None,
        **options: Any,
    ) -> None:
        places: dict[Split, tuple[Path, Path]] = {"train": (train_annotations, train_images)}
        given: dict[Split, tuple[Path | None, Path | None]] = {
            "val": (val_annotations, val_images),
            "test": (test_annotations, test_images),
        }
        for split, (file, folder) in given.items():
            if file is not None and folder is not None:
                places[split] = (file, folder)
            elif file is not None or folder is not None:
                raise ValueError(f"data.{split}_images and data.{split}_annotations go together: give both")
        if "val" not in places and not _divided(options):
            raise ValueError(
                "there are no validation images: give data.val_images and data.val_annotations, or "
                "data.val_fraction=0.2 to take them from the training images"
            )
        documents: coco.Documents = {}
        names = class_names or _coco_names(
            [path for path, _ in places.values()], ignore_categories, documents
        )
        readers: dict[Split, Reader] = {
            split: partial(coco.read_coco, *place, ignore_categories, documents=documents)
            for split, place in places.items()
        }
        super().__init__(readers, names, **options)


def _coco_names(files: Sequence[Path], ignored: Sequence[str], documents: coco.Documents) -> list[str]:
    """Class names of all files that can be read; the others are for the reader to report, if needed."""
    names, errors = {}, []
    for file in dict.fromkeys(files):
        try:
            names[file] = coco.read_categories(file, documents)
        except DataError as error:
            errors.append(error)
    if not names:
        raise errors[0]
    return union(names, ignored)


def _divided(options: Mapping[str, Any]) -> bool:
    """Whether validation images are taken from the training images."""
    return options.get("val_fraction") is not None or options.get("folds") is not None


class YoloDataModule(DetectionDataModule):
    """A data set of the YOLO family.

    Its data.yaml has `names`, a list or a mapping from 0, and for `train`, `val` and perhaps `test` a folder
    of images, a text file that lists images, or a list of those, relative to `path`.

    Args:
        yaml: the data.yaml.
        ignore_categories: categories that mark regions with unlabelled objects of any class.
        class_names: order of the classes, where a trained model sets it; the data set's own if not given.
        **options: see `DetectionDataModule`.

    Raises:
        DataError: if the data.yaml is missing or malformed.
    """

    def __init__(
        self,
        yaml: Path,
        ignore_categories: Sequence[str] = (),
        class_names: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        needed: tuple[Split, ...] = ("train",) if _divided(options) else ("train", "val")
        description = yolo_format.read_description(yaml, needed)
        readers: dict[Split, Reader] = {
            split: partial(yolo_format.read_yolo, description, split, ignore_categories)
            for split in description.splits
        }
        names = Categories(yaml, description.names, ignore_categories, class_names).class_names
        super().__init__(readers, names, **options)


class VocDataModule(DetectionDataModule):
    """A data set in Pascal VOC's format.

    Args:
        root: folder that holds Annotations, JPEGImages and ImageSets.
        ignore_categories: classes that mark regions with unlabelled objects of any class.
        class_names: order of the classes, where a trained model sets it; all names in the annotations of all
            splits, sorted, if not given.
        **options: see `DetectionDataModule`.

    Raises:
        DataError: if class names are needed and a split's list cannot be read.
    """

    def __init__(
        self,
        root: Path,
        ignore_categories: Sequence[str] = (),
        class_names: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        splits: list[Split] = ["train", "val"]
        if _divided(options):
            splits.remove("val")
        if voc.list_path(root, "test").is_file():
            splits.append("test")
        names = class_names or voc.read_class_names(root, splits, ignore_categories)
        readers: dict[Split, Reader] = {
            split: partial(voc.read_voc, root, split, ignore_categories) for split in splits
        }
        super().__init__(readers, names, **options)


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
            split: partial(visdrone.read_visdrone, folder) for split, folder in self.folders.items()
        }
        super().__init__(readers, class_names or visdrone.CLASS_NAMES, **options)

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
    def official_annotations(self) -> Path | None:
        """Folder of the evaluated split's files, for the official protocol; None for a part of train's."""
        if self.division and self.evaluated_split == "val":
            return None
        return self.folders[self.evaluated_split] / "annotations"


class ScenesDataModule(DetectionDataModule):
    """Generated aerial scenes, written to a cache folder on first use.

    Args:
        root: folder of the cache.
        train_count: number of training images.
        val_count: number of validation images.
        scene_size: height and width of the images in pixels; objects keep their size in pixels, larger
            images hold more of them.
        scene_seed: seed of the scenes; image k of a split depends on seed, split, size and k alone.
        class_names: order of the classes, where a trained model sets it; person, car, truck if not given.
        **options: see `DetectionDataModule`.

    Raises:
        ValueError: if a count is below 1 or a side of the scenes below 64 pixels.
    """

    def __init__(
        self,
        root: Path = Path("data/scenes"),
        train_count: int = 400,
        val_count: int = 100,
        scene_size: tuple[int, int] = (320, 320),
        scene_seed: int = 0,
        class_names: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        if min(train_count, val_count) < 1:
            raise ValueError(
                f"data.train_count and val_count must be at least 1, got {train_count} and {val_count}"
            )
        if min(scene_size) < 64:
            raise ValueError(f"data.scene_size must be at least 64x64 pixels, got {list(scene_size)}")
        height, width = self.scene_size = scene_size
        self.counts: dict[Split, int] = {"train": train_count, "val": val_count}
        self.folders: dict[Split, Path] = {
            split: root / f"v{scenes.VERSION}-{height}x{width}-seed{scene_seed}-{split}{count}"
            for split, count in self.counts.items()
        }
        self.scene_seed = scene_seed
        readers: dict[Split, Reader] = {
            split: partial(coco.read_coco, folder / "annotations.json", folder / "images", ())
            for split, folder in self.folders.items()
        }
        names = class_names or scenes.CLASS_NAMES
        super().__init__(readers, names, **options)

    def prepare_data(self) -> None:
        """Draw and write the scenes that the stage needs and the cache does not have."""
        for split in self.splits():
            scenes.write_scenes(
                self.folders[split], self.counts[split], self.scene_size, self.scene_seed, split
            )

"""Generated aerial scenes as a COCO data set, for the quick start and the tests: nothing to download.

People, cars (vans too) and trucks (buses too) of 4 to 60 pixels on roads, car parks, squares, yards and
fields; crowds, shadows, trees that hide things, and a look-alike for every three objects.
`datamodules.scenes.town` draws; this file writes the drawings once, as image files and annotations, and
then reads them as it would any data set.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2

from datamodules.base import DetectionDataModule
from datamodules.formats.coco import read_coco
from datamodules.progress import announced
from datamodules.records import Reader, Split
from datamodules.scenes.town import CROWD, LOOK_ALIKE, PERSON, Scene, draw_scene

CLASS_NAMES = ("person", "car", "truck")
VERSION = 2
"""Of the drawings; part of the cache folder's name. Raise it with every change to a pixel or a box."""
MIN_VISIBLE = 0.25
"""An object of which less than this share can be seen is ignored (`iscrowd`)."""
MIN_AREA = 8.0
"""An object of which fewer square pixels can be seen is ignored."""


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
            split: root / f"v{VERSION}-{height}x{width}-seed{scene_seed}-{split}{count}"
            for split, count in self.counts.items()
        }
        self.scene_seed = scene_seed
        readers: dict[Split, Reader] = {
            split: partial(read_coco, folder / "annotations.json", folder / "images", ())
            for split, folder in self.folders.items()
        }
        names = class_names or CLASS_NAMES
        super().__init__(readers, names, **options)

    def prepare_data(self) -> None:
        """Draw and write the scenes that the stage needs and the cache does not have."""
        for split in self.splits():
            write_scenes(self.folders[split], self.counts[split], self.scene_size, self.scene_seed, split)


def write_scenes(
    folder: Path, images: int, size: tuple[int, int], seed: int = 0, split: Split = "train"
) -> None:
    """Write scenes as a COCO data set, unless the folder is there already.

    The folder appears whole or not at all; of processes that start at once, the first to finish wins. It
    holds `images/*.jpg` and `annotations.json`, where each image also lists the xywh boxes of its
    `look_alikes`.

    Args:
        folder: the data set's folder.
        images: number of images.
        size: (H, W) of the images in pixels.
        seed: seed of the scenes.
        split: its own stream of scenes for the seed.

    Raises:
        OSError: if the folder cannot be written.
    """
    if folder.exists():
        return
    unfinished = folder.with_name(f".{folder.name}-{uuid4().hex}")
    try:
        (unfinished / "images").mkdir(parents=True)
        data = _draw_all(unfinished / "images", images, size, seed, split)
        (unfinished / "annotations.json").write_text(json.dumps(data))
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():  # else another process was faster
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _draw_all(folder: Path, count: int, size: tuple[int, int], seed: int, split: Split) -> dict[str, Any]:
    """Draw scenes into a folder; returns the content of their annotation file."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    # Chroma at full resolution: objects are as small as its blocks.
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
    quality += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    for k in announced(range(count), count, f"drawing {split} scenes"):
        scene = draw_scene(f"{seed}/{split}/{k}", size)
        file_name = f"{k:06d}.jpg"
        if not cv2.imwrite(str(folder / file_name), cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR), quality):
            raise OSError(f"{folder / file_name} could not be written")
        objects, look_alikes = annotate(scene)
        height, width = size
        images.append(
            {
                "id": k + 1,
                "file_name": file_name,
                "height": height,
                "width": width,
                "look_alikes": look_alikes,
            }
        )
        for entry in objects:
            annotations.append({"id": len(annotations) + 1, "image_id": k + 1, **entry})
    return {
        "info": {"description": "Generated aerial scenes", "version": VERSION, "seed": seed, "split": split},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(CLASS_NAMES)],
    }


def annotate(scene: Scene) -> tuple[list[dict[str, Any]], list[list[float]]]:
    """What the data set says about a scene.

    Returns:
        COCO annotations without ids, crowds and what is nearly hidden as `iscrowd`; and the xywh boxes of
        the look-alikes, those that are nearly hidden left out.
    """
    objects, look_alikes = [], []
    for label, box, area, visible in zip(
        scene.labels.tolist(), scene.boxes, scene.areas.tolist(), scene.visible.tolist(), strict=True
    ):
        x0, y0, x1, y1 = box.tolist()
        bbox = [round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0)]
        clear = visible >= MIN_VISIBLE and area >= MIN_AREA
        if label == LOOK_ALIKE:
            if clear:
                look_alikes.append(bbox)
        elif area:
            crowd = label == CROWD
            category = (PERSON if crowd else label) + 1
            ignored = int(crowd or not clear)
            objects.append(
                {"category_id": category, "bbox": bbox, "area": round(area, 2), "iscrowd": ignored}
            )
    return objects, look_alikes

"""Generated aerial scenes as a COCO data set, for the quick start and the tests: nothing to download.

People, cars (vans too) and trucks (buses too) of 4 to 60 pixels on roads, car parks, squares, yards and
fields; crowds, shadows, trees that hide things, and a look-alike for every three objects.
`datamodules.scenes.town` draws; this file writes the drawings once, as image files and annotations, and
then reads them as it would any data set.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2

from datamodules.progress import progress_bar
from datamodules.records import Split
from datamodules.scenes.canvas import CROWD, LOOK_ALIKE, PERSON, Scene
from datamodules.scenes.town import draw_scene

CLASS_NAMES = ("person", "car", "truck")
VERSION = 2
"""Of the drawings; part of the cache folder's name. Raise it with every change to a pixel or a box."""
MIN_VISIBLE = 0.25
"""An object of which less than this share can be seen is ignored (`iscrowd`)."""
MIN_AREA = 8.0
"""An object of which fewer square pixels can be seen is ignored."""


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
    for k in progress_bar(range(count), count, f"drawing {split} scenes"):
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

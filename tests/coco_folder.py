"""A small COCO data set, made on the spot."""

import json

import cv2
import numpy as np
import torch

from datamodules.modules import CocoDataModule


class CocoFolder:
    """A COCO data set of noise images with one box each, that tests may change before they read it."""

    def __init__(self, folder, count=6, height=48, width=64):
        self.images = folder / "images"
        self.images.mkdir(parents=True)
        self.json = folder / "annotations.json"
        rng = np.random.default_rng(0)
        self.data = {
            "categories": [
                {"id": 7, "name": "ship"},
                {"id": 3, "name": "car"},
                {"id": 5, "name": "dontcare"},
            ],
            "images": [],
            "annotations": [],
        }
        for id_ in range(1, count + 1):
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            cv2.imwrite(str(self.images / f"{id_}.png"), image)
            self.data["images"].append(
                {"id": id_, "file_name": f"{id_}.png", "height": height, "width": width}
            )
            self.annotate(id_, 3, [10, 10, 20, 10])
        self.save()

    def annotate(self, image_id, category_id, bbox, **more):
        self.data["annotations"].append(
            {"id": len(self.data["annotations"]), "image_id": image_id, "category_id": category_id}
            | {"bbox": bbox}
            | more
        )

    def save(self):
        self.json.write_text(json.dumps(self.data))

    def module(self, **arguments):
        """A data module that trains and validates on the folder."""
        defaults = {
            "ignore_categories": ["dontcare"],
            "image_size": (32, 48),
            "batch_size": 2,
            "num_workers": 0,
        }
        return CocoDataModule(self.images, self.json, self.images, self.json, **defaults | arguments)


def batches(loader):
    """All that the batches of a loader hold."""
    return [
        (
            [info.image_id for info in batch.infos],
            batch.images,
            batch.boxes,
            batch.labels,
            batch.image_index,
            batch.ignore_boxes,
            batch.colour,
        )
        for batch in loader
    ]


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one[0] == other[0]
        for a, b in zip(one[1:], other[1:], strict=True):
            assert torch.equal(a, b)

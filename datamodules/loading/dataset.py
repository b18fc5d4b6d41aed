"""Samples of a split: read, augmented or letterboxed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from datamodules.batch import ANY_CLASS, Annotations, Key, Sample
from datamodules.images.decoding import Images
from datamodules.problems import DataError, OnError
from datamodules.records import Record
from datamodules.transforms.augment import Augment
from datamodules.transforms.finish import Finish
from datamodules.transforms.geometry import FILL, letterbox
from datamodules.transforms.plan import Plan, apply_plan, draw_plan


class DetectionDataset(Dataset[Sample]):
    """Samples of a split, of one size, ready to be collated.

    A `Key` gives a training sample, a function of seed, epoch and the indices of its batch
    alone; a bare index, or a data set without `augment`, gives the letterboxed image with its annotations.

    Args:
        records: the images.
        image_size: (H, W) of the evaluation samples; a `Key` names its own.
        augment: random changes; None for evaluation.
        seed: seed of the random changes.
        mosaic_epochs: number of epochs with mosaic, mixup and copy-paste, None for all.
        on_error: what an image does that cannot be decoded: "raise" stops, "skip" shows it grey and ignored.
        images: the same images as pixels, in training perhaps reduced; at full size from their files if not
            given.
        fill: grey level where no image lies.
    """

    def __init__(
        self,
        records: Sequence[Record],
        image_size: tuple[int, int],
        augment: Augment | None = None,
        seed: int = 0,
        mosaic_epochs: int | None = None,
        on_error: OnError = "raise",
        images: Images | None = None,
        fill: int = FILL,
    ) -> None:
        self.records, self.image_size, self.images = records, image_size, images or Images(records)
        self.augment, self.seed, self.mosaic_epochs = augment, seed, mosaic_epochs
        self.finish, self.on_error = Finish(augment) if augment else None, on_error
        self.fill = fill

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | Key) -> Sample:
        """One sample; see `__getitems__`."""
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | Key]) -> list[Sample]:
        """The samples of one batch; each image is decoded once, however many samples it is part of."""
        drawn = [key for key in keys if isinstance(key, Key)]
        if self.augment is None or self.finish is None or not drawn:
            return [self._evaluation_sample(key) for key in keys]
        plans = [self._draw_plan(self.augment, key, own, len(drawn)) for own, key in enumerate(drawn)]
        images = [self.read(key.index) for key in drawn]
        return [self.finish(apply_plan(plan, images, self.augment, self.fill), plan.rng) for plan in plans]

    def _draw_plan(self, augment: Augment, key: Key, own: int, count: int) -> Plan:
        closed = self.mosaic_epochs is not None and key.epoch >= self.mosaic_epochs
        return draw_plan(augment, self.seed, key, own, count, closed)

    def read(self, index: int) -> Sample:
        """An image as it is, or reduced by `images`, with its annotations."""
        record, scale = self.records[index], np.float32(1 / self.images.reductions[index])
        height, width = record.info.size
        annotations = record.annotations
        limit = np.array((width, height, width, height), dtype=np.float32)
        try:
            image = self.images[index]
        except DataError as error:
            if self.on_error == "raise":
                raise
            if not Path(record.path).parent.is_dir():  # nothing of it can be read any more
                raise DataError(f"{error}: its folder is gone since the training began") from error
            warnings.warn(f"{error} (data.on_error is skip: a grey image takes its place)", stacklevel=1)
            return blank_sample(record)
        return Sample(
            image=image,
            boxes=annotations.boxes.clip(0, limit) * scale,
            labels=annotations.labels,
            ignore_boxes=annotations.ignore_boxes.clip(0, limit) * scale,
            info=record.info,
            annotations=annotations,
        )

    def _evaluation_sample(self, key: int | Key) -> Sample:
        index, size = (key.index, key.size) if isinstance(key, Key) else (key, self.image_size)
        return letterbox(self.read(index), size, self.fill)


def blank_sample(record: Record) -> Sample:
    """An evenly grey sample in place of an image that cannot be decoded: one ignore box covers all of it."""
    height, width = record.info.size
    boxes, labels, areas = np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.float32)
    everywhere = np.array([[0, 0, width, height]], dtype=np.float32)
    return Sample(
        image=np.full((height, width, record.bands), FILL, dtype=np.uint8),
        boxes=boxes,
        labels=labels,
        ignore_boxes=everywhere,
        info=record.info,
        annotations=Annotations(boxes, labels, areas, everywhere, np.array([ANY_CLASS])),
    )

"""Samples of a split: read, augmented or letterboxed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

from datamodules.batch import Sample
from datamodules.mosaic import mosaic, partners
from datamodules.reading import read_image
from datamodules.records import Record
from datamodules.samplers import Key
from datamodules.transforms import Augment, Finish, jitter, letterbox


class DetectionDataset(Dataset[Sample]):
    """Samples of a split, of one size, ready to be collated.

    A `Key` gives a training sample, a function of seed, epoch and the indices of its batch
    alone; a bare index, or a data set without `augment`, gives the letterboxed image with its annotations.

    Args:
        records: the images.
        image_size: (H, W) of the evaluation samples; a `Key` names its own.
        augment: random changes; None for evaluation.
        seed: seed of the random changes.
        mosaic_epochs: number of epochs with mosaic, None for all.
    """

    def __init__(
        self,
        records: Sequence[Record],
        image_size: tuple[int, int],
        augment: Augment | None = None,
        seed: int = 0,
        mosaic_epochs: int | None = None,
    ) -> None:
        self.records, self.image_size = records, image_size
        self.augment, self.seed, self.mosaic_epochs = augment, seed, mosaic_epochs
        self.finish = Finish(augment) if augment else None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | Key) -> Sample:
        """One sample; see `__getitems__`."""
        return self._transform([self._read(key)], 0, key)

    def __getitems__(self, keys: Sequence[int | Key]) -> list[Sample]:
        """The samples of one batch; each image is decoded once, however many mosaics it is part of."""
        if not self._mosaic_probability(keys[0]):
            return [self[key] for key in keys]
        samples = [self._read(key) for key in keys]
        return [self._transform(samples, own, key) for own, key in enumerate(keys)]

    def _mosaic_probability(self, key: int | Key) -> float:
        if self.augment is None or not isinstance(key, Key):
            return 0
        closed = self.mosaic_epochs is not None and key.epoch >= self.mosaic_epochs
        return 0 if closed else self.augment.mosaic

    def _read(self, key: int | Key) -> Sample:
        record = self.records[key.index if isinstance(key, Key) else key]
        height, width = record.info.size
        annotations = record.annotations
        limit = np.array((width, height, width, height), dtype=np.float32)
        return Sample(
            image=read_image(record),
            boxes=annotations.boxes.clip(0, limit),
            labels=annotations.labels,
            ignore_boxes=annotations.ignore_boxes.clip(0, limit),
            info=record.info,
            annotations=annotations,
        )

    def _transform(self, batch: Sequence[Sample], own: int, key: int | Key) -> Sample:
        if self.augment is None or self.finish is None or not isinstance(key, Key):
            return letterbox(batch[own], self.image_size)
        rng = np.random.default_rng([self.seed, key.epoch, key.index, key.copy])
        if rng.random() < self._mosaic_probability(key):
            members = [batch[own], *(batch[i] for i in partners(len(batch), own, rng))]
            sample = mosaic(members, key.size, self.augment, rng)
        else:
            sample = jitter(batch[own], key.size, self.augment, rng)
        return self.finish(sample, rng)

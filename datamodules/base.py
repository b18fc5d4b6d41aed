"""What all data modules share: records, the data set, loaders and the step on the device."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.batch import ANY_CLASS, Annotations, Batch, ImageInfo, Sample, collate
from datamodules.mosaic import mosaic, partners
from datamodules.samplers import EvalSampler, TrainSampler
from datamodules.transforms import Augment, Finish, jitter, letterbox, to_float

Split = Literal["train", "val", "test"]

DEFAULT_AUGMENT = Augment()


class DataError(ValueError):
    """A mistake in the user's data or paths: one message with the file and the remedy.

    A `DataLoader` raises a worker's exception again with the worker's whole traceback as its message;
    of that, only the message itself is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition("DataError: ")[2].strip())


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a data set, not yet read.

    Attributes:
        path: where the image file lies.
        info: image id, file name and size.
        annotations: its objects and ignore regions.
    """

    path: str
    info: ImageInfo
    annotations: Annotations


@dataclass(frozen=True, slots=True)
class Records:
    """A data set split, as its reader found it.

    Attributes:
        class_names: name of each class index.
        category_ids: id that the data set gives each class index; for writing predictions.
        images: the images, ascending by image id.
    """

    class_names: list[str]
    category_ids: list[int]
    images: list[Record]


LARGEST = 1e12
"""Coordinates and areas from here on are mistakes; they would overflow float32 arithmetic."""

SMALLEST = 0.01
"""A box whose side inside the image is below this many pixels has no size."""


class ObjectList:
    """Gathers the rows of one image, as a reader finds them, into its `Annotations`.

    Args:
        info: the image.

    Attributes:
        vanished: number of boxes left out, because they have no size or lie wholly outside the image.
    """

    def __init__(self, info: ImageInfo) -> None:
        self.info = info
        self.vanished = 0
        self._objects: list[tuple[float, ...]] = []
        self._ignored: list[tuple[float, ...]] = []

    def add(
        self,
        box: tuple[float, float, float, float],
        label: int,
        area: float | None = None,
        ignore: bool = False,
    ) -> None:
        """Add a row.

        Args:
            box: (x, y, width, height) pixels of the original image.
            label: class index; `ANY_CLASS` makes an ignore box of every class.
            area: area of the object, where it is known better than by its box.
            ignore: whether the row is an ignore box of its class.

        Raises:
            ValueError: if a number is not finite, or far too large for pixels.
        """
        x, y, w, h = box
        row = (x, y, x + w, y + h, w * h if area is None else area, label)
        if not all(abs(value) < LARGEST for value in row):
            raise ValueError(f"box {list(box)} with area {row[4]} is not in pixels")
        height, width = self.info.size
        if min(w, h, min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)) < SMALLEST:
            self.vanished += 1
        elif ignore or label == ANY_CLASS:
            self._ignored.append(row)
        else:
            self._objects.append(row)

    def annotations(self) -> Annotations:
        """All rows as arrays, in the order they came."""
        found = np.array(self._objects, dtype=np.float64).reshape(-1, 6)
        ignored = np.array(self._ignored, dtype=np.float64).reshape(-1, 6)
        return Annotations(
            boxes=found[:, :4].astype(np.float32),
            labels=found[:, 5].astype(np.int64),
            areas=found[:, 4].astype(np.float32),
            ignore_boxes=ignored[:, :4].astype(np.float32),
            ignore_labels=ignored[:, 5].astype(np.int64),
        )


Reader = Callable[[Sequence[str]], Records]
"""Reads one split, given the class names that set the order of the class indices."""


def read_image(record: Record) -> NDArray[np.uint8]:
    """Decode an image: (h, w, 3) uint8 RGB, as stored (an EXIF rotation is not applied).

    Raises:
        DataError: if the file cannot be read or has another size than its record.
    """
    image = cv2.imread(record.path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        problem = "is not a readable image" if os.path.exists(record.path) else "does not exist"
        raise DataError(f"{record.path} {problem}: restore the file or remove it from the annotations")
    if image.shape[:2] != record.info.size:
        raise DataError(
            f"{record.path} is {image.shape[1]}x{image.shape[0]} pixels, but its annotations say "
            f"{record.info.size[1]}x{record.info.size[0]}: correct the width and height there"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)  # type: ignore[return-value]


class DetectionDataset(Dataset[Sample]):
    """Samples of a split, of one size, ready to be collated.

    An `(epoch, index)` key gives a training sample, a function of seed, epoch and the indices of its batch
    alone; a bare index, or a data set without `augment`, gives the letterboxed image with its annotations.

    Args:
        records: the images.
        image_size: (H, W) of the samples.
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

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """One sample; see `__getitems__`."""
        return self._transform([self._read(key)], 0, key)

    def __getitems__(self, keys: Sequence[int | tuple[int, int]]) -> list[Sample]:
        """The samples of one batch; each image is decoded once, however many mosaics it is part of."""
        if not self._mosaic_probability(keys[0]):
            return [self[key] for key in keys]
        samples = [self._read(key) for key in keys]
        return [self._transform(samples, own, key) for own, key in enumerate(keys)]

    def _mosaic_probability(self, key: int | tuple[int, int]) -> float:
        if self.augment is None or not isinstance(key, tuple):
            return 0
        closed = self.mosaic_epochs is not None and key[0] >= self.mosaic_epochs
        return 0 if closed else self.augment.mosaic

    def _read(self, key: int | tuple[int, int]) -> Sample:
        record = self.records[key[1] if isinstance(key, tuple) else key]
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

    def _transform(self, batch: Sequence[Sample], own: int, key: int | tuple[int, int]) -> Sample:
        if self.augment is None or self.finish is None or not isinstance(key, tuple):
            return letterbox(batch[own], self.image_size)
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        if rng.random() < self._mosaic_probability(key):
            members = [batch[own], *(batch[i] for i in partners(len(batch), own, rng))]
            sample = mosaic(members, self.image_size, self.augment, rng)
        else:
            sample = jitter(batch[own], self.image_size, self.augment, rng)
        return self.finish(sample, rng)


class DetectionDataModule(LightningDataModule):
    """Loaders, samplers and the device's step; what is read comes from the readers.

    Args:
        readers: how to read each split; without "test", testing uses "val".
        class_names: name of each class index.
        image_size: height and width of the network's input.
        batch_size: training images a batch and device.
        val_batch_size: evaluation images a batch and device; the training batch size if not given.
        num_workers: processes that read a split for one device; by default one less than its share of
            the CPUs, at most 8, and none for a small data set.
        seed: seed of order and augmentation.
        augment: random changes of training images.
    """

    def __init__(
        self,
        readers: Mapping[Split, Reader],
        class_names: Sequence[str],
        image_size: tuple[int, int] = (640, 640),
        batch_size: int = 16,
        val_batch_size: int | None = None,
        num_workers: int | None = None,
        seed: int = 0,
        augment: Augment = DEFAULT_AUGMENT,
    ) -> None:
        super().__init__()
        # A rank may get no validation image at all: shards are never padded.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        for name, value in (("batch_size", batch_size), ("val_batch_size", val_batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"data.{name} must be at least 1, got {value}")
        if min(image_size) < 1:
            raise ValueError(f"data.image_size must be [height, width] in pixels, got {list(image_size)}")
        self.readers, self.class_names = readers, list(class_names)
        self.image_size = (image_size[0], image_size[1])
        self.batch_size, self.val_batch_size = batch_size, val_batch_size or batch_size
        self.num_workers, self.seed, self.augment = num_workers, seed, augment
        self.records: dict[Split, Records] = {}

    def setup(self, stage: str) -> None:
        """Read the splits that a stage needs, once.

        Raises:
            DataError: if a file is missing or wrong.
        """
        needed: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        for split in needed.get(stage, (self.test_split,)):
            if split not in self.records:
                self.records[split] = self.readers[split](self.class_names)

    @property
    def test_split(self) -> Split:
        """The split that testing uses."""
        return "test" if "test" in self.readers else "val"

    @property
    def evaluated_split(self) -> Split:
        """The split that was read to be scored; after `setup`."""
        return self.test_split if self.test_split in self.records else "val"

    @property
    def evaluated(self) -> Records:
        """That split."""
        return self.records[self.evaluated_split]

    @property
    def category_ids(self) -> list[int]:
        """Id that this split gives each class index, for writing predictions; after `setup`."""
        return self.evaluated.category_ids

    @property
    def visdrone_annotations(self) -> Path | None:
        """Folder of that split's files for VisDrone's official protocol; None for data without them."""
        return None

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled, augmented batches of whole epochs, continuing where a resumed run stopped."""
        rank, world_size = self._rank_and_world_size()
        epoch, start_batch = 0, 0
        if self.trainer is not None:
            epoch = self.trainer.current_epoch
            if self.trainer.fit_loop.restarting:
                # Not `ready`: that counts the batch in which an exception struck, which is trained again.
                progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
                start_batch = progress.processed  # type: ignore[attr-defined]
        records = self.records["train"].images
        dataset = DetectionDataset(records, self.image_size, self.augment, self.seed, self._mosaic_epochs())
        sampler = TrainSampler(len(records), self.batch_size, self.seed, rank, world_size, epoch, start_batch)
        return self._loader(dataset, sampler, self.batch_size)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Letterboxed validation images, each once over all ranks."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """Letterboxed images of the test split, of the validation split where there is none."""
        return self._eval_loader(self.test_split)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Convert images to float and apply their colour changes, on the device."""
        return to_float(batch)

    def _eval_loader(self, split: Split) -> DataLoader[Sample]:
        records = self.records[split].images
        sampler = EvalSampler(len(records), *self._rank_and_world_size())
        return self._loader(DetectionDataset(records, self.image_size), sampler, self.val_batch_size)

    def _loader(
        self, dataset: DetectionDataset, sampler: Sampler[Any], batch_size: int
    ) -> DataLoader[Sample]:
        num_workers = self.num_workers
        if num_workers is None:
            num_workers = default_workers(len(sampler), batch_size, self._local_ranks())  # type: ignore[arg-type]
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=num_workers > 0,
            worker_init_fn=_start_worker,
        )

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _local_ranks(self) -> int:
        return self.trainer.num_devices if self.trainer else 1

    def _mosaic_epochs(self) -> int | None:
        if self.trainer is None or self.trainer.max_epochs is None or self.trainer.max_epochs < 0:
            return None
        return self.trainer.max_epochs - self.augment.close_mosaic


def default_workers(images: int, batch_size: int, local_ranks: int) -> int:
    """Worker processes for one loader: one CPU of this rank's share is left to the training process.

    Args:
        images: images that the loader reads an epoch.
        batch_size: images a batch.
        local_ranks: training processes on this machine.
    """
    if images <= 2 * batch_size:
        return 0  # starting processes takes longer than reading
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(cpus // local_ranks - 1, 8), 0)


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism

"""What all data modules share: loaders, samplers and the step on the device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader

from datamodules.batch import Batch, Sample
from datamodules.files import visible
from datamodules.images.cache import open_cache
from datamodules.images.decoding import Images, Reading, reduction
from datamodules.images.headers import MOST_BANDS
from datamodules.limits import MOST_CLASSES, require_between
from datamodules.loading.dataset import DetectionDataset
from datamodules.loading.densest import densest_batch
from datamodules.loading.loader import default_workers, make_loader
from datamodules.loading.samplers import (
    DEFAULT_SAMPLING,
    EvalSampler,
    RectangularEvalSampler,
    Sampling,
    TrainSampler,
)
from datamodules.problems import OnError, Problems, Reader
from datamodules.records import Records, Split
from datamodules.setup_checks import check_setup, require_channels
from datamodules.splits import Division, divided, write_division
from datamodules.transforms.augment import Augment, largest_scale
from datamodules.transforms.colour import to_float
from datamodules.transforms.geometry import FILL

DEFAULT_AUGMENT = Augment()
DEFAULT_READING = Reading()

USUAL_BATCH = 16
"""Images a batch and device without a wish; learning rates of recipes are for it."""


class DetectionDataModule(LightningDataModule):
    """Loaders, samplers and the device's step; what is read comes from the readers.

    Args:
        readers: how to read each split; without "test", testing uses "val".
        class_names: name of each class index.
        image_size: height and width of the network's input, or one number for both.
        batch_size: training images a batch and device; "auto" for as many as fit into the memory, see
            `detector.training.batch_size`.
        val_batch_size: evaluation images a batch and device; the training batch size if not given.
        num_workers: processes that read a split for one device; by default one less than its share of
            the CPUs, at most 8, and none for a small data set.
        seed: seed of order and augmentation.
        augment: random changes of training images.
        sampling: how often training images come, and how large their batches are.
        fraction: share of the training images that is used, drawn by the seed; a larger share contains a
            smaller one.
        on_error: what a damaged row or image does: "raise" stops with its file and row, "skip" leaves the
            image out, with one warning.
        reading: how training images become pixels.
        channels: of the images: 3 for RGB, which grey ones become too, else all that a TIFF or a .npy array
            has, 2 to 8; the network's in_channels must be the same.
        val_fraction: share of the training images that validate, in place of the data set's own validation
            images.
        val_group: regular expression, found in the file names; images in which it finds the same text,
            such as frames of one flight, stay together in training or validation.
        val_groups: CSV of `file` and `group` to the same end, such as the doctor's groups.csv.
        val_seed: which images are taken; runs of another `seed` are scored on the same ones.
        folds: number of parts for cross-validation, in place of `val_fraction`.
        fold: which part validates, from 0.

    Attributes:
        fill: grey level around the images, which the network that they are for may change.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        readers: Mapping[Split, Reader],
        class_names: Sequence[str],
        image_size: int | tuple[int, int] = (640, 640),
        batch_size: int | Literal["auto"] = USUAL_BATCH,
        val_batch_size: int | None = None,
        num_workers: int | None = None,
        seed: int = 0,
        augment: Augment = DEFAULT_AUGMENT,
        sampling: Sampling = DEFAULT_SAMPLING,
        fraction: float = 1.0,
        on_error: OnError = "raise",
        reading: Reading = DEFAULT_READING,
        channels: int = 3,
        val_fraction: float | None = None,
        val_group: str | None = None,
        val_groups: Path | None = None,
        val_seed: int = 0,
        folds: int | None = None,
        fold: int = 0,
    ) -> None:
        super().__init__()
        # A rank may get no validation image at all: shards are never padded.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.automatic_batch = batch_size == "auto"
        batch_size = USUAL_BATCH if batch_size == "auto" else batch_size
        for name, value in (("batch_size", batch_size), ("val_batch_size", val_batch_size)):
            if value is not None:
                require_between(f"data.{name}", value, 1, 2**16)
        if num_workers is not None:
            require_between("data.num_workers", num_workers, 0, 128)
        require_between("the number of classes", len(class_names), 1, MOST_CLASSES)
        image_size = (image_size, image_size) if isinstance(image_size, int) else image_size
        if min(image_size) < 1:
            raise ValueError(f"data.image_size must be [height, width] in pixels, got {list(image_size)}")
        require_between("the larger of data.image_size", max(image_size), 1, 2**14)
        self.division = Division(
            fraction=val_fraction,
            group=val_group,
            groups=val_groups,
            folds=folds,
            fold=fold,
            seed=val_seed,
        )
        self.readers = divided(readers, self.division) if self.division else readers
        self.class_names = [visible(name) for name in class_names]
        self.image_size = (image_size[0], image_size[1])
        self.batch_size, self.val_batch_size = batch_size, val_batch_size or batch_size
        self.num_workers, self.seed, self.augment = num_workers, seed, augment
        self.sampling = sampling
        if not 0 < fraction <= 1:
            raise ValueError(f"data.fraction must be above 0 and at most 1, got {fraction}")
        self.fraction, self.on_error = fraction, on_error
        if not 2 <= channels <= MOST_BANDS:
            raise ValueError(
                f"data.channels must be 2 to {MOST_BANDS}, got {channels}: leave it out for grey images, and "
                "for a network of one channel set model.network.in_channels=1"
            )
        self.reading, self.channels = reading, channels
        self.records: dict[Split, Records] = {}
        self.evaluated_split: Split = "val"
        self.fill = FILL
        self._images: Images | None = None
        self._resumed_step: int | None = None

    def setup(self, stage: str) -> None:
        """Read the splits that a stage needs, once.

        Raises:
            DataError: if a file is missing or wrong, or the splits make no sense.
        """
        splits = self.splits(stage)
        for split in splits:
            if split not in self.records:
                self.records[split] = self._read(split)
        self.evaluated_split = splits[-1]
        found = {split: self.records[split] for split in splits}
        for doubt in check_setup(found, stage == "fit", self.batch_size):
            rank_zero_warn(doubt)
        if self.division and stage == "fit" and self.trainer and self.trainer.log_dir:
            write_division(found, Path(self.trainer.log_dir))

    def splits(self, stage: str | None = None) -> tuple[Split, ...]:
        """The splits that a stage needs, the one that it scores last.

        Args:
            stage: "fit", "validate", "test" or "predict"; the trainer's if not given, "fit" if there is none.
        """
        if stage is None:
            stage = self.trainer.state.fn if self.trainer else "fit"
        needed: dict[str | None, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        return needed.get(stage, (self.test_split,))

    def state_dict(self) -> dict[str, int]:
        """Images a step over all processes: what a position within an epoch is counted in."""
        return {"images_a_step": self.batch_size * self._rank_and_world_size()[1]}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Remember it, see `train_dataloader`."""
        self._resumed_step = state_dict["images_a_step"]

    def _read(self, split: Split) -> Records:
        problems = Problems(self.on_error)
        records = require_channels(self.readers[split](self.class_names, problems), self.channels)
        if problems.found:
            rank_zero_warn(f"{split} split: {problems.summary(len(records.images))}")
        return records.draw(self.fraction, self.seed) if split == "train" else records

    @property
    def test_split(self) -> Split:
        """The split that testing uses."""
        return "test" if "test" in self.readers else "val"

    @property
    def evaluated(self) -> Records:
        """The split that the last stage set up scores; after `setup`."""
        return self.records[self.evaluated_split]

    @property
    def category_ids(self) -> list[int]:
        """Id that this split gives each class index, for writing predictions; after `setup`."""
        return self.evaluated.category_ids

    @property
    def class_counts(self) -> list[int]:
        """Training objects of each class, for `model.loss.class_weights`; after `setup("fit")`."""
        labels = np.concatenate([image.annotations.labels for image in self.records["train"].images])
        counts: list[int] = np.bincount(labels, minlength=len(self.class_names)).tolist()
        return counts

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled, augmented batches of whole epochs, continuing where a resumed run stopped.

        Raises:
            ValueError: it stopped within an epoch, whose steps were of another number of images.
        """
        rank, world_size = self._rank_and_world_size()
        epoch, start_batch = 0, 0
        if self.trainer is not None:
            # Not `current_epoch`, which still is the finished epoch when a run goes on from its end: workers
            # would begin with its images.
            epoch = self.trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
            if self.trainer.fit_loop.restarting:
                # Not `ready`: that counts the batch in which an exception struck, which is trained again.
                progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
                start_batch = progress.processed  # type: ignore[attr-defined]
                if start_batch and self._resumed_step not in (None, self.batch_size * world_size):
                    raise ValueError(
                        f"the checkpoint was saved within an epoch of {self._resumed_step} images a step, "
                        f"this run has {self.batch_size * world_size} (data.batch_size times processes): go "
                        "on with as many, or from a checkpoint of an epoch's end"
                    )
        records = self.records["train"].images
        sampler = TrainSampler(
            records,
            self.image_size,
            self.batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            epoch=epoch,
            start_batch=start_batch,
            sampling=self.sampling,
        )
        dataset = DetectionDataset(
            records,
            self.image_size,
            augment=self.augment,
            seed=self.seed,
            mosaic_epochs=self._mosaic_epochs(sampler.batches),
            on_error=self.on_error,
            images=self._training_images(sampler.largest_sizes),
            fill=self.fill,
        )
        workers = self._workers(len(sampler), self.batch_size)
        pixels = self.batch_size * max(height * width for height, width in sampler.largest_sizes)
        return make_loader(dataset, workers, pixels, sampler=sampler, batch_size=self.batch_size)

    def densest_batch(self, images: int) -> Batch:
        """The batch of so many images that takes the most memory, see `densest_batch`; after `setup`."""
        records = self.records["train"].images
        sampler = TrainSampler(records, self.image_size, 1, seed=self.seed, sampling=self.sampling)
        return densest_batch(records, sampler.largest_sizes, images, mosaic=self.augment.mosaic > 0)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Letterboxed validation images, each once over all ranks."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """Letterboxed images of the test split, of the validation split where there is none."""
        return self._eval_loader(self.test_split)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Convert images to float and apply their colour changes, on the device."""
        return to_float(batch)

    def _training_images(self, canvases: Sequence[tuple[int, int]]) -> Images:
        """The training images, reduced as far as the canvases allow, from the cache if there is one."""
        if self._images is None:
            records = self.records["train"].images
            reductions = [
                reduction(largest_scale(image.info.size, canvases, self.augment)) for image in records
            ]
            self._images = Images(records, reductions, self.reading.reduced_decode)
            if self.reading.cache is not None:
                self._images.stored = open_cache(self._images, self.reading, self.on_error)
        return self._images

    def _eval_loader(self, split: Split) -> DataLoader[Sample]:
        records = self.records[split].images
        dataset = DetectionDataset(records, self.image_size, on_error=self.on_error, fill=self.fill)
        rank, world_size = self._rank_and_world_size()
        sampler, size = EvalSampler(len(records), rank, world_size), self.val_batch_size
        workers = self._workers(len(sampler), size)
        if not self.sampling.rectangular:
            pixels = size * self.image_size[0] * self.image_size[1]
            return make_loader(dataset, workers, pixels, sampler=sampler, batch_size=size)
        batches = RectangularEvalSampler(records, self.image_size, size, rank, world_size)
        pixels = max((len(keys) * keys[0].size[0] * keys[0].size[1] for keys in batches), default=0)
        return make_loader(dataset, workers, pixels, batch_sampler=batches)

    def _workers(self, images: int, batch_size: int) -> int:
        if self.num_workers is not None:
            return self.num_workers
        return default_workers(images, batch_size, self._local_ranks())

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _local_ranks(self) -> int:
        return self.trainer.num_devices if self.trainer else 1

    def _mosaic_epochs(self, batches: int) -> int | None:
        """Epochs with mosaic, of a training of so many batches an epoch; None for all."""
        trainer = self.trainer
        if trainer is None:
            return None
        epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs
        if trainer.max_steps != -1:
            limit = trainer.limit_train_batches
            batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
            steps = math.ceil(batches / trainer.accumulate_grad_batches)
            epochs = min(epochs, math.ceil(trainer.max_steps / max(steps, 1)))
        if math.isinf(epochs):
            mixing = max(self.augment.mosaic, self.augment.mixup, self.augment.copy_paste) > 0
            if mixing and self.augment.close_mosaic:
                rank_zero_info(
                    "mosaic, mixup and copy_paste go on to the last epoch, as time ends the training"
                )
            return None
        return int(epochs) - self.augment.close_mosaic

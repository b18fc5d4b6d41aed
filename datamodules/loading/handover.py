"""Batches on their way from worker processes to the training process, through memory used again and again.

The usual way is new shared memory for each tensor of each batch: the system provides and takes back hundreds
of pages an image, in both processes, and hands over a file descriptor a tensor. Where page faults are dear,
as on virtual machines, that takes longer than all resampling.
"""

from __future__ import annotations

import itertools
import mmap
import multiprocessing
import os
import weakref
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from datamodules.batch import Batch, Sample, collate

Place = tuple[int, int, tuple[int, ...]]
"""Where a batch of images lies: number of the `Slots`, slot, shape (B, H, W, 3)."""

AHEAD, HELD = 2, 3
"""Batches that each worker may prepare ahead; one arrives, and Lightning holds one and knows the next."""

_numbers = itertools.count()
_in_use: weakref.WeakValueDictionary[int, Slots] = weakref.WeakValueDictionary()
"""This process's slots by number; forked workers know theirs by the same."""


class Slots:
    """Shared memory for the images of a few batches.

    Workers take slots, one at a time. A slot is free again once nothing of its batch is left in the training
    process, so a batch may be kept for as long as one likes. The slot of a batch that nobody fetched, as its
    worker was shut down within an epoch, stays taken for the life of the loader.

    Args:
        workers: worker processes, to be forked.
        size: bytes of the largest batch.
    """

    def __init__(self, workers: int, size: int) -> None:
        self.size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self.count = workers * AHEAD + HELD
        # Not of /dev/shm, which is small in many containers; no page of it exists before its first use.
        self.memory = mmap.mmap(-1, self.count * self.size)
        self.taken = np.frombuffer(mmap.mmap(-1, self.count), np.bool_)
        self.lock = multiprocessing.Lock()
        self.number = next(_numbers)
        _in_use[self.number] = self

    def take(self, size: int) -> int | None:
        """The first free slot, now taken; None if there is none, or none of that many bytes."""
        if not self.lock.acquire(timeout=1):  # a worker was killed while it had it
            return None
        try:
            slot = int(self.taken.argmin())
            if self.taken[slot] or size > self.size:
                return None
            self.taken[slot] = True
            return slot
        finally:
            self.lock.release()

    def images(self, slot: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """The memory of a slot as images of a shape."""
        start, count = slot * self.size, int(np.prod(shape))
        return np.frombuffer(self.memory, np.uint8, count, start).reshape(shape)

    def received(self, slot: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """The images that a worker has written; when the last reference to them goes, the slot is free."""
        images = self.images(slot, shape)
        weakref.finalize(images, self._free, slot, os.getpid()).atexit = False
        return images

    def _free(self, slot: int, owner: int) -> None:
        if os.getpid() == owner:  # a process forked meanwhile has references of its own
            self.taken[slot] = False


class Handover:
    """Collates samples; what a worker returns arrives in the training process as a `Batch`.

    Args:
        workers: worker processes of the loader.
        size: bytes of its largest batch of images. A larger one, or one for which no slot is free, goes the
            usual way, as all do where workers are not forked.
    """

    def __init__(self, workers: int, size: int) -> None:
        self.slots: Slots | None = None
        if workers and multiprocessing.get_context().get_start_method() == "fork":
            try:
                self.slots = Slots(workers, size)
            except OSError as error:
                rank_zero_warn(f"no memory to hand over batches quickly ({error})")

    def __reduce__(self) -> tuple[Any, ...]:
        return Handover, (0, 0)  # only forked processes share its memory

    def __call__(self, samples: Sequence[Sample]) -> Batch | Parcel:
        """Collate samples, see `collate`; in a worker, into a slot."""
        if get_worker_info() is None or self.slots is None:
            return collate(samples)
        shape = (len(samples), *samples[0].image.shape)
        slot = self.slots.take(int(np.prod(shape)))
        if slot is None:
            return Parcel(collate(samples))
        try:
            batch = collate(samples, self.slots.images(slot, shape))
        except BaseException:
            self.slots.taken[slot] = False
            raise
        return Parcel(batch, (self.slots.number, slot, shape))


class Parcel:
    """A batch to be pickled; it is unpickled as a `Batch`.

    Args:
        batch: the batch.
        place: where its images lie; None if they are to go the usual way.
    """

    def __init__(self, batch: Batch, place: Place | None = None) -> None:
        self.batch, self.place = batch, place

    def __reduce__(self) -> tuple[Any, ...]:
        content = {field.name: getattr(self.batch, field.name) for field in fields(Batch)}
        images = content.pop("images")
        # The other tensors are small: as arrays they go through the pipe, not through memory of their own.
        content = {
            name: value.numpy() if isinstance(value, Tensor) else value for name, value in content.items()
        }
        return _unpack, (self.place or images, content)


def _unpack(images: Place | Tensor, content: dict[str, Any]) -> Batch:
    if not isinstance(images, Tensor):
        number, slot, shape = images
        images = torch.from_numpy(_in_use[number].received(slot, shape)).permute(0, 3, 1, 2)
    for name, value in content.items():
        content[name] = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
    return Batch(images, **content)

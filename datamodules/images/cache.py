"""Decoded images kept in one file for all processes of a machine: on a disk, or in shared memory.

One process makes the file while the others wait, and it gets its name once it is whole. All of them and their
workers map it into memory, read-only: whatever their number, the machine holds each page once. Filled before
the first epoch, it needs no writers among the workers, whose life a kill may end at any point.

The file holds the pixels of the images one after the other, then one byte an image, 1 if it is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import simplejpeg
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray

from datamodules.images.decoding import Images, Reading
from datamodules.problems import DataError, OnError
from datamodules.progress import progress_bar
from datamodules.storage import locked, own_folder, require_space, share_lock, try_lock

VERSION = 3
"""To be raised with every change of what a file holds."""

SHARED_MEMORY = Path("/dev/shm")
"""Linux's folder of files in memory."""

AHEAD = 1e9
"""Bytes of images that are decoded ahead of the writing."""


class CachedImages:
    """The images of a cache file; pickles as its path, so that no worker gets a copy.

    Args:
        path: the file.
        shapes: (h, w, channels) of the images in it.
    """

    def __init__(self, path: Path, shapes: Sequence[tuple[int, int, int]]) -> None:
        self.path, self.shapes = path, shapes
        self.offsets = _offsets(shapes)
        self.data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))

    def __reduce__(self) -> tuple[type[CachedImages], tuple[Path, Sequence[tuple[int, int, int]]]]:
        return CachedImages, (self.path, self.shapes)

    def get(self, index: int) -> NDArray[np.uint8] | None:
        """An image (h, w, channels) uint8, read-only, or None if it is not in the file."""
        end = self.offsets[-1]
        if index >= len(self.shapes) or not self.data[end + index]:
            return None
        return self.data[self.offsets[index] : self.offsets[index + 1]].reshape(self.shapes[index])


def open_cache(images: Images, reading: Reading, on_error: OnError) -> CachedImages | None:
    """Map the cache of a split's images into memory; make it first if there is none, or a stale one.

    A file fits if it was made of the same files (names, sizes and times of change), in the same way.

    Returns None if not even the first image has room.

    Args:
        images: the images, of which it takes as many as have room.
        reading: kind, size and folder of the cache.
        on_error: "skip" leaves out images that cannot be decoded, "raise" does not.

    Raises:
        DataError: if an image cannot be decoded, or the file cannot be made.
    """
    in_memory, folder = reading.cache == "ram", reading.folder
    if in_memory:
        if not SHARED_MEMORY.is_dir():
            raise DataError(f"data.reading.cache is ram, but this system has no {SHARED_MEMORY}: choose disk")
        folder = SHARED_MEMORY
    shapes = [images.shape(index) for index in range(len(images))]
    fitting = int(np.searchsorted(_offsets(shapes)[1:], reading.gigabytes * 1e9, side="right"))
    if fitting < len(images):
        rank_zero_warn(
            f"{fitting / len(images):.0%} of {len(images)} images fit the cache of {reading.gigabytes:g} GB "
            "(data.reading.gigabytes); the others are decoded each time"
        )
    if not fitting:
        return None
    shapes = shapes[:fitting]
    try:
        if in_memory:
            folder = own_folder(folder, f"pinpoint-{os.getuid()}")
        folder.mkdir(parents=True, exist_ok=True)
        settings, state = _key(images, fitting)
        path = folder / f"{settings}-{state}.images"
        with locked(folder / settings, lambda: rank_zero_info("waiting for the image cache")):
            if in_memory:
                _remove_unused(folder)
            held = _held(path)
            if held is None:
                for stale in folder.glob(f"{settings}-*"):
                    stale.unlink()
                held = _make(path, images, shapes, on_error)
            with held:
                cached = CachedImages(path, shapes)
                return _removed_after_use(cached) if in_memory else cached
    except OSError as error:
        raise DataError(
            f"{folder} cannot hold the cache ({error}): make room, choose a smaller "
            "data.reading.gigabytes, or another data.reading.folder or cache"
        ) from None


def _offsets(shapes: Sequence[tuple[int, int, int]]) -> NDArray[np.int64]:
    """Where each image starts in the file, and where the last one ends: (n + 1,) bytes."""
    return np.cumsum([0, *(h * w * c for h, w, c in shapes)], dtype=np.int64)


def _key(images: Images, count: int) -> tuple[str, str]:
    """What a cache is of: a hash of the settings and the names of the files, and one of their state."""
    records = images.records[:count]
    settings = [
        VERSION,
        cv2.__version__,
        simplejpeg.__version__,
        images.reduced_decode,
        list(images.reductions[:count]),
    ]
    names = [os.path.abspath(record.path) for record in records]
    state = []
    for name, record in zip(names, records, strict=True):
        found = os.stat(name) if os.path.exists(name) else None
        state.append((found and (found.st_size, found.st_mtime_ns), record.info.size, record.bands))
    return _hash([settings, names]), _hash(state)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _held(path: Path) -> IO[bytes] | None:
    """A file, locked so that nobody removes it; None if it is not there."""
    try:
        file = path.open("rb")
        share_lock(file)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # nobody did before it was locked
            return file
    except FileNotFoundError:
        return None
    file.close()
    return None


def _make(path: Path, images: Images, shapes: Sequence[tuple[int, int, int]], on_error: OnError) -> IO[bytes]:
    """Make the file; see `_held`."""
    offsets, present = _offsets(shapes), np.ones(len(shapes), dtype=np.uint8)
    require_space(path.parent, int(offsets[-1]) + len(shapes))
    partial = path.with_suffix(".partial")
    try:
        with ExitStack() as opened:
            file = opened.enter_context(partial.open("wb"))
            share_lock(file)  # keeps `_remove_unused` away
            for index, image in enumerate(
                progress_bar(_decoded(images, shapes), len(shapes), "caching images")
            ):
                if isinstance(image, DataError):
                    if on_error == "raise":
                        raise image
                    present[index] = 0
                else:
                    file.seek(int(offsets[index]))
                    file.write(image.data)
            file.seek(int(offsets[-1]))
            file.write(present.data)
            file.flush()
            os.fsync(file.fileno())  # a name for a whole file, even after a power cut
            partial.rename(path)
            opened.pop_all()
            return file
    finally:
        partial.unlink(missing_ok=True)


def _decoded(
    images: Images, shapes: Sequence[tuple[int, int, int]]
) -> Iterator[NDArray[np.uint8] | DataError]:
    """All images in order, decoded by threads, but no more at a time than memory has room for."""

    def decode(index: int) -> NDArray[np.uint8] | DataError:
        try:
            return images.decode(index)
        except DataError as error:
            return error

    with ThreadPoolExecutor() as pool:
        chunk = max(int(AHEAD // max(h * w * c for h, w, c in shapes)), 1)
        for start in range(0, len(shapes), chunk):
            yield from pool.map(decode, range(start, min(start + chunk, len(shapes))))


def _removed_after_use(cached: CachedImages) -> CachedImages:
    """Remove the file when this process ends, or drops the images, and no other process uses it."""
    file = cached.path.open("rb")
    share_lock(file)
    weakref.finalize(cached, _remove_if_last, file, cached.path, os.getpid())
    return cached


def _remove_if_last(file: IO[bytes], path: Path, owner: int) -> None:
    if os.getpid() == owner and try_lock(file):  # not in a forked worker
        path.unlink(missing_ok=True)
    file.close()


def _remove_unused(folder: Path) -> None:
    """Remove what killed processes left in memory; those that live share a lock of their file."""
    for path in (*folder.glob("*.images"), *folder.glob("*.partial")):
        with path.open("rb") as file:
            if try_lock(file):
                path.unlink()

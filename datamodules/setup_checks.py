"""What is nonsense in a data set without being wrong in any row: cheap enough to be looked for at each setup.

The doctor looks further, with file and row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datamodules.problems import DataError
from datamodules.records import Record, Records, Split

OUT = 0.02
"""Share of an image's side that a box may reach out of it: tools count edges in several ways."""

MANY = 0.1
"""Share of boxes that reach out of their image from which that is said."""

CORNERS = 0.9
"""Share of boxes that make sense as two corners from which they are, if `MOST` make none as they are; if all
do, `SOME` are enough."""

MOST, SOME, FEWEST = 0.4, 0.25, 10
"""Shares of boxes out of their image, and number of boxes, from which a mistake of format is looked for."""

SHARE = 1.0
"""Pixels within which all boxes of a split end only if they are written as shares of their images."""

SHOWN = 10
"""Number of names that a message lists."""


def check_setup(records: Mapping[Split, Records], fitting: bool, batch_size: int) -> Iterator[str]:
    """Look at all splits of a stage together; yields what is doubtful, one line each.

    Args:
        records: the splits.
        fitting: whether they are to be trained on.
        batch_size: training images a batch and device.

    Raises:
        DataError: what cannot be: no object to learn from, or corners where width and height should be.
    """
    for split, found in records.items():
        boxes = np.concatenate([image.annotations.boxes for image in found.images])
        if not len(boxes):
            message = f"no object in any of the {len(found.images)} images of {split}: "
            remedy = "look for their annotations (file names, folders, class names, ignored categories)"
            if fitting:
                raise DataError(message + remedy)
            yield message + "there is nothing to score"
            continue
        sides = np.array([image.info.size[::-1] for image in found.images], dtype=np.float64)
        counts = [len(image.annotations.boxes) for image in found.images]
        shares = boxes.reshape(-1, 2, 2) / np.repeat(sides, counts, axis=0)[:, None]
        if np.abs(boxes).max() <= SHARE < sides.min():
            raise DataError(
                f"no box of {split} reaches beyond the first pixel of its image: they seem to be written as "
                "shares of the image. Convert them to pixels"
            )
        yield from _check_boxes(shares, split)
        if twice := len(found.images) - len({image.path for image in found.images}):
            yield f"{twice} images of {split} are listed more than once, each with a part of the objects"
    if fitting and {"train", "val"} <= records.keys():
        yield from _check_training(records["train"], records["val"], batch_size)


def require_channels(records: Records, channels: int) -> Records:
    """The records with as many channels as asked for: of colours three, of arrays and TIFFs all they have.

    Raises:
        DataError: if an image has others.
    """
    for image in records.images:
        # A TIFF's channels beyond colour may be dropped, as transparency is; an array says no such thing.
        if image.bands != channels and (channels != 3 or image.path.lower().endswith(".npy")):
            raise DataError(
                f"{image.path} has {image.bands} channels, but data.channels is {channels}: set it and "
                f"model.network.in_channels to {image.bands}, or convert the image"
            )
    return replace(records, images=[replace(image, bands=channels) for image in records.images])


def _check_boxes(shares: NDArray[np.float64], split: Split) -> Iterator[str]:
    """Boxes (n, corner, axis) as shares of their images."""
    out = float(((shares < -OUT) | (shares > 1 + OUT)).any(axis=(1, 2)).mean())
    if out < MANY:
        return
    size, corner = shares[:, 1] - shares[:, 0], shares[:, 0]
    for first in (corner, corner + size / 2):  # what stands first: left and top, in YOLO's rows the centre
        like_corners = ((size > first) & (first > -OUT) & (size < 1 + OUT)).all(axis=1).mean()
        enough = like_corners >= (CORNERS if out >= MOST else 1.0) and out >= SOME
        if enough and len(shares) >= FEWEST:
            raise DataError(
                f"the boxes of {split} seem to be written as two corners, not with width and height: "
                f"{out:.0%} of them reach out of their images so. Convert them to the format's own order"
            )
    yield (
        f"{out:.0%} of the boxes of {split} reach out of their images and are clipped: if the annotations "
        "are of images of another size, scale them"
    )


def _check_training(train: Records, val: Records, batch_size: int) -> Iterator[str]:
    same = len(_files(train.images) & _files(val.images))
    if same:
        yield (
            f"{same} of {len(val.images)} images of val are training images too, so the scores are too high: "
            "give others, or data.val_fraction"
        )
    if batch_size > len(train.images):
        yield (
            f"data.batch_size is {batch_size}, but there are {len(train.images)} training images: an epoch "
            "is one step of all of them"
        )
    seen, scored = _counts(train), _counts(val)
    for missing, what in (
        ((seen == 0) & (scored > 0), "are in val but not in train: divide again"),
        ((seen == 0) & (scored == 0), "have no object in train or val: are their names right?"),
    ):
        names = [name for name, lacks in zip(train.class_names, missing, strict=True) if lacks]
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            yield f"classes {', '.join(names[:SHOWN])}{more} {what}"


def _files(images: Sequence[Record]) -> set[str]:
    return {os.path.abspath(image.path) for image in images}


def _counts(records: Records) -> NDArray[np.int64]:
    labels = np.concatenate([image.annotations.labels for image in records.images])
    return np.bincount(labels, minlength=len(records.class_names))

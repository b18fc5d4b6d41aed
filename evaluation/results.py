"""Detections and annotations of a whole evaluation, flat, and their gathering over ranks.

I images, D detections, G objects, R ignored regions; all boxes are xyxy in pixels of the original image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

ANY_CLASS = -1
"""Label of an ignored region that stands for every class."""


class DetectionsLike(Protocol):
    """Detections of one image, on any device, in any order."""

    @property
    def boxes(self) -> Tensor:
        """(n, 4) float xyxy pixels of the original image."""

    @property
    def scores(self) -> Tensor:
        """(n,) float scores in [0, 1]."""

    @property
    def labels(self) -> Tensor:
        """(n,) integer class indices."""


class AnnotationsLike(Protocol):
    """Annotations of one image; see `datamodules.batch.Annotations`, which fulfils this."""

    @property
    def boxes(self) -> Floats:
        """(n, 4) xyxy pixels of the original image."""

    @property
    def labels(self) -> Ints:
        """(n,) class indices."""

    @property
    def areas(self) -> Floats:
        """(n,) areas that decide the size bin, square pixels."""

    @property
    def ignore_boxes(self) -> Floats:
        """(m, 4) xyxy regions where objects may be unlabelled."""

    @property
    def ignore_labels(self) -> Ints:
        """(m,) class that a region ignores, `ANY_CLASS` for every class."""


@dataclass(frozen=True, slots=True)
class Results:
    """Detections and annotations of all images of an evaluation, images ascending by id.

    Attributes:
        image_ids: (I,) int64 ascending, each once.
        boxes: (D, 4) float32 xyxy of the detections.
        scores: (D,) float32.
        labels: (D,) int64 class indices.
        image_index: (D,) int64 index into the I images, ascending.
        gt_boxes: (G, 4) float32 xyxy of the objects.
        gt_areas: (G,) float32 square pixels.
        gt_labels: (G,) int64 class indices.
        gt_image_index: (G,) int64 index into the I images, ascending.
        ignore_boxes: (R, 4) float32 xyxy of the ignored regions.
        ignore_labels: (R,) int64 class indices or `ANY_CLASS`.
        ignore_image_index: (R,) int64 index into the I images, ascending.
    """

    image_ids: Ints
    boxes: Floats
    scores: Floats
    labels: Ints
    image_index: Ints
    gt_boxes: Floats
    gt_areas: Floats
    gt_labels: Ints
    gt_image_index: Ints
    ignore_boxes: Floats
    ignore_labels: Ints
    ignore_image_index: Ints

    def regions_by_class(self, classes: int) -> tuple[Floats, Ints, Ints]:
        """The ignored regions, those of every class repeated for each class.

        Args:
            classes: number of classes.

        Returns:
            boxes (r, 4) xyxy, labels (r,) without `ANY_CLASS`, image_index (r,) ascending.
        """
        every = self.ignore_labels == ANY_CLASS
        times = np.where(every, classes, 1)
        labels = np.repeat(self.ignore_labels, times)
        labels[np.repeat(every, times)] = np.tile(np.arange(classes), every.sum())
        return np.repeat(self.ignore_boxes, times, axis=0), labels, np.repeat(self.ignore_image_index, times)


def pack(image_id: int, detections: DetectionsLike, annotations: AnnotationsLike) -> tuple[Tensor, Tensor]:
    """Pack one image into two small tensors on the detections' device, the form that travels between ranks.

    Returns:
        image: (1, 4) int64: image id, number of detections, of objects, of ignored regions.
        rows: (n, 6) float32, in that order: the box, then score, area or 0, then the label (exact in
            float32, as there are fewer than 2**24 classes).
    """
    device = detections.boxes.device
    found = torch.column_stack((detections.boxes, detections.scores, detections.labels))
    objects = np.column_stack((annotations.boxes, annotations.areas, annotations.labels))
    unused = np.zeros(len(annotations.ignore_boxes))
    regions = np.column_stack((annotations.ignore_boxes, unused, annotations.ignore_labels))
    truth = torch.from_numpy(np.concatenate((objects, regions)).astype(np.float32))
    image = torch.tensor([[image_id, len(found), len(objects), len(regions)]], device=device)
    return image, torch.cat((found.float(), truth.to(device)))


def gather(images: Tensor, rows: Tensor) -> Results | None:
    """Gather the packed images of all ranks on rank 0. A collective: every rank of the group calls it.

    Three collectives on plain tensors: numbers of images, image tables to all, rows to rank 0 alone.
    Shards may be uneven or empty. Without an initialised process group nothing is sent.

    Args:
        images: (I, 4) int64 of this rank, see `pack`.
        rows: (n, 6) float32 of this rank, see `pack`.

    Returns:
        The results on rank 0, None elsewhere.
    """
    if distributed.is_available() and distributed.is_initialized():
        images, gathered = _gather(images, rows)
    else:
        gathered = rows
    ids, times = torch.unique(images[:, 0], return_counts=True)
    # Every rank sees the whole table, so all fail together and none waits for another.
    assert not (times > 1).any(), f"image ids scored more than once: {ids[times > 1].tolist()}"
    return None if gathered is None else _unpack(images.cpu().numpy(), gathered.cpu().numpy())


def _gather(images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor | None]:
    """Concatenate in rank order: the image tables on all ranks, the rows on rank 0 (elsewhere None)."""
    ranks = distributed.get_world_size()
    numbers = [images.new_zeros(1) for _ in range(ranks)]
    distributed.all_gather(numbers, images.new_tensor([len(images)]))
    most = max(int(number) for number in numbers)

    tables = [images.new_zeros(most, 4) for _ in range(ranks)]
    distributed.all_gather(tables, _pad(images, most))
    tables = [table[: int(number)] for table, number in zip(tables, numbers, strict=True)]

    lengths = [int(table[:, 1:].sum()) for table in tables]
    padded = _pad(rows, max(lengths))
    if distributed.get_rank() == 0:
        parts = [torch.empty_like(padded) for _ in range(ranks)]
        distributed.gather(padded, parts, dst=0)
        return torch.cat(tables), torch.cat([p[:n] for p, n in zip(parts, lengths, strict=True)])
    distributed.gather(padded, dst=0)
    return torch.cat(tables), None


def _pad(tensor: Tensor, length: int) -> Tensor:
    """Append zero rows up to `length`."""
    return torch.cat((tensor, tensor.new_zeros(length - len(tensor), tensor.shape[1])))


def _unpack(images: Ints, rows: Floats) -> Results:
    """Sort the images by id and split their rows into detections, objects and ignored regions."""
    order = np.argsort(images[:, 0])
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    # Ties in score fall to the earlier image, so the order must not depend on the sharding.
    image_index = np.repeat(rank, images[:, 1:].sum(axis=1))
    kind = np.repeat(np.tile(np.arange(3), len(images)), images[:, 1:].ravel())
    by_image = np.argsort(image_index, kind="stable")
    rows, kind, image_index = rows[by_image], kind[by_image], image_index[by_image]

    found, objects, regions = (rows[kind == k] for k in range(3))
    return Results(
        image_ids=images[order, 0],
        boxes=found[:, :4],
        scores=found[:, 4],
        labels=found[:, 5].astype(np.int64),
        image_index=image_index[kind == 0],
        gt_boxes=objects[:, :4],
        gt_areas=objects[:, 4],
        gt_labels=objects[:, 5].astype(np.int64),
        gt_image_index=image_index[kind == 1],
        ignore_boxes=regions[:, :4],
        ignore_labels=regions[:, 5].astype(np.int64),
        ignore_image_index=image_index[kind == 2],
    )

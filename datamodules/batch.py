"""The data types that travel from a data set to the network.

B images of a batch, G objects of the batch, M ignore boxes of the batch, n and m those of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ANY_CLASS = -1
"""Label of an ignore box that stands for every class."""


# Not frozen, nor are the others here: Lightning walks through a batch under true half and double precision.
@dataclass(slots=True)
class ImageInfo:
    """Where an input image comes from, and the map from its pixels back to the original's.

    `input = (original - origin) * scale + padding`, per axis. The map holds for evaluation samples;
    augmented training samples carry the identity.

    Attributes:
        image_id: id of the original image in its data set; tiles of one image share it.
        file_name: path of the file as its annotations name it.
        size: (height, width) of the original image in pixels.
        origin: (x, y) of the tile's upper left corner in the original image, pixels.
        scale: (x, y) input pixels per original pixel.
        padding: (left, top) padding in input pixels.
    """

    image_id: int
    file_name: str
    size: tuple[int, int]
    origin: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    padding: tuple[float, float] = (0.0, 0.0)

    def to_original(self, boxes: Tensor) -> Tensor:
        """Map boxes from input pixels to original pixels and clip them to the original image.

        Args:
            boxes: (n, 4) xyxy pixels of the input.

        Returns:
            (n, 4) xyxy pixels of the original image.
        """
        origin, scale, padding = (
            boxes.new_tensor(pair * 2) for pair in (self.origin, self.scale, self.padding)
        )
        height, width = self.size
        limit = boxes.new_tensor((width, height, width, height))
        return torch.minimum(((boxes - padding) / scale + origin).clamp(min=0), limit)

    def to_input(self, boxes: Tensor) -> Tensor:
        """Map boxes (n, 4) xyxy from original pixels to input pixels."""
        origin, scale, padding = (
            boxes.new_tensor(pair * 2) for pair in (self.origin, self.scale, self.padding)
        )
        return (boxes - origin) * scale + padding


@dataclass(slots=True)
class Annotations:
    """What a data set says about one image, untouched, in pixels of the original image.

    Attributes:
        boxes: (n, 4) float32 xyxy.
        labels: (n,) int64 class indices.
        areas: (n,) float32 object areas: COCO's `area` where given, else the box's.
        ignore_boxes: (m, 4) float32 xyxy regions where objects may be unlabelled.
        ignore_labels: (m,) int64 class that a region ignores, `ANY_CLASS` for all of them.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    areas: NDArray[np.float32]
    ignore_boxes: NDArray[np.float32]
    ignore_labels: NDArray[np.int64]


@dataclass(slots=True)
class Sample:
    """One image on its way through the transforms; image, boxes and ignore boxes move together.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes: (n, 4) float32 xyxy pixels of `image`.
        labels: (n,) int64 class indices.
        ignore_boxes: (m, 4) float32 xyxy pixels of `image`.
        info: origin of the image.
        annotations: the untouched annotations in original pixels, for evaluation; None in training.
        colour: (4,) float32 brightness, contrast and saturation factors and hue shift (turns), drawn by
            the sample's own generator and applied on the device; None for no change.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore_boxes: NDArray[np.float32]
    info: ImageInfo
    annotations: Annotations | None = None
    colour: NDArray[np.float32] | None = None


@dataclass(slots=True)
class Batch:
    """A batch with all its objects flat: no padding, no cap.

    Attributes:
        images: (B, 3, H, W) uint8 RGB; float32 in [0, 1] once on the device
            (`on_after_batch_transfer` of the data module).
        boxes: (G, 4) float32 xyxy pixels of the input.
        labels: (G,) int64 class indices.
        image_index: (G,) int64 index into the B images, ascending.
        ignore_boxes: (M, 4) float32 xyxy pixels of the input.
        ignore_index: (M,) int64 index into the B images, ascending.
        infos: origin of each image, B of them.
        annotations: untouched annotations of each image, in evaluation; empty in training.
        colour: (B, 4) float32 colour changes yet to be applied, see `Sample.colour`; None for none.
        host_objects: of a batch on a GPU, `boxes` and `image_index` on the CPU, so that what depends on them
            alone can be worked out without waiting; else None.
        host_ignored: likewise `ignore_boxes` and `ignore_index`.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    image_index: Tensor
    ignore_boxes: Tensor
    ignore_index: Tensor
    infos: Sequence[ImageInfo]
    annotations: Sequence[Annotations] = ()
    colour: Tensor | None = None
    host_objects: tuple[Tensor, Tensor] | None = None
    host_ignored: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.infos)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Copy the tensors to a device; annotations and infos stay on the host.

        To a GPU the copies are not waited for: what uses them is queued behind them.
        """
        away = torch.device(device).type == "cuda"
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking or away))
        if away and not self.boxes.is_cuda:
            moved.host_objects = self.boxes, self.image_index
            moved.host_ignored = self.ignore_boxes, self.ignore_index
        return moved

    def pin_memory(self) -> Batch:
        """Copy the tensors to pinned memory; called by `DataLoader(pin_memory=True)`."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            images=function(self.images),
            boxes=function(self.boxes),
            labels=function(self.labels),
            image_index=function(self.image_index),
            ignore_boxes=function(self.ignore_boxes),
            ignore_index=function(self.ignore_index),
            colour=None if self.colour is None else function(self.colour),
        )


def collate(samples: Sequence[Sample], out: NDArray[np.uint8] | None = None) -> Batch:
    """Stack images of one size and concatenate all their objects.

    Args:
        samples: at least one sample; all images of one height and width.
        out: (B, H, W, 3) memory for the images, new if not given.

    Returns:
        A batch on the CPU, images uint8 and, in memory, (B, H, W, 3).
    """
    boxes, ignore_boxes = [s.boxes for s in samples], [s.ignore_boxes for s in samples]
    colours = [s.colour for s in samples if s.colour is not None]
    assert len(colours) in (0, len(samples)), "either every sample of a batch has a colour change or none"
    annotations = [s.annotations for s in samples if s.annotations is not None]
    assert len(annotations) in (0, len(samples)), "either every sample of a batch is for evaluation or none"
    return Batch(
        images=torch.from_numpy(np.stack([s.image for s in samples], out=out)).permute(0, 3, 1, 2),
        boxes=torch.from_numpy(np.concatenate(boxes)),
        labels=torch.from_numpy(np.concatenate([s.labels for s in samples])),
        image_index=_owner(boxes),
        ignore_boxes=torch.from_numpy(np.concatenate(ignore_boxes)),
        ignore_index=_owner(ignore_boxes),
        infos=[s.info for s in samples],
        annotations=annotations,
        colour=torch.from_numpy(np.stack(colours)) if colours else None,
    )


def _owner(parts: Sequence[NDArray[np.float32]]) -> Tensor:
    """Index of the part that each concatenated row comes from: (rows,) int64."""
    return torch.repeat_interleave(torch.tensor([len(part) for part in parts], dtype=torch.int64))


@dataclass(frozen=True, slots=True)
class Key:
    """What a training sample depends on, beside the seed and the other keys of its batch.

    Attributes:
        epoch: epoch, from 0.
        index: position of the image in its split.
        size: (H, W) of the batch that the sample is for.
        copy: from 0, which showing of the image in this epoch; each is augmented in its own way.
    """

    epoch: int
    index: int
    size: tuple[int, int]
    copy: int = 0

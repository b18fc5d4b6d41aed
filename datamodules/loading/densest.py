"""The batch that takes the most memory, for trying out how large batches may be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from datamodules.batch import Batch
from datamodules.records import Record

MOSAIC = 4
"""Images of which one sample may be put together."""


def densest_batch(
    records: Sequence[Record], sizes: Sequence[tuple[int, int]], images: int, mosaic: bool
) -> Batch:
    """Make a batch of noise with the objects of the image that has most of them, on the largest canvas.

    Args:
        records: the training images.
        sizes: every (H, W) that batches may have.
        images: B.
        mosaic: samples may show four images, so that there may be four times as many objects.

    Returns:
        A batch on the CPU as the network takes it, images float in [0, 1].
    """
    height, width = max(sizes, key=lambda size: size[0] * size[1])
    densest = max(records, key=lambda record: len(record.annotations.boxes))
    scale = min(height / densest.info.size[0], width / densest.info.size[1])
    boxes = torch.from_numpy(densest.annotations.boxes * np.float32(scale))
    labels = torch.from_numpy(densest.annotations.labels)
    times = images * (MOSAIC if mosaic else 1)
    generator = torch.Generator().manual_seed(0)
    return Batch(
        images=torch.rand(images, densest.bands, height, width, generator=generator),
        boxes=boxes.repeat(times, 1),
        labels=labels.repeat(times),
        image_index=torch.arange(images).repeat_interleave(len(boxes) * times // images),
        ignore_boxes=boxes.new_empty(0, 4),
        ignore_index=labels.new_empty(0),
        infos=[densest.info] * images,
    )

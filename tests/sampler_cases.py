"""Images and batches for the tests of the samplers."""

import numpy as np

from datamodules.batch import Annotations, ImageInfo
from datamodules.loading.samplers import (
    Sampling,
    TrainSampler,
)
from datamodules.records import Record

SIZE = (32, 48)


def record(labels=(0,), size=(100, 100)):
    n = len(labels)
    boxes, none = np.zeros((n, 4), np.float32), np.zeros((0, 4), np.float32)
    annotations = Annotations(boxes, np.array(labels, np.int64), boxes[:, 0], none, np.zeros(0, np.int64))
    return Record("", ImageInfo(1, "", size), annotations)


def keys(images, *arguments, **more):
    """Keys of as many square images of one class, or of the records given."""
    records = [record()] * images if isinstance(images, int) else images
    return list(TrainSampler(records, more.pop("size", SIZE), *arguments, **more))


def batched(found, size):
    return [found[i : i + size] for i in range(0, len(found), size)]


RECTANGULAR = Sampling(rectangular=True)
THREE_SHAPES = [record(size=(100, 100))] * 21 + [record(size=(90, 160))] * 14 + [record(size=(160, 90))] * 5
SHAPE_OF = [0] * 21 + [1] * 14 + [2] * 5

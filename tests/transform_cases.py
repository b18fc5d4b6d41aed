"""Images with objects drawn in, for the tests of the transforms."""

import numpy as np

from datamodules.batch import ImageInfo, Sample
from datamodules.transforms.augment import jitter
from datamodules.transforms.geometry import FILL, compose
from datamodules.transforms.mosaic import mosaic

RED, GREEN, BLUE = 0, 1, 2


def sample(height=40, width=60, boxes=(), labels=None, ignore_boxes=(), image=None):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Sample(
        image=np.zeros((height, width, 3), dtype=np.uint8) if image is None else image,
        boxes=boxes,
        labels=np.arange(len(boxes)) if labels is None else np.array(labels),
        ignore_boxes=np.array(ignore_boxes, dtype=np.float32).reshape(-1, 4),
        info=ImageInfo(image_id=1, file_name="1.png", size=(height, width)),
    )


def drawn(height, width, objects, ignore_box=None):
    """Black image; object i is filled in colour i, the ignore box in blue. Each colour is its own channel."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    for channel, box in [*enumerate(objects), *([(BLUE, ignore_box)] if ignore_box else [])]:
        x1, y1, x2, y2 = box
        image[y1:y2, x1:x2, channel] = 255
    return sample(height, width, objects, ignore_boxes=[ignore_box] if ignore_box else [], image=image)


def jittered(image, size, augment, rng):
    return compose([image], [jitter(image, size, augment, rng)], size, augment.min_visibility)


def mosaicked(images, size, augment, rng):
    return compose(images, mosaic(images, size, augment, rng), size, augment.min_visibility)


def extent(image, channel):
    """Box of the bright pixels of a channel, None if there are none. FILL counts as dark."""
    ys, xs = np.nonzero(image[..., channel] > FILL + 1)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) if len(xs) else None

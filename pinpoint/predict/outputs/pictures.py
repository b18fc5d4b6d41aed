"""What was found, drawn on the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from datamodules.drawing import as_rgb, draw_found
from datamodules.images.windows import Source
from datamodules.transforms.geometry import resample
from pinpoint.predict.found import Found

LONGEST = 8192
"""Pixels of the longer side beyond which the picture of an image that is read by windows is reduced."""

JPEG_LIMIT = 65_500
"""Pixels of the longest side that JPEG knows."""

QUALITY = 90


def draw(found: Found, pixels: NDArray[np.uint8], class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Draw detections on a copy of their image, which may be reduced: (H, W, 3) RGB.

    Args:
        found: the detections.
        pixels: (H, W, C), see `datamodules.drawing.as_rgb`.
        class_names: name of each class index.
    """
    drawn = as_rgb(pixels).copy()
    scale = np.array(drawn.shape[1::-1] * 2) / (found.size[::-1] * 2)
    boxes = (found.boxes * scale).astype(np.float32)
    draw_found(drawn, boxes, found.labels, found.words(tuple(class_names)))
    return drawn


def picture(found: Found, source: Source, class_names: Sequence[str]) -> bytes:
    """The same as a JPEG file, of an image that is open."""
    height, width = found.size
    reduced = min(1.0, LONGEST / max(height, width))
    size = max(round(height * reduced), 1), max(round(width * reduced), 1)
    pixels = source.read((0, 0, width, height), size)
    if max(pixels.shape) > JPEG_LIMIT:  # decoded whole
        small = np.empty((*size, pixels.shape[2]), np.uint8)
        resample(pixels, small)
        pixels = small
    drawn = draw(found, pixels, class_names)
    return cast(bytes, simplejpeg.encode_jpeg(drawn, quality=QUALITY, colorspace="RGB"))

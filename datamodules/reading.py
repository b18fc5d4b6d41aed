"""Image files to pixels."""

from __future__ import annotations

import os

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.records import DataError, Record


def read_image(record: Record) -> NDArray[np.uint8]:
    """Decode an image: (h, w, 3) uint8 RGB, as stored (an EXIF rotation is not applied).

    Raises:
        DataError: if the file cannot be read or has another size than its record.
    """
    image = cv2.imread(record.path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        problem = "is not a readable image" if os.path.exists(record.path) else "does not exist"
        raise DataError(f"{record.path} {problem}: restore the file or remove it from the annotations")
    if image.shape[:2] != record.info.size:
        raise DataError(
            f"{record.path} is {image.shape[1]}x{image.shape[0]} pixels, but its annotations say "
            f"{record.info.size[1]}x{record.info.size[0]}: correct the width and height there"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)  # type: ignore[return-value]

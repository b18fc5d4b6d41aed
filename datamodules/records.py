"""What a reader finds: images with their annotations, and the errors of a user's data."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

from datamodules.batch import Annotations, ImageInfo

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a data set, not yet read.

    Attributes:
        path: where the image file lies.
        info: image id, file name and size.
        annotations: its objects and ignore regions, in the displayed image.
        turn: EXIF orientation that is left to be applied to its decoded pixels, see `images.orientation`.
        bands: channels that decoding gives; 3 are RGB, whatever of grey or palette is in the file.
    """

    path: str
    info: ImageInfo
    annotations: Annotations
    turn: int = 1
    bands: int = 3


@dataclass(frozen=True, slots=True)
class Records:
    """A data set split, as its reader found it.

    Attributes:
        class_names: name of each class index.
        category_ids: id that the data set gives each class index; for writing predictions.
        images: the images, ascending by image id.
    """

    class_names: list[str]
    category_ids: list[int]
    images: list[Record]

    def draw(self, fraction: float, seed: int) -> Records:
        """A share of the images, at least one, in their order; a larger share contains a smaller one.

        Args:
            fraction: share in (0, 1].
            seed: which images are drawn.
        """
        order = list(range(len(self.images)))
        random.Random(f"fraction/{seed}").shuffle(order)
        drawn = sorted(order[: max(round(fraction * len(order)), 1)])
        return replace(self, images=[self.images[i] for i in drawn])

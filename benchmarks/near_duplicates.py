"""How many near duplicates the doctor finds, and how many it imagines.

    python benchmarks/near_duplicates.py TRAIN_FOLDER VAL_FOLDER

Images of TRAIN_FOLDER are changed as a second export, another exposure or a drifting drone would, and looked
for there. For false alarms, mirror images are looked for: whatever is found then shows another thing,
but looks as natural. Images found unchanged are near duplicates, or are to be looked at.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.batch import Annotations, ImageInfo
from datamodules.records import Record
from pinpoint.doctor.near_duplicates import find_pairs
from pinpoint.doctor.pixels import read_pixels

Image = NDArray[np.uint8]
EMPTY = np.zeros((0, 4), np.float32)
NOTHING = Annotations(EMPTY, EMPTY[:, 0].astype(np.int64), EMPTY[:, 0], EMPTY, EMPTY[:, 0].astype(np.int64))


def thumbnails(folder: Path) -> tuple[list[Path], list[Image]]:
    """Paths and thumbnails of the images of a folder, as the doctor makes them."""
    paths = sorted(folder.iterdir())
    records = [Record(str(path), ImageInfo(0, path.name, (1, 1)), NOTHING) for path in paths]
    return paths, [pixels.thumbnail for pixels in read_pixels(records)]


def encoded(image: Image) -> Image:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE)


def brighter(image: Image) -> Image:
    return np.clip(image * 1.25 + 10, 0, 255).astype(np.uint8)


def cropped(share: float) -> Callable[[Image, np.random.Generator], Image]:
    """Cut away a share of the sides, at a random place."""

    def crop(image: Image, rng: np.random.Generator) -> Image:
        height, width = image.shape
        y, x = (rng.uniform(0, share, 2) * (height, width)).astype(int)
        return image[y : y + round(height * (1 - share)), x : x + round(width * (1 - share))]

    return crop


CHANGES: dict[str, Callable[[Image, np.random.Generator], Image]] = {
    "JPEG of quality 30": lambda image, rng: encoded(image),
    "brighter by a quarter": lambda image, rng: brighter(image),
    "cropped by 5 %": cropped(0.05),
    "cropped by 10 %": cropped(0.1),
    "cropped by 6 %, brighter, quality 30": lambda image, rng: encoded(brighter(cropped(0.06)(image, rng))),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path)
    parser.add_argument("val", type=Path)
    parser.add_argument("--planted", type=int, default=300, help="images that are changed")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    paths, train = thumbnails(options.train)
    _, val = thumbnails(options.val)
    chosen = rng.choice(len(paths), min(options.planted, len(paths)), replace=False)
    print(f"{len(train)} training images, {len(chosen)} of them changed:")
    for name, change in CHANGES.items():
        originals = (cv2.imread(str(paths[i]), cv2.IMREAD_GRAYSCALE) for i in chosen)
        planted = [
            cv2.resize(change(image, rng), train[0].shape, interpolation=cv2.INTER_AREA)
            for image in originals
        ]
        print(f"  {name}: {len(find_pairs(planted, train)) / len(chosen):.1%} found")
    print(f"{len(val)} validation images: {len(find_pairs(val, train))} found")
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in val]
    print(f"their mirror images: {len(find_pairs(mirrored, train))} found")


if __name__ == "__main__":
    main()

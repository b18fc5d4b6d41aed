"""Augmented training samples as the network sees them, in one picture.

python -m pinpoint.doctor.contact_sheet --config configs/RECIPE.yaml [--output sheet.png] [--count 16]
    [--data.augment.mosaic=1 ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice
from math import ceil
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.base import DetectionDataModule
from datamodules.drawing import GREY, as_rgb, class_colour, draw_boxes, hatch_boxes
from evaluation.files import write_whole
from pinpoint.cli.errors import user_errors
from pinpoint.cli.recipes import data_module

GAP = 4
"""Pixels between the samples."""

LINE = 22
"""Height of a line of the legend in pixels."""


def main(args: Sequence[str] | None = None) -> None:
    """Write a contact sheet; args are the command line's."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m pinpoint.doctor.contact_sheet",
        description=__doc__,
        formatter_class=raw,
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, action="append", default=[], help="recipe; may be repeated")
    parser.add_argument(
        "--output", type=Path, default=Path("sheet.png"), help="picture to write; sheet.png if not given"
    )
    parser.add_argument("--count", type=int, default=16, help="number of samples; 16 if not given")
    options, overrides = parser.parse_known_args(args)
    if not options.output.parent.is_dir() or not cv2.haveImageWriter(str(options.output)):
        raise ValueError(
            f"{options.output} cannot be written: give a .png or .jpg file in an existing folder"
        )
    if options.count < 1:
        raise ValueError(f"--count must be at least 1, got {options.count}")
    module = data_module(options.config, overrides)
    module.prepare_data()
    module.setup("fit")
    sheet = draw_sheet(module, options.count)
    # Not by cv2.imwrite, which says that all is well when the disk is full.
    whole, content = cv2.imencode(options.output.suffix, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    if not whole:
        raise ValueError(
            f"{options.output} cannot hold so large a picture: give a .png file, or fewer samples"
        )
    write_whole(options.output, content.tobytes())
    print(f"{options.output}: {sheet.shape[1]}x{sheet.shape[0]} pixels")


def draw_sheet(module: DetectionDataModule, count: int) -> NDArray[np.uint8]:
    """Draw the first training samples: objects in their class's colour, ignore boxes hatched.

    Args:
        module: set up for fitting.
        count: number of samples; fewer if an epoch has fewer.

    Returns:
        (h, w, 3) uint8 RGB, as near to a square as it gets, with a legend below.
    """
    pictures = list(islice(_samples(module), count))
    height, width = np.max([picture.shape[:2] for picture in pictures], axis=0) + GAP
    columns = min(ceil((len(pictures) * height / width) ** 0.5), len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = np.zeros((rows * height, columns * width, 3), dtype=np.uint8)
    for k, picture in enumerate(pictures):
        y, x = k // columns * height, k % columns * width
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return np.concatenate([sheet, _legend(module.class_names, sheet.shape[1])])


def _samples(module: DetectionDataModule) -> Iterator[NDArray[np.uint8]]:
    """Training images with their boxes, after the step on the device."""
    for batch in module.train_dataloader():
        images = module.on_after_batch_transfer(batch, 0).images.permute(0, 2, 3, 1)
        for i, pixels in enumerate((images * 255).round().byte().contiguous().numpy()):
            image, mine = as_rgb(pixels).copy(), batch.image_index == i
            hatch_boxes(image, batch.ignore_boxes[batch.ignore_index == i].numpy())
            draw_boxes(image, batch.boxes[mine].numpy(), batch.labels[mine].numpy())
            yield image


def _legend(names: Sequence[str], width: int) -> NDArray[np.uint8]:
    """Class names in their colours, and what is hatched, on as many lines as they need; ASCII alone."""
    keys = [(name.encode("ascii", "replace").decode(), class_colour(i)) for i, name in enumerate(names)]
    keys.append(("hatched: ignored", GREY))
    places, x, row = [], 0, 1
    for name, _ in keys:
        length = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0] + 3 * GAP
        if x and x + length > width:
            x, row = 0, row + 1
        places.append((x + GAP, row * LINE - LINE // 3))
        x += length
    legend = np.zeros((row * LINE, width, 3), dtype=np.uint8)
    for (name, colour), place in zip(keys, places, strict=True):
        cv2.putText(legend, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    return legend


if __name__ == "__main__":
    with user_errors():
        main()

"""Pictures of the report that show images: the worst ones and a gallery of objects by size.

C classes, D detections, G objects, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from evaluation.errors import NOTHING, SIZE_NAMES, size_bins
from evaluation.matching import Bools, Ints, Reals
from evaluation.report.words import printable
from evaluation.results import Results

LoadImage = Callable[[int], NDArray[np.uint8]]
"""Gives the (H, W, 3) RGB pixels of the original image of an id."""

TRUE, FALSE, MISSED, IGNORED_REGION = "#2ca02c", "#d62728", "#ffbf00", "#888888"
LONGEST, SHORTEST = 1400, 56
"""Pixels of the sides of a picture, whatever the shape of its image."""
MOST_WORDS = 40
"""Boxes of an image beyond which names and scores would cover it."""


def worst_images(results: Results, shown: Ints, number: int) -> Ints:
    """Indices of the images with most missed objects and false detections, worst first: (number,) or fewer.

    Args:
        results: detections and annotations.
        shown: (D,) what each detection found, those below the thresholds ignored.
        number: how many.
    """
    images = len(results.image_ids)
    false = np.bincount(results.image_index[shown == NOTHING], minlength=images)
    missed = np.bincount(results.gt_image_index[_missed(results, shown)], minlength=images)
    order = np.argsort(-(false + missed), kind="stable")[:number]
    return order[(false + missed)[order] > 0]


def draw_image(
    results: Results, shown: Ints, image: int, pixels: NDArray[np.uint8], class_names: Sequence[str]
) -> Figure:
    """An image with its true and false detections, missed objects and ignored regions.

    Classes and scores stand at the boxes, where there are few.

    Args:
        results: detections and annotations.
        shown: (D,) what each detection found, those below the thresholds ignored.
        image: index of the image.
        pixels: (H, W, 3) RGB.
        class_names: name of each class index.
    """
    height, width = pixels.shape[:2]
    zoom = np.clip(max(height, width), LONGEST / 2, LONGEST) / max(height, width)
    sides = np.clip((width * zoom, height * zoom), SHORTEST, LONGEST)
    figure = Figure(figsize=tuple(sides / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    _show(axes, pixels, 0, 0, aspect="auto")
    axes.set_axis_off()
    mine, missed = results.image_index == image, _missed(results, shown) & (results.gt_image_index == image)
    true, false = mine & (shown >= 0), mine & (shown == NOTHING)
    _draw_boxes(axes, results.ignore_boxes[results.ignore_image_index == image], IGNORED_REGION)
    _draw_boxes(axes, results.boxes[true], TRUE)
    _draw_boxes(axes, results.boxes[false], FALSE)
    _draw_boxes(axes, results.gt_boxes[missed], MISSED)
    if int(true.sum() + false.sum() + missed.sum()) <= MOST_WORDS:
        names = printable(class_names)
        for chosen, colour in ((true, TRUE), (false, FALSE)):
            for box, label, score in zip(
                results.boxes[chosen], results.labels[chosen], results.scores[chosen], strict=True
            ):
                _write(axes, box, f"{names[label]} {score:.2f}", colour)
        for box, label in zip(results.gt_boxes[missed], results.gt_labels[missed], strict=True):
            _write(axes, box, names[label], MISSED)
    return figure


def draw_gallery(results: Results, shown: Ints, load_image: LoadImage, columns: int = 8) -> Figure | None:
    """Missed and found objects of each size, cut out at six times their side; None if there is no object.

    Args:
        results: detections and annotations.
        shown: (D,) what each detection found, those below the thresholds ignored.
        load_image: see `LoadImage`.
        columns: objects a row.
    """
    missed, bins = _missed(results, shown), size_bins(results.gt_areas)
    rows: list[tuple[str, str, Ints]] = []
    for size, name in enumerate(SIZE_NAMES):
        for title, colour, chosen in (("missed", MISSED, missed), ("found", TRUE, ~missed)):
            objects = np.flatnonzero(chosen & (bins == size))
            if len(objects):
                # Evenly over the data set, so that one image does not fill the row.
                spread = np.linspace(0, len(objects) - 1, min(columns, len(objects))).round().astype(int)
                rows.append((f"{name} px, {title}\n{len(objects)}", colour, objects[spread]))
    if not rows:
        return None
    figure = Figure(figsize=(1.1 * columns + 1.4, 1.15 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, (title, colour, objects) in zip(grid, rows, strict=True):
        line[0].text(-0.15, 0.5, title, transform=line[0].transAxes, ha="right", va="center", fontsize=8)
        for axes, index in zip(line, objects, strict=False):
            pixels = load_image(int(results.image_ids[results.gt_image_index[index]]))
            _draw_crop(axes, pixels, results.gt_boxes[index], colour)
    return figure


def _draw_crop(axes: Axes, pixels: NDArray[np.uint8], box: Reals, colour: str) -> None:
    """The surroundings of a box, itself framed."""
    centre, half = (box[:2] + box[2:]) / 2, max(3 * float(np.sqrt((box[2:] - box[:2]).prod())), 12.0)
    edge = np.array((pixels.shape[1], pixels.shape[0]))
    x1, y1 = np.clip(centre - half, 0, edge - 1).astype(int)
    x2, y2 = np.clip(np.ceil(centre + half), (x1 + 1, y1 + 1), edge).astype(int)
    _show(axes, pixels[y1:y2, x1:x2], x1, y1, interpolation="nearest")
    _draw_boxes(axes, box[None], colour)


def _show(axes: Axes, pixels: NDArray[np.uint8], x: int, y: int, **options: Any) -> None:
    """Show pixels whose first is (x, y) of the image; of large images every nth, to bound the memory."""
    height, width, bands = pixels.shape
    if bands != 3:  # grey, or RGB and more
        pixels = np.repeat(pixels[..., :1], 3, axis=2) if bands < 3 else pixels[..., :3]
    step = max(1, -(-max(height, width) // (2 * LONGEST)))
    extent = (x - 0.5, x + width - 0.5, y + height - 0.5, y - 0.5)
    axes.imshow(pixels[::step, ::step], extent=extent, **options)


def _write(axes: Axes, box: Reals, words: str, colour: str) -> None:
    """Write words above a box, below it at the image's upper edge."""
    top = box[1] > 0.04 * abs(np.subtract(*axes.get_ylim()))
    axes.text(
        max(float(box[0]), 0) - 0.5,
        (box[1] if top else box[3]) - 0.5,
        words,
        color="white",
        fontsize=7,
        va="bottom" if top else "top",
        clip_on=True,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.75},
    )


def _draw_boxes(axes: Axes, boxes: Reals, colour: str) -> None:
    """Frame boxes (n, 4) xyxy; pixel centres are whole numbers to matplotlib, edges to us."""
    for x1, y1, x2, y2 in boxes.tolist():
        axes.add_patch(
            Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1)
        )


def _missed(results: Results, shown: Ints) -> Bools:
    """Whether nothing found an object: (G,)."""
    missed = np.ones(len(results.gt_labels), dtype=np.bool_)
    missed[shown[shown >= 0]] = False
    return missed

"""The report's figures. Each is a matplotlib `Figure` of its own, without pyplot's global state.

C classes, K groups, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from evaluation.analysis import Analysis
from evaluation.curves import CROWDING_NAMES, Calibration, Curve
from evaluation.errors import ERRORS, NOTHING, SIZE_NAMES, size_bins
from evaluation.matching import Bools, Ints, Reals
from evaluation.results import Results
from evaluation.tables import range_bounds

LoadImage = Callable[[int], NDArray[np.uint8]]
"""Gives the (H, W, 3) RGB pixels of the original image of an id."""

TRUE, FALSE, MISSED, IGNORED_REGION = "#2ca02c", "#d62728", "#ffbf00", "#888888"
MOST_NAMED = 12  # a legend or a matrix of more classes cannot be read


def draw_all(
    results: Results, scores: Mapping[str, float], analysis: Analysis, load_image: LoadImage, worst: int = 8
) -> dict[str, Figure]:
    """All figures by the name of their file: those of `draw_figures`, `worst_1` and so on, `gallery`.

    Args:
        results: detections and annotations.
        scores: COCO's scores, see `evaluation.coco.evaluate`.
        analysis: see `evaluation.analysis.analyse`.
        load_image: see `LoadImage`.
        worst: number of images to show.
    """
    figures = draw_figures(analysis, scores)
    for place, image in enumerate(worst_images(results, analysis.shown, worst).tolist(), 1):
        pixels = load_image(int(results.image_ids[image]))
        figures[f"worst_{place}"] = draw_image(results, analysis.shown, image, pixels)
    gallery = draw_gallery(results, analysis.shown, load_image)
    return figures if gallery is None else figures | {"gallery": gallery}


def draw_figures(analysis: Analysis, scores: Mapping[str, float]) -> dict[str, Figure]:
    """All figures that need no image, by the name of their file.

    Args:
        analysis: see `evaluation.analysis.analyse`.
        scores: COCO's scores, see `evaluation.coco.evaluate`.
    """
    return {
        "sizes": draw_sizes(scores),
        "errors": draw_error_costs(analysis.error_costs),
        "curves": draw_curves(analysis.curves, analysis.class_names),
        "confusion": draw_confusion(analysis.confusion, analysis.class_names, "class"),
        "size_confusion": draw_confusion(analysis.size_confusion, SIZE_NAMES, "size, px"),
        "calibration": draw_calibration(analysis.calibration),
        "crowding": draw_crowding(*analysis.crowding),
    }


def draw_sizes(scores: Mapping[str, float]) -> Figure:
    """AP and AR by object size."""
    ranges = ("0_8", "8_16", "16_32", "medium", "large")  # they do not overlap
    figure, axes = _figure(6, 3)
    for offset, measure, colour in ((-0.2, "AP", "#1f77b4"), (0.2, "AR", "#aec7e8")):
        values = np.nan_to_num([scores[f"{measure}_{name}"] for name in ranges])
        bars = axes.bar(np.arange(len(ranges)) + offset, values, 0.4, label=measure, color=colour)
        defined = [not np.isnan(scores[f"{measure}_{name}"]) for name in ranges]
        labels = [f"{v:.2f}" if d else "-" for v, d in zip(values, defined, strict=True)]
        axes.bar_label(bars, labels, fontsize=8)
    axes.set_xticks(range(len(ranges)), list(map(range_bounds, ranges)))
    axes.set(xlabel="side of the object, px", ylim=(0, 1))
    axes.legend(frameon=False)
    return figure


def draw_error_costs(costs: Mapping[str, Mapping[str, float]]) -> Figure:
    """What each type of error costs in AP50, by size."""
    ranges = [name for name in ("all", "small", "medium", "large") if not np.isnan(costs[name]["AP50"])]
    figure = Figure(figsize=(2.6 * max(len(ranges), 1) + 1.2, 2.8), layout="constrained")
    for i, name in enumerate(ranges):
        axes = figure.add_subplot(1, len(ranges), i + 1)
        bars = axes.barh(ERRORS[::-1], [costs[name][error] for error in ERRORS[::-1]], color="#d62728")
        axes.bar_label(bars, fmt="%.3f", fontsize=8, padding=2)
        axes.set(title=f"{name} (AP50 {costs[name]['AP50']:.3f})", xlabel="AP50 lost")
        axes.set_xlim(0, max(1.35 * max(costs[n][e] for n in ranges for e in ERRORS), 1e-3))
        axes.tick_params(labelleft=i == 0)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_curves(curves: Sequence[Curve], class_names: Sequence[str]) -> Figure:
    """Precision by recall, and F1 by score threshold with the best one marked."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, curve in zip(class_names, curves, strict=True):
        (line,) = left.plot(curve.recall, curve.precision, label=name, linewidth=1.2)
        right.plot(curve.scores, curve.f1, color=line.get_color(), linewidth=1.2)
        threshold, f1, *_ = curve.best
        if f1:
            right.plot(threshold, f1, "o", color=line.get_color(), markersize=4)
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    right.set(xlabel="score threshold", ylabel="F1 (dot: best)", xlim=(0, 1), ylim=(0, 1.02))
    if len(class_names) <= MOST_NAMED:
        left.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def draw_confusion(counts: Ints, names: Sequence[str], kind: str) -> Figure:
    """Confusion matrix, coloured by the share of its row.

    Args:
        counts: (K + 1, K + 1), the last row and column for nothing.
        names: names of the K groups.
        kind: what the groups are.
    """
    side = 1.6 + 0.5 * min(len(counts), 30)
    figure, axes = _figure(side + 0.8, side)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(counts)), [*names, "missed"], rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(counts)), [*names, "nothing"], fontsize=8)
    axes.set(xlabel=f"detected {kind}", ylabel=f"true {kind}")
    if len(names) <= MOST_NAMED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if share[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
    return figure


def draw_calibration(result: Calibration) -> Figure:
    """Reliability diagram: the share of true detections by score; the diagonal is perfect."""
    figure, axes = _figure(4.5, 4)
    bins = len(result.count)
    centres = (np.arange(bins) + 0.5) / bins
    axes.bar(
        centres, np.nan_to_num(result.precision), 0.9 / bins, color="#aec7e8", label="share of true ones"
    )
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
    axes.plot(result.score, result.precision, "o", color="#1f77b4", markersize=4, label="mean score")
    axes.set(xlabel="score", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"expected calibration error {result.error:.3f}", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def draw_crowding(count: Ints, recall: Reals) -> Figure:
    """Recall by the number of neighbours."""
    figure, axes = _figure(5, 3)
    bars = axes.bar(CROWDING_NAMES, np.nan_to_num(recall), color="#1f77b4")
    axes.bar_label(bars, [f"n = {n}" for n in count], fontsize=8)
    axes.set(xlabel="neighbours within three sides", ylabel="recall at IoU 0.5", ylim=(0, 1.1))
    return figure


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


def draw_image(results: Results, shown: Ints, image: int, pixels: NDArray[np.uint8]) -> Figure:
    """An image with its true and false detections, missed objects and ignored regions.

    Args:
        results: detections and annotations.
        shown: (D,) what each detection found, those below the thresholds ignored.
        image: index of the image.
        pixels: (H, W, 3) RGB.
    """
    height, width = pixels.shape[:2]
    figure = Figure(figsize=(10, 10 * height / width), dpi=min(max(width / 10, 100), 140))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(pixels)
    axes.set_axis_off()
    mine, missed = results.image_index == image, _missed(results, shown) & (results.gt_image_index == image)
    _draw_boxes(axes, results.ignore_boxes[results.ignore_image_index == image], IGNORED_REGION)
    _draw_boxes(axes, results.boxes[mine & (shown >= 0)], TRUE)
    _draw_boxes(axes, results.boxes[mine & (shown == NOTHING)], FALSE)
    _draw_boxes(axes, results.gt_boxes[missed], MISSED)
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
    x1, y1 = np.maximum(centre - half, 0).astype(int)
    x2, y2 = np.minimum(np.ceil(centre + half), (pixels.shape[1], pixels.shape[0])).astype(int)
    axes.imshow(
        pixels[y1:y2, x1:x2], extent=(x1 - 0.5, x2 - 0.5, y2 - 0.5, y1 - 0.5), interpolation="nearest"
    )
    _draw_boxes(axes, box[None], colour)


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


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes

"""The report's charts. Each is a matplotlib `Figure` of its own, without pyplot's global state.

C classes, K groups, H x W pixels.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.analysis import Analysis
from evaluation.curves import CROWDING_NAMES, Calibration, Curve
from evaluation.errors import ERRORS, SIZE_NAMES
from evaluation.matching import Ints, Reals
from evaluation.report.pictures import LoadImage, draw_gallery, draw_image, worst_images
from evaluation.report.words import printable
from evaluation.results import Results
from evaluation.tables import range_bounds

MOST_NAMED = 12  # a legend or a matrix of more classes cannot be read


def draw_all(
    results: Results, scores: Mapping[str, float], analysis: Analysis, load_image: LoadImage, worst: int = 8
) -> dict[str, Figure]:
    """All figures by the name of their file: those of `draw_figures`, `worst_1` and so on, `gallery`.

    A figure that cannot be drawn is left out, with a warning.

    Args:
        results: detections and annotations.
        scores: COCO's scores, see `evaluation.coco.evaluate`.
        analysis: see `evaluation.analysis.analyse`.
        load_image: see `LoadImage`.
        worst: number of images to show.
    """
    figures = draw_figures(analysis, scores)
    for place, image in enumerate(worst_images(results, analysis.shown, worst).tolist(), 1):
        with attempt(f"worst_{place}"):
            pixels = load_image(int(results.image_ids[image]))
            figures[f"worst_{place}"] = draw_image(
                results, analysis.shown, image, pixels, analysis.class_names
            )
    with attempt("gallery"):
        gallery = draw_gallery(results, analysis.shown, load_image)
        if gallery is not None:
            figures["gallery"] = gallery
    return figures


def draw_figures(analysis: Analysis, scores: Mapping[str, float]) -> dict[str, Figure]:
    """All figures that need no image, by the name of their file.

    Args:
        analysis: see `evaluation.analysis.analyse`.
        scores: COCO's scores, see `evaluation.coco.evaluate`.
    """
    makers: dict[str, Callable[[], Figure]] = {
        "sizes": lambda: draw_sizes(scores),
        "errors": lambda: draw_error_costs(analysis.error_costs),
        "curves": lambda: draw_curves(analysis.curves, analysis.class_names),
        "confusion": lambda: draw_confusion(analysis.confusion, analysis.class_names, "class"),
        "size_confusion": lambda: draw_confusion(analysis.size_confusion, SIZE_NAMES, "size, px"),
        "calibration": lambda: draw_calibration(analysis.calibration),
        "crowding": lambda: draw_crowding(*analysis.crowding),
    }
    figures = {}
    for name, make in makers.items():
        with attempt(name):
            figures[name] = make()
    return figures


@contextmanager
def attempt(name: str) -> Iterator[None]:
    """Let no picture end a training or an evaluation: its failure is a warning.

    Args:
        name: of the picture.
    """
    try:
        yield
    except Exception as error:
        warnings.warn(f"the picture {name} cannot be drawn: {type(error).__name__}: {error}", stacklevel=3)


def as_png(figure: Figure) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


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
    axes.set(xlabel="side of the object, px", ylim=(0, 1.08))
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=8)
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
    for name, curve in zip(printable(class_names), curves, strict=True):
        (line,) = left.plot(curve.recall, curve.precision, label=name, linewidth=1.2)
        right.plot(curve.scores, curve.f1, color=line.get_color(), linewidth=1.2)
        threshold, f1, *_ = curve.best
        if f1:
            right.plot(threshold, f1, "o", color=line.get_color(), markersize=4)
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    right.set(xlabel="score threshold", ylabel="F1 (dot: best)", xlim=(0, 1), ylim=(0, 1.02))
    if len(class_names) <= MOST_NAMED:
        # Beside the axes, where it covers no curve.
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
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
    short = printable(names)
    # A row of few objects is as dark as one of many: their number says what it is worth.
    rows = [f"{name} ({n})" for name, n in zip([*short, "nothing"], counts.sum(axis=1), strict=True)]
    axes.set_xticks(range(len(counts)), [*short, "missed"], rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(counts)), rows, fontsize=8)
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
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def draw_crowding(count: Ints, recall: Reals) -> Figure:
    """Recall by the number of neighbours."""
    figure, axes = _figure(5, 3)
    bars = axes.bar(CROWDING_NAMES, np.nan_to_num(recall), color="#1f77b4")
    axes.bar_label(bars, [f"n = {n}" for n in count], fontsize=8)
    axes.set(xlabel="neighbours within three sides", ylabel="recall at IoU 0.5", ylim=(0, 1.1))
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes

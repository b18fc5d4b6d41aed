"""The doctor's pictures. Each is a matplotlib `Figure` of its own, without pyplot's global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter, ScalarFormatter

from datamodules.records import Split
from evaluation.report.words import printable
from pinpoint.doctor.near_duplicates import Pair
from pinpoint.doctor.objects import Ints, Objects, Reals
from pinpoint.doctor.pixels import Pixels

COLOURS: dict[Split, str] = {"train": "#1f77b4", "val": "#ff7f0e"}
SIDE_TICKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
ASPECT_TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8)
ASPECT_NAMES = ("1:8", "1:4", "1:2", "1:1", "2:1", "4:1", "8:1")
NEIGHBOUR_EDGES = (0, 1, 2, 3, 5, 10)
NEIGHBOUR_NAMES = ("0", "1", "2", "3-4", "5-9", "10+")
MOST_CLASSES = 15
"""Classes that the picture has room for; the most frequent ones are drawn."""
CELLS = 24
"""Cells of the heat map along each side."""


def draw_overview(
    objects: Mapping[Split, Objects], class_names: Sequence[str], image_size: tuple[int, int]
) -> Figure:
    """Nine panels: sides, aspects, classes, crowding, image sizes and positions.

    Args:
        objects: the objects of each split that could be read.
        class_names: name of each class index.
        image_size: (H, W) of the network's input.
    """
    figure = Figure(figsize=(13, 10.5), dpi=100, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    panels = figure.subplots(3, 3)
    height, width = image_size
    sides = {split: own.sides for split, own in objects.items()}
    input_sides = {split: own.input_sides for split, own in objects.items()}
    reach = max((values.max(initial=8) for values in (*sides.values(), *input_sides.values())), default=8)
    ticks = [tick for tick in SIDE_TICKS if tick <= 2 * reach]
    edges = 2 ** np.arange(0, np.log2(ticks[-1]) + 0.25, 0.25)
    for axes, title, values in (
        (panels[0, 0], "side, original pixels", sides),
        (panels[0, 1], f"side at the input of {width} x {height} px", input_sides),
    ):
        _histogram(axes, values, edges, title)
        _log_ticks(axes, ticks, [str(tick) for tick in ticks])
    _histogram(
        panels[0, 2],
        {split: own.aspects for split, own in objects.items()},
        2 ** np.linspace(-3, 3, 25),
        "width : height of the box",
    )
    _log_ticks(panels[0, 2], ASPECT_TICKS, ASPECT_NAMES)
    _draw_classes(panels[1, 0], objects, class_names)
    per_image = {split: own.per_image for split, own in objects.items()}
    most = max(max((counts.max(initial=1) for counts in per_image.values()), default=1), 8)
    _histogram(panels[1, 1], per_image, np.linspace(-0.5, most + 0.5, min(most, 30) + 2), "objects an image")
    panels[1, 1].set_ylabel("share of the images")
    _draw_neighbours(panels[1, 2], objects)
    _draw_image_sizes(panels[2, 0], objects)
    _draw_positions(panels[2, 1], objects, "train")
    _draw_positions(panels[2, 2], objects, "val")
    # One legend for all panels, above them, where it can cover nothing.
    handles = [Patch(color=COLOURS[split], label=split) for split in objects]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)
    return figure


def draw_pairs(pairs: Sequence[tuple[Pair, Pixels, Pixels]], columns: int = 4, rows: int = 3) -> Figure:
    """Thumbnails of near duplicates side by side with their correlation, the most alike first.

    Args:
        pairs: the pair and its two images.
        columns: pairs a row.
        rows: most rows.
    """
    chosen = sorted(pairs, key=lambda pair: -pair[0].correlation)[: columns * rows]
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(3 * columns, 1.75 * rows), dpi=100, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (pair, first, second) in zip(grid, chosen, strict=False):
        gap = np.full((len(first.thumbnail), 2), 255, dtype=np.uint8)
        axes.imshow(np.hstack([first.thumbnail, gap, second.thumbnail]), cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{pair.correlation:.3f}", fontsize=9)
    return figure


def _histogram(axes: Axes, values: Mapping[Split, Reals | Ints], edges: Reals, title: str) -> None:
    """Shares of the values of each split in each bin: train filled, val a line."""
    medians = []
    for split, own in values.items():
        shares = np.histogram(own.clip(edges[0], edges[-1]), edges)[0] / max(len(own), 1)
        if len(own):
            medians.append(f"{split} {np.median(own):.3g}")
        axes.stairs(
            shares,
            edges,
            fill=split == "train",
            alpha=0.55 if split == "train" else 1,
            color=COLOURS[split],
            linewidth=1.4,
        )
    axes.set(xlabel=title, ylabel="share of the objects")
    axes.set_title(f"median: {', '.join(medians)}", fontsize=9)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.spines[["top", "right"]].set_visible(False)


def _log_ticks(axes: Axes, ticks: Sequence[float], names: Sequence[str]) -> None:
    axes.set_xscale("log", base=2)
    every = -(-len(ticks) // 9)  # more would run into each other
    ticks, names = ticks[::every], names[::every]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, names, fontsize=8)


def _draw_classes(axes: Axes, objects: Mapping[Split, Objects], class_names: Sequence[str]) -> None:
    counts = {split: own.per_class(len(class_names)) for split, own in objects.items()}
    order = np.argsort(-np.sum(list(counts.values()), axis=0), kind="stable")[:MOST_CLASSES]
    height, names = 0.8 / len(counts), printable(class_names)
    for k, (split, own) in enumerate(counts.items()):
        places = np.arange(len(order)) + (k - (len(counts) - 1) / 2) * height
        bars = axes.barh(places, own[order], height, color=COLOURS[split], alpha=0.8)
        if len(order) <= 10:
            axes.bar_label(bars, [str(n) for n in own[order]], fontsize=7, padding=2)
    most = max(max(own.max(initial=1) for own in counts.values()), 1)
    axes.set_yticks(range(len(order)), [names[i] for i in order], fontsize=8)
    axes.set_xscale("symlog", linthresh=1)
    axes.set(xlim=(0, most * 6), xlabel="objects of the class (log scale)")
    axes.xaxis.set_major_locator(FixedLocator([0, *(10.0**k for k in range(int(np.log10(most * 6)) + 1))]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    if len(class_names) > MOST_CLASSES:
        axes.set_title(f"the {MOST_CLASSES} most frequent of {len(class_names)} classes", fontsize=9)


def _draw_neighbours(axes: Axes, objects: Mapping[Split, Objects]) -> None:
    width = 0.8 / len(objects)
    for k, (split, own) in enumerate(objects.items()):
        count, _ = own.neighbours()
        shares = np.histogram(count, [*NEIGHBOUR_EDGES, np.inf])[0] / max(len(count), 1)
        places = np.arange(len(shares)) + (k - (len(objects) - 1) / 2) * width
        bars = axes.bar(places, shares, width, color=COLOURS[split], alpha=0.8)
        axes.bar_label(bars, [f"{100 * share:.0f}" if share > 0.005 else "" for share in shares], fontsize=7)
    axes.set_xticks(range(len(NEIGHBOUR_NAMES)), NEIGHBOUR_NAMES)
    axes.set(xlabel="centres of other objects within one side", ylabel="share of the objects")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.spines[["top", "right"]].set_visible(False)


def _draw_image_sizes(axes: Axes, objects: Mapping[Split, Objects]) -> None:
    largest = 1
    for split, own in objects.items():
        sizes, counts = np.unique(own.sizes, axis=0, return_counts=True)
        area = 30 + 300 * counts / max(counts.sum(), 1)
        marker = "o" if split == "train" else "D"
        axes.scatter(
            sizes[:, 1],
            sizes[:, 0],
            area,
            facecolor="none" if split == "val" else COLOURS[split],
            edgecolor=COLOURS[split],
            alpha=0.7,
            marker=marker,
            label=f"{split}: {len(own.sizes)} images, sizes: {len(sizes)}",
        )
        largest = max(largest, sizes.max(initial=1))
    axes.plot([0, 1.1 * largest], [0, 1.1 * largest], color="#bbbbbb", linewidth=0.8, zorder=0)
    axes.set(xlim=(0, 1.1 * largest), ylim=(0, 1.1 * largest), aspect="equal", adjustable="box")
    axes.set(xlabel="width of the image, px", ylabel="height, px")
    axes.spines[["top", "right"]].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    legend = axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    for handle in legend.legend_handles:
        handle.set_sizes([30])  # type: ignore[union-attr]


def _draw_positions(axes: Axes, objects: Mapping[Split, Objects], split: Split) -> None:
    if split not in objects or not len(objects[split].boxes):
        axes.set_axis_off()
        return
    own = objects[split]
    height, width = np.median(own.sizes, axis=0)
    shares = own.positions(CELLS)
    image = axes.imshow(shares * CELLS**2, cmap="magma", vmin=0, extent=(0, 1, 1, 0), aspect=height / width)
    axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], title=f"where the objects of {split} are")
    axes.title.set_fontsize(10)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("objects, relative to an even spread", fontsize=8)

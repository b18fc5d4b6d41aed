"""What is wrong with single rows of the annotations, as they stand in their files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from datamodules.batch import ImageInfo
from datamodules.formats.rows import SMALLEST
from datamodules.problems import Row
from datamodules.records import Split
from datamodules.transforms.geometry import area, fit
from pinpoint.doctor.findings import Finding

CUT = 1.0
"""Pixels that a box may reach out of its image without mention: tools count edges in different ways."""

SAME = 0.95
"""IoU above which two boxes of a class are one object annotated twice."""

BLOCK = 256
"""Rows compared with all others at a time, for memory's sake."""

TINY = 2.0
"""Side in input pixels below which hardly anything of an object is left."""


def check_rows(
    read: Mapping[str, tuple[ImageInfo, list[Row]]], split: Split, image_size: tuple[int, int]
) -> Iterator[Finding]:
    """Look at the boxes of every image.

    Args:
        read: each image, by its path, and its rows; see `Problems`.
        split: the split that they are of.
        image_size: (H, W) of the network's input.
    """
    for path, (info, rows) in read.items():
        height, width = info.size
        scale, objects = fit(info.size, image_size), []
        for row in rows:
            x, y, w, h = row.box
            text = f"{row.place}: box x {x:g}, y {y:g}, width {w:g}, height {h:g}"
            reach = max(-x, -y, x + w - width, y + h - height)
            inside = min(min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0))
            if min(w, h) < SMALLEST:
                yield Finding("no-size", split, path, f"{text} has no size")
            elif inside < SMALLEST:
                yield Finding("outside", split, path, f"{text} lies outside its image of {width}x{height}")
            elif not row.ignore:
                objects.append(row)
                if reach > CUT:
                    yield Finding(
                        "cut",
                        split,
                        path,
                        f"{text} reaches {reach:g} px out of its image of {width}x{height}",
                    )
                if (side := (w * h) ** 0.5 * scale) < TINY:
                    yield Finding("tiny", split, path, f"{text} measures {side:.2f} px at the input")
        for first, second in _same(objects):
            earlier = re.split(", |: ", first.place)[-1]
            message = f"{second.place}: the same class and box as {earlier}"
            yield Finding("duplicate", split, path, message)


def _same(rows: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Each row that an earlier one tells already, after that one."""
    boxes = np.array([row.box for row in rows], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([row.label for row in rows])
    for start in range(0, len(rows), BLOCK):
        some = slice(start, start + BLOCK)
        before = slice(start + BLOCK)
        equal = (_iou(boxes[some], boxes[before]) > SAME) & (labels[some, None] == labels[before])
        for second in np.flatnonzero(np.tril(equal, start - 1).any(axis=1)):
            yield rows[int(equal[second].argmax())], rows[start + second]


def _iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of all pairs of (n, 4) and (m, 4) xyxy boxes, each of positive size: (n, m)."""
    low = np.maximum(first[:, None, :2], second[:, :2])
    high = np.minimum(first[:, None, 2:], second[:, 2:])
    common = (high - low).clip(0).prod(axis=-1)
    return common / (area(first)[:, None] + area(second) - common)  # type: ignore[no-any-return]

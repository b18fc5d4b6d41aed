"""Boxes on images."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

PALETTE = (
    (0, 230, 60),
    (255, 60, 60),
    (255, 225, 0),
    (0, 210, 255),
    (255, 60, 255),
    (255, 150, 0),
    (60, 130, 255),
    (255, 255, 255),
    (255, 170, 200),
    (170, 170, 0),
)
"""RGB of the classes, over again after ten."""

GREY = (150, 150, 150)
"""RGB of ignore boxes."""

LINES, THICKEST = 1000, 3
"""Lines around what was found are this part of the longer side of the image, in pixels no more than that:
images of many thousands are zoomed into."""

FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_SCALE = 0.35

HATCH = 8
"""Pixels between the lines of a hatched box."""


def as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) to be looked at, of (H, W, C): the first three channels, of one or two the first as grey."""
    return image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)


def class_colour(label: int) -> tuple[int, int, int]:
    """RGB of a class index."""
    return PALETTE[label % len(PALETTE)]


def draw_boxes(image: NDArray[np.uint8], boxes: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """Draw outlines, one colour a class.

    Args:
        image: (H, W, 3) uint8 RGB, drawn upon.
        boxes: (n, 4) xyxy pixels.
        labels: (n,) class indices.
    """
    for corners, label in zip(_corners(boxes), labels.tolist(), strict=True):
        cv2.rectangle(image, *corners, class_colour(label))


def write_names(
    image: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    words: Sequence[str],
    most: int = 30,
) -> None:
    """Write words above boxes in the colours of their classes, unless they are so many as to cover the image.

    Args:
        image: (H, W, 3) uint8 RGB, drawn upon.
        boxes: (n, 4) xyxy pixels.
        labels: (n,) class indices.
        words: n of them; OpenCV's font has ASCII alone, other letters become question marks.
        most: boxes beyond which nothing is written.
    """
    if len(boxes) > most:
        return
    for ((x, y), _), label, text in zip(_corners(boxes), labels.tolist(), words, strict=True):
        place = (max(x, 0), y - 3 if y > 12 else y + 10)
        plain = text.encode("ascii", "replace").decode()
        cv2.putText(image, plain, place, FONT, FONT_SCALE, class_colour(label), 1, cv2.LINE_AA)


def draw_found(
    image: NDArray[np.uint8], boxes: NDArray[np.float32], labels: NDArray[np.int64], words: Sequence[str]
) -> None:
    """Draw what was found so that it stays legible, hundreds of small objects too.

    Lines are as thin as the image allows, thinner around small objects. Words stand above or below their
    box where they cover no other box and no other words; where they would, they are left out.

    Args:
        image: (H, W, 3) uint8 RGB, drawn upon.
        boxes: (n, 4) xyxy pixels, the most important first.
        labels: (n,) class indices.
        words: n of them; OpenCV's font has ASCII alone, other letters become question marks.
    """
    line = min(max(1, round(max(image.shape[:2]) / LINES)), THICKEST)
    corners = _corners(boxes)
    for (low, high), label in zip(corners, labels.tolist(), strict=True):
        side = min(high[0] - low[0], high[1] - low[1])
        cv2.rectangle(image, low, high, class_colour(label), min(line, max(1, side // 8)))
    # Of what words must not cover: the boxes, then the words that stand already.
    taken = np.array([(*low, *high) for low, high in corners], dtype=np.int64).reshape(-1, 4)
    for number, (text, label) in enumerate(zip(words, labels.tolist(), strict=True)):
        plain = text.encode("ascii", "replace").decode()
        area = _free_place(image.shape[:2], taken, number, plain, line)
        if area is not None:
            x1, y1, x2, y2 = area
            cv2.rectangle(image, (x1, y1), (x2, y2), class_colour(label), cv2.FILLED)
            place = (x1 + line, y2 - 3 * line)
            cv2.putText(image, plain, place, FONT, FONT_SCALE * line, (0, 0, 0), line, cv2.LINE_AA)
            taken = np.concatenate((taken, [area]))


def _free_place(
    size: tuple[int, int], taken: NDArray[np.int64], number: int, text: str, line: int
) -> tuple[int, int, int, int] | None:
    """Where words fit at a box: x1, y1, x2, y2 of their ground, inclusive; None if nowhere."""
    (width, height), below = cv2.getTextSize(text, FONT, FONT_SCALE * line, line)
    width, height = width + 2 * line, height + below + 2 * line
    x, top, _, bottom = taken[number].tolist()
    x = min(max(x, 0), size[1] - width)
    others = np.delete(taken, number, axis=0)
    for y in (top - height, bottom + 1):
        if x < 0 or y < 0 or y + height > size[0]:
            continue
        x2, y2 = x + width - 1, y + height - 1
        apart = (others[:, 0] > x2) | (others[:, 2] < x) | (others[:, 1] > y2) | (others[:, 3] < y)
        if apart.all():
            return x, y, x2, y2
    return None


def hatch_boxes(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> None:
    """Draw ignore boxes (m, 4) xyxy pixels as grey outlines with grey slanted lines, upon the image."""
    for (x1, y1), (x2, y2) in _corners(boxes):
        inside = image[y1 : y2 + 1, x1 : x2 + 1]
        rows, columns = np.ogrid[y1 : y1 + inside.shape[0], x1 : x1 + inside.shape[1]]
        inside[(rows + columns) % HATCH == 0] = GREY
        cv2.rectangle(image, (x1, y1), (x2, y2), GREY)


def _corners(boxes: NDArray[np.float32]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """First and last pixel of each box."""
    whole = np.floor(boxes).astype(int)
    whole[:, 2:] = np.maximum(np.ceil(boxes[:, 2:]).astype(int) - 1, whole[:, :2])
    return [((x1, y1), (x2, y2)) for x1, y1, x2, y2 in whole.tolist()]

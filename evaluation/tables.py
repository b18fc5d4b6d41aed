"""Tables as text and as Markdown: how numbers, size ranges and rows are written wherever scores are shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from evaluation.coco import SIDE_RANGES

Cell = str | int | float


def cell_text(value: Cell) -> str:
    """A cell as text: three decimals for a real number, a dash where it is not defined."""
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3f}"
    return str(value)


def range_bounds(name: str) -> str:
    """Bounds of a size range of `SIDE_RANGES` in pixels, such as "< 8", "8-16" or "96+"."""
    low, high = SIDE_RANGES[name]
    return f"{low}+" if high == 1e5 else f"{low}-{high}" if low else f"< {high}"


def range_title(name: str) -> str:
    """A size range by its name, if it has one, and its bounds, such as "8-16" or "small (< 32)"."""
    return range_bounds(name) if name[0].isdigit() else f"{name} ({range_bounds(name)})"


def limit_names(scores: Iterable[str]) -> list[str]:
    """The recalls at a number of detections, `AR1` and so on, among the names of scores."""
    return [name for name in scores if name.startswith("AR") and name[2:].isdigit()]


def plain(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table of text, its first column to the left and its numbers to the right, a rule below the header."""
    lines = ["  ".join(row) for row in _aligned([header, *rows], numbers=True)]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def columns(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table of words: all columns to the left, no rule."""
    return "\n".join("  ".join(row) for row in _aligned([header, *rows]))


def markdown(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table of Markdown, aligned for those who read the text itself."""
    escaped = [[cell_text(value).replace("|", "\\|") for value in row] for row in (header, *rows)]
    head, *body = _aligned(escaped)
    rule = ["-" * len(cell) for cell in head]
    return "\n".join([_row(head), f"|-{'-|-'.join(rule)}-|", *map(_row, body)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _aligned(rows: Iterable[Sequence[Cell]], numbers: bool = False) -> list[list[str]]:
    """Pad cells to the width of their column; `numbers` moves all but the first column to the right."""
    cells = [[cell_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        [
            cell.rjust(width) if numbers and place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in cells
    ]

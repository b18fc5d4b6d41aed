"""What an evaluation leaves behind: the printed table, `metrics.json` and `predictions.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluation import visdrone
from evaluation.coco import IOU_PERCENT, SIDE_RANGES
from evaluation.difference import Difference
from evaluation.results import Results

Row = Sequence[str | float]


def format_table(scores: Mapping[str, float], class_names: Sequence[str]) -> str:
    """The scores as text: overall, by size, by class.

    Args:
        scores: COCO's scores in [0, 1], see `evaluation.coco.score_names`.
        class_names: the classes, in the order of their rows.

    Returns:
        Lines without a final line break; undefined scores are shown as a dash.
    """
    limits = [name for name in scores if name.startswith("AR") and name[2:].isdigit()]
    overall = ["AP", "AP50", "AP75", *limits]
    by_size: Iterable[Row] = (
        [_range_title(name), scores[f"AP_{name}"], scores[f"AR_{name}"]] for name in SIDE_RANGES
    )
    by_class: Iterable[Row] = ([name, scores[f"AP/{name}"], scores[f"AP50/{name}"]] for name in class_names)
    tables = [
        _table(["", *overall], [["overall", *(scores[name] for name in overall)]]),
        _table(
            ["", *(f"AP{t}" for t in IOU_PERCENT)], [["by IoU", *(scores[f"AP{t}"] for t in IOU_PERCENT)]]
        ),
        _table(["object size, px", "AP", "AR"], by_size),
        _table(["class", "AP", "AP50"], by_class),
    ]
    return "\n\n".join(tables)


def format_visdrone(scores: Mapping[str, float]) -> str:
    """The scores of VisDrone's official protocol as text.

    Args:
        scores: percentages, see `evaluation.visdrone.evaluate`.
    """
    names = visdrone.SCORES
    averages = {"VisDrone's protocol, %": "", "plain mean of the classes, %": "plain/"}
    return _table(["", *names], [[t, *(scores[p + n] for n in names)] for t, p in averages.items()])


def format_differences(differences: Mapping[str, Difference]) -> str:
    """Differences from another run as text.

    Args:
        differences: by score, see `evaluation.difference.differences`.
    """
    header = ["", "this", "other", "difference", "95 % interval"]
    rows: Iterable[Row] = (
        [name, d.this, d.other, f"{d.mean:+.3f}", f"[{d.low:+.3f}, {d.high:+.3f}]"]
        for name, d in differences.items()
    )
    return _table(header, rows)


def write_metrics(path: Path, metrics: Mapping[str, object]) -> None:
    """Write numbers as JSON; NaN and infinity, which JSON lacks, become null.

    Args:
        path: file to write.
        metrics: nested mappings and sequences of strings, numbers, booleans and None.
    """
    path.write_text(
        json.dumps(_jsonable(metrics), indent=2, allow_nan=False, ensure_ascii=False) + "\n", "utf-8"
    )


def write_predictions(path: Path, results: Results, category_ids: Sequence[int]) -> None:
    """Write the detections in COCO's results format, images ascending by id, best detection first.

    Boxes are written in full precision, so that a score computed from the file is the same.

    Args:
        path: file to write.
        results: the detections.
        category_ids: the data set's category id of each class index.
    """
    order = np.lexsort((-results.scores, results.image_index))
    corners = results.boxes[order].astype(np.float64)
    boxes = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)
    columns = (
        results.image_ids[results.image_index[order]],
        np.asarray(category_ids, dtype=np.int64)[results.labels[order]],
        boxes,
        results.scores[order],
    )
    keys = ("image_id", "category_id", "bbox", "score")
    rows = (dict(zip(keys, row, strict=True)) for row in zip(*(c.tolist() for c in columns), strict=True))
    with path.open("w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in rows) + "\n]\n")


def _range_title(name: str) -> str:
    """Name of a size range with its bounds."""
    low, high = SIDE_RANGES[name]
    bounds = f"{low}+" if high == 1e5 else f"{low}-{high}" if low else f"< {high}"
    return bounds if name[0].isdigit() else f"{name} ({bounds})"


def _table(header: Sequence[str], rows: Iterable[Row]) -> str:
    """Align the first column left and the numbers right, three decimals."""
    cells = [list(header)] + [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else "-" if math.isnan(value) else f"{value:.3f}"


def _jsonable(value: object) -> object:
    """Replace what JSON cannot say by null and turn numpy's numbers into Python's."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

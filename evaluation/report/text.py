"""What an evaluation leaves behind: the printed table, `metrics.json` and `predictions.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluation import visdrone
from evaluation.coco import IOU_PERCENT, SIDE_RANGES
from evaluation.difference import Difference
from evaluation.files import write_whole
from evaluation.results import Results
from evaluation.tables import Cell, limit_names, plain, range_title


def format_table(scores: Mapping[str, float], class_names: Sequence[str]) -> str:
    """The scores as text: overall, by size, by class.

    Args:
        scores: COCO's scores in [0, 1], see `evaluation.coco.evaluate`.
        class_names: the classes, in the order of their rows.

    Returns:
        Lines without a final line break; undefined scores are shown as a dash.
    """
    overall = ["AP", "AP50", "AP75", *limit_names(scores)]
    thresholds = [f"AP{percent}" for percent in IOU_PERCENT]
    tables = [
        plain(["", *overall], [["overall", *(scores[name] for name in overall)]]),
        plain(["", *thresholds], [["by IoU", *(scores[name] for name in thresholds)]]),
        plain(
            ["object size, px", "AP", "AR"],
            [(range_title(name), scores[f"AP_{name}"], scores[f"AR_{name}"]) for name in SIDE_RANGES],
        ),
        plain(
            ["class", "AP", "AP50"],
            [(name, scores[f"AP/{name}"], scores[f"AP50/{name}"]) for name in class_names],
        ),
    ]
    return "\n\n".join(tables)


def format_trade(whole: Mapping[str, float], views: Mapping[str, float]) -> str:
    """What tiles gain and cost by size, as text.

    Args:
        whole: COCO's scores of the images as a whole, see `evaluation.coco.evaluate`.
        views: those of their tiles, or other views.
    """
    names = {"all": "", **{range_title(name): f"_{name}" for name in SIDE_RANGES}}
    rows: list[list[Cell]] = [
        [title, *(scores[f"{score}{suffix}"] for score in ("AP", "AR") for scores in (whole, views))]
        for title, suffix in names.items()
    ]
    return plain(["object size, px", "AP whole", "AP views", "AR whole", "AR views"], rows)


def format_visdrone(scores: Mapping[str, float]) -> str:
    """The scores of VisDrone's official protocol as text.

    Args:
        scores: percentages, see `evaluation.visdrone.evaluate`.
    """
    names = visdrone.SCORES
    averages = {"VisDrone's protocol, %": "", "plain mean of the classes, %": "plain/"}
    return plain(["", *names], [[t, *(scores[p + n] for n in names)] for t, p in averages.items()])


def format_differences(differences: Mapping[str, Difference]) -> str:
    """Differences from another run as text.

    Args:
        differences: by score, see `evaluation.difference.differences`.
    """
    header = ["", "this", "other", "difference", "95 % interval"]
    rows = [
        (name, d.this, d.other, f"{d.mean:+.3f}", f"[{d.low:+.3f}, {d.high:+.3f}]")
        for name, d in differences.items()
    ]
    return plain(header, rows)


def write_metrics(path: Path, metrics: Mapping[str, object]) -> None:
    """Write numbers as JSON; NaN and infinity, which JSON lacks, become null.

    Args:
        path: file to write.
        metrics: nested mappings and sequences of strings, numbers, booleans and None.
    """
    text = json.dumps(_jsonable(metrics), indent=2, allow_nan=False, ensure_ascii=False)
    write_whole(path, text + "\n")


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
    write_whole(path, "[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in rows) + "\n]\n")


def _jsonable(value: object) -> object:
    """Replace what JSON cannot say by null and turn numpy's numbers into Python's."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

import json
import math

import numpy as np
import pytest
from evaluation_cases import annotations, detections, random_image
from full_disk import full_disk

from evaluation.coco import CocoScores
from evaluation.report.text import format_table, write_metrics, write_predictions


def strict(text):
    """Parse JSON without Python's extension to NaN and Infinity."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_table_has_every_score():
    metric = CocoScores(["car", "a longer name"], max_detections=500)
    # One object of 10 px, found with IoU 0.7: AP 0.5, see test_coco_scores.
    metric.update(0, detections([[0, 0, 7, 10]], [0.9], [0]), annotations([[0, 0, 10, 10]], [0]))
    lines = format_table(metric.compute(), ["car", "a longer name"]).splitlines()
    assert lines[0].split() == ["AP", "AP50", "AP75", "AR1", "AR10", "AR100", "AR500"]
    assert lines[2].split() == ["overall", "0.500", "1.000", "0.000", "0.500", "0.500", "0.500", "0.500"]
    assert lines[6].split() == ["by", "IoU", *["1.000"] * 5, *["0.000"] * 5]
    assert [" ".join(line.split()) for line in lines[8:]] == [
        "object size, px AP AR",
        "-" * len(lines[8]),
        "small (< 32) 0.500 0.500",
        "medium (32-96) - -",
        "large (96+) - -",
        "< 8 - -",
        "8-16 0.500 0.500",
        "16-32 - -",
        "",
        "class AP AP50",
        "-" * len(lines[17]),
        "car 0.500 1.000",
        "a longer name - -",
    ]


def test_metrics_are_valid_json(tmp_path):
    path = tmp_path / "metrics.json"
    metrics = {
        "coco": {"AP": 0.25, "AP_large": math.nan, "inf": np.float64("inf")},
        "curve": [np.float32(0.5), (1, np.nan)],
        "counts": np.array([[1, 2], [3, 4]]),
        "name": "Fußgänger",
        "nothing": None,
    }
    write_metrics(path, metrics)
    assert strict(path.read_text("utf-8")) == {
        "coco": {"AP": 0.25, "AP_large": None, "inf": None},
        "curve": [0.5, [1, None]],
        "counts": [[1, 2], [3, 4]],
        "name": "Fußgänger",
        "nothing": None,
    }


def test_predictions_in_coco_format(tmp_path):
    metric = CocoScores(["a", "b"])
    metric.update(9, detections([[1, 2, 4, 8]], [0.5], [1]), annotations())
    metric.update(4, detections([[0, 0, 1, 1], [0, 0, 2.5, 1]], [0.25, 0.75], [0, 1]), annotations())
    path = tmp_path / "predictions.json"
    write_predictions(path, metric.gather(), category_ids=[7, 3])
    assert strict(path.read_text()) == [
        {"image_id": 4, "category_id": 3, "bbox": [0, 0, 2.5, 1], "score": 0.75},
        {"image_id": 4, "category_id": 7, "bbox": [0, 0, 1, 1], "score": 0.25},
        {"image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 6], "score": 0.5},
    ]


def test_no_predictions(tmp_path):
    path = tmp_path / "predictions.json"
    write_predictions(path, CocoScores(["a"]).gather(), category_ids=[1])
    assert strict(path.read_text()) == []


def test_predictions_keep_every_bit(tmp_path):
    metric, again = CocoScores(["a", "b", "c"]), CocoScores(["a", "b", "c"])
    image = random_image(np.random.default_rng(7), 3)
    metric.update(1, *image)
    path = tmp_path / "predictions.json"
    write_predictions(path, metric.gather(), category_ids=[0, 1, 2])
    rows = strict(path.read_text())
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)]
    found = detections(boxes, [r["score"] for r in rows], [r["category_id"] for r in rows])
    again.update(1, found, image[1])
    first, second = metric.gather(), again.gather()
    order = np.argsort(-first.scores, kind="stable")
    assert len(rows) == len(first.scores) > 100
    assert (first.boxes[order] == second.boxes).all()
    assert (first.scores[order] == second.scores).all()
    assert repr(metric.compute()) == repr(again.compute())


@pytest.mark.parametrize("value", [object(), {1, 2}])
def test_what_is_no_metric_is_refused(tmp_path, value):
    with pytest.raises(TypeError):
        write_metrics(tmp_path / "metrics.json", {"value": value})


def test_a_full_disk_leaves_the_files_before_and_is_said_with_the_name(tmp_path):
    metrics, predictions = tmp_path / "metrics.json", tmp_path / "predictions.json"
    metric = CocoScores(["a", "b"])
    metric.update(9, detections([[1, 2, 4, 8]], [0.5], [1]), annotations())
    results = metric.gather()
    write_metrics(metrics, {"AP": 0.25})
    write_predictions(predictions, results, [1, 2])
    before = predictions.read_text()
    with pytest.raises(OSError, match=r"metrics\.json'"), full_disk():
        write_metrics(metrics, {"AP": 0.5})
    with pytest.raises(OSError, match=r"predictions\.json'"), full_disk():
        write_predictions(predictions, results, [3, 4])
    assert strict(metrics.read_text()) == {"AP": 0.25}
    assert predictions.read_text() == before

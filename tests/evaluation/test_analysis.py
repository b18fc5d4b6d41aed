"""What metrics.json keeps of an analysis."""

import json
import math

import pytest
from evaluation_cases import annotations, detections, evaluated, square

from evaluation.analysis import analyse
from evaluation.errors import ERRORS
from evaluation.report.text import write_metrics


def test_analysis_counts_errors(mixed):
    _, _, analysis = mixed
    assert analysis.objects.tolist() == [3, 1]
    assert analysis.error_counts == dict.fromkeys(ERRORS, 0) | {"background": 1, "missed": 2}
    assert analysis.thresholds.tolist() == pytest.approx([0.9, 0.8])
    # Above the threshold 0.9 the false car is gone.
    assert analysis.confusion.tolist() == [[1, 0, 2], [0, 1, 0], [0, 0, 0]]


def test_metrics_of_the_analysis_are_json(tmp_path, mixed):
    _, scores, analysis = mixed
    write_metrics(tmp_path / "metrics.json", scores | analysis.metrics())
    metrics = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert metrics["best_f1"]["car"] == pytest.approx(
        {"threshold": 0.9, "f1": 0.5, "precision": 1, "recall": 1 / 3}
    )
    assert metrics["error_costs"]["large"]["missed"] is None
    assert metrics["confusion"]["counts"] == [[1, 0, 2], [0, 1, 0], [0, 0, 0]]
    # Car 1 (6 px, car 2 is 23 px away: more than three sides) and the van are alone; the van is found.
    assert metrics["recall_by_crowding"]["0"] == {"objects": 2, "recall": 0.5}


def test_nothing_found_and_nothing_there():
    _, _, analysis = evaluated(["car"])
    assert math.isnan(analysis.calibration.error)
    assert analysis.metrics()["recall_by_crowding"]["0"]["objects"] == 0


def test_all_of_it_counts_as_many_detections():
    cars = [square(10, 10, 20), square(50, 10, 20)]
    results, _, _ = evaluated(["car"], (detections(cars, [0.9, 0.8], [0, 0]), annotations(cars, [0, 0])))
    for most, found in ((1, 1), (2, 2)):
        analysis = analyse(results, ["car"], most)
        assert analysis.confusion.tolist() == [[found, 2 - found], [0, 0]]
        assert analysis.size_confusion[:-1, :-1].sum() == found
        assert analysis.error_counts["missed"] == 2 - found

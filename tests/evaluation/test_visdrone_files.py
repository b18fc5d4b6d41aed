"""VisDrone's result files, and splits with nothing to score."""

import math

import numpy as np
import pytest
from evaluation_cases import annotations, detections
from visdrone_cases import CAR, OTHERS, VAN, one, row, score

from datamodules.formats.visdrone import CLASS_NAMES
from evaluation.coco import CocoScores
from evaluation.visdrone import detection_rows, evaluate, write_submission

# ---- files -------------------------------------------------------------------------------------------------


def test_submission_scores_like_memory(tmp_path):
    metric = CocoScores(["car", "van"])
    metric.update(8, detections([[10, 10, 20.12345, 20]], [0.25], [1]), annotations())
    metric.update(3, detections([[0, 0, 5, 5], [100, 100, 110, 109]], [0.3, 0.9], [1, 0]), annotations())
    metric.update(5, detections(), annotations())
    names = {3: "a", 5: "b", 8: "c"}
    rows = detection_rows(metric.gather(), names, categories=[CAR, VAN])
    write_submission(tmp_path / "submission", rows)
    written = {path.name: path.read_text() for path in (tmp_path / "submission").iterdir()}
    assert written == {
        "a.txt": "100.000,100.000,10.000,9.000,0.900000,4,-1,-1\n0.000,0.000,5.000,5.000,0.300000,5,-1,-1\n",
        "b.txt": "",
        "c.txt": "10.000,10.000,10.123,10.000,0.250000,5,-1,-1\n",
    }
    (tmp_path / "truth").mkdir()
    truth = {"a": [row(100, 100, 10, 10)], "b": [], "c": [row(10, 10, 10, 10, VAN)]}
    from_memory = score(tmp_path / "truth", truth, rows)
    from_files = evaluate(
        tmp_path / "truth", tmp_path / "submission", CLASS_NAMES, dict.fromkeys("abc", (1000, 1000))
    )
    assert repr(from_memory) == repr(from_files)
    # The car's IoU of 0.9 is true at nine thresholds; the false van of image a ranks before the true one.
    assert from_files["AP/car"] == pytest.approx(90)
    assert from_files["AP/van"] == pytest.approx(50)


def test_no_images_no_rows():
    assert detection_rows(CocoScores(["car"]).gather(), {}) == {}


def test_no_object_of_any_class(tmp_path):
    for truth in ([row(0, 0, 5, 5, OTHERS, 0)], []):
        scores = one(tmp_path, truth, [row(0, 0, 5, 5)])
        assert all(math.isnan(value) for value in scores.values())


def test_missing_files_and_bad_rows_are_named(tmp_path):
    truth, found = tmp_path / "truth", tmp_path / "found"
    truth.mkdir()
    with pytest.raises(ValueError, match=r"truth: no annotation files"):
        evaluate(truth, found, CLASS_NAMES)
    (truth / "a.txt").write_text("1,2,3,4,1,4,0,0\n")
    with pytest.raises(ValueError, match=r"found/a\.txt: no such file; write an empty one"):
        evaluate(truth, found, CLASS_NAMES)
    with pytest.raises(ValueError, match=r"a\.txt: no detections for this image"):
        evaluate(truth, {}, CLASS_NAMES)
    with pytest.raises(ValueError, match=r"a\.txt: image size unknown"):
        evaluate(truth, {"a": np.empty((0, 6))}, CLASS_NAMES, {})
    (truth / "a.txt").write_text("1,2,3,4,1,4,0,0\n1,2,3\n")
    with pytest.raises(ValueError, match=r"truth/a\.txt: .*row 2.*; a row is x,y,width"):
        evaluate(truth, {"a": np.empty((0, 6))}, CLASS_NAMES)

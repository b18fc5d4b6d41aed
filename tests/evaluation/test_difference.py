import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation_cases import annotations, detections, random_image, square

from evaluation.coco import CocoScores, evaluate
from evaluation.difference import COMPARED, differences, predictions_path, read_predictions
from evaluation.report.text import write_predictions


def results_of(*images, classes=("a", "b")):
    metric = CocoScores(classes)
    for image_id, image in enumerate(images):
        metric.update(10 * image_id, *image)
    return metric.gather()


def objects(found):
    """Images with one small object each, found or not."""
    box = square(100, 100, 10)
    truth = annotations([box], [0])
    return results_of(*((detections([box], [0.9], [0]) if f else detections(), truth) for f in found))


# ---- the difference ----------------------------------------------------------------------------------------


def test_scores_are_cocos():
    rng = np.random.default_rng(3)
    this = results_of(*(random_image(rng, 2) for _ in range(6)))
    other = replace(this, scores=this.scores[::-1].copy())
    found = differences(this, other, 2)
    ours, theirs = evaluate(this, ["a", "b"]), evaluate(other, ["a", "b"])
    for name in COMPARED:
        assert found[name].this == pytest.approx(ours[name], abs=1e-12)
        assert found[name].other == pytest.approx(theirs[name], abs=1e-12)
        assert found[name].mean == found[name].this - found[name].other
        assert found[name].low < found[name].mean < found[name].high


def test_interval_of_a_difference_solved_by_hand():
    # One object an image, and nothing false: AP is the share of the images whose object was found, rounded
    # up to COCO's recalls. Of 100 images the one detector finds 50, the other none, so that the difference
    # has the standard deviation of a share, sqrt(0.5 * 0.5 / 100) = 0.05.
    found = differences(objects([True, False] * 50), objects([False] * 100), 2, resamples=2000)["AP"]
    assert found.mean == pytest.approx(51 / 101)
    reach = 1.984217 * 0.05
    assert found.high - found.mean == pytest.approx(reach, rel=0.06)
    assert found.mean - found.low == pytest.approx(reach, rel=0.06)


def test_what_is_common_cancels():
    # Both find every second object, so the score depends on the images and the difference does not.
    half = objects([True, False] * 10)
    found = differences(half, half, 2)["AP50"]
    assert found.low == found.mean == found.high == 0


def test_a_single_image_has_no_interval():
    found = differences(objects([True]), objects([False]), 2)["AP"]
    assert found.mean == 1
    assert np.isnan([found.low, found.high]).all()


def test_no_object_has_no_difference():
    found = differences(
        results_of((detections(), annotations())), results_of((detections(), annotations())), 2
    )
    assert np.isnan([found["AP"].mean, found["AP"].low]).all()


# ---- predictions of another run ----------------------------------------------------------------------------


def test_predictions_are_read_as_they_were_written(tmp_path):
    rng = np.random.default_rng(1)
    results = results_of(*(random_image(rng, 2) for _ in range(5)))
    # Category ids need not ascend with the class indices.
    write_predictions(tmp_path / "predictions.json", results, [7, 3])
    again = read_predictions(tmp_path / "predictions.json", results, [7, 3])
    order = np.lexsort((-results.scores, results.image_index))
    for name in ("boxes", "scores", "labels", "image_index"):
        np.testing.assert_array_equal(getattr(again, name), getattr(results, name)[order], err_msg=name)
        assert getattr(again, name).dtype == getattr(results, name).dtype


def test_rows_may_come_in_any_order(tmp_path):
    rows = [{"image_id": i, "category_id": 1, "bbox": [i, 2, 3, 4], "score": 0.5} for i in (20, 0, 10, 0)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    again = read_predictions(tmp_path / "rows.json", objects([True] * 3), [1, 2])
    assert again.image_index.tolist() == [0, 0, 1, 2]
    assert again.boxes[3].tolist() == [20, 2, 23, 6]


@pytest.mark.parametrize("text", ["{}x", '{"AP": 0.5}', "[1]", '[{"image_id": 0}]', '[{"image_id": "a"}]'])
def test_a_file_that_holds_no_predictions(tmp_path, text):
    (tmp_path / "some.json").write_text(text)
    with pytest.raises(ValueError, match=r"some\.json is not a list of detections"):
        read_predictions(tmp_path / "some.json", objects([True]), [1, 2])


@pytest.mark.parametrize(("image", "category", "match"), [(5, 1, "image 5"), (0, 9, "category 9")])
def test_predictions_of_other_data(tmp_path, image, category, match):
    row = {"image_id": image, "category_id": category, "bbox": [1, 2, 3, 4], "score": 0.5}
    (tmp_path / "some.json").write_text(json.dumps([row]))
    with pytest.raises(ValueError, match=match):
        read_predictions(tmp_path / "some.json", objects([True]), [1, 2])


def test_predictions_are_looked_for_beside_the_metrics(tmp_path):
    metrics, predictions = tmp_path / "metrics.json", tmp_path / "predictions.json"
    with pytest.raises(ValueError, match="no such file"):
        predictions_path(metrics)
    metrics.write_text("{}")
    with pytest.raises(ValueError, match="totals alone cannot"):
        predictions_path(metrics)
    predictions.write_text("[]")
    assert predictions_path(metrics) == predictions_path(predictions) == predictions

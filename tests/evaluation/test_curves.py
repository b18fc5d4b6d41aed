import math

import numpy as np
import pytest
from evaluation_cases import annotations, detections, square

from evaluation.coco import CocoScores
from evaluation.curves import (
    CROWDING_NAMES,
    calibration,
    crowding,
    mean_iou_by_class,
    precision_recall_curves,
    recall_by_crowding,
)
from evaluation.errors import find_objects


def results_of(*images):
    metric = CocoScores(["a", "b"])
    for image_id, image in enumerate(images):
        metric.update(image_id, *image)
    results = metric.gather()
    return results, find_objects(results, 2)


OBJECTS = [square(100 * i, 0, 10) for i in range(4)]
FALSE = square(0, 500, 10)


def test_curve_and_best_threshold():
    # Four objects. True 0.9; true and false 0.7 (a threshold accepts both or neither); false 0.5; true 0.3.
    found = detections(
        [OBJECTS[0], OBJECTS[1], FALSE, FALSE, OBJECTS[2]], [0.9, 0.7, 0.7, 0.5, 0.3], [0, 0, 0, 0, 0]
    )
    a, b = precision_recall_curves(*results_of((found, annotations(OBJECTS, [0, 0, 0, 0]))), 2)
    assert a.scores.tolist() == pytest.approx([0.9, 0.7, 0.5, 0.3])
    assert a.precision.tolist() == pytest.approx([1, 2 / 3, 2 / 4, 3 / 5])
    assert a.recall.tolist() == pytest.approx([1 / 4, 2 / 4, 2 / 4, 3 / 4])
    assert a.f1.tolist() == pytest.approx([2 / 5, 4 / 7, 4 / 8, 6 / 9])
    assert a.best == pytest.approx((0.3, 6 / 9, 3 / 5, 3 / 4))
    assert len(b.scores) == 0
    assert b.best == (math.inf, 0, 0, 0)


def test_curve_leaves_ignored_detections_out():
    truth = annotations([OBJECTS[0]], [0], ignore_boxes=[FALSE], ignore_labels=[-1])
    found = detections([FALSE, OBJECTS[0]], [0.9, 0.8], [0, 0])
    a, _ = precision_recall_curves(*results_of((found, truth)), 2)
    assert a.precision.tolist() == [1]
    assert a.best == pytest.approx((0.8, 1, 1, 1))


def test_class_without_objects_has_no_recall():
    a, _ = precision_recall_curves(*results_of((detections([FALSE], [0.9], [0]), annotations())), 2)
    assert (a.precision.tolist(), a.recall.tolist(), a.f1.tolist()) == ([0], [0], [0])
    assert a.best == (math.inf, 0, 0, 0)


def test_calibration():
    # Ten bins. 0.92 and 0.98 (one true of two), 0.4 and 1.0: the last bin includes 1. The gaps are
    # |2/3 - 0.9667| in the last bin (three detections) and |0 - 0.4| in bin 4 (one).
    # The fifth detection lies in an ignored region.
    region = square(0, 900, 10)
    boxes = [OBJECTS[0], FALSE, FALSE, OBJECTS[1], region]
    found = detections(boxes, [0.92, 0.98, 0.4, 1.0, 1.0], [0] * 5)
    truth = annotations(OBJECTS, [0] * 4, ignore_boxes=[region], ignore_labels=[0])
    result = calibration(*results_of((found, truth)))
    assert result.count.tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 3]
    assert result.precision[[4, 9]].tolist() == pytest.approx([0, 2 / 3])
    assert result.score[[4, 9]].tolist() == pytest.approx([0.4, 2.9 / 3])
    assert np.isnan(result.precision[0])
    assert result.error == pytest.approx((0.4 + 3 * (2.9 / 3 - 2 / 3)) / 4)


def test_calibration_of_nothing():
    assert math.isnan(calibration(*results_of((detections(), annotations()))).error)


def test_mean_iou_by_class():
    # Class a: found with IoU 1 and 0.8; a box with IoU 0.3 finds nothing.
    found = detections([OBJECTS[0], [100, 0, 108, 10], [200, 0, 203, 10]], [0.9, 0.8, 0.7], [0, 0, 0])
    results, target = results_of((found, annotations(OBJECTS, [0] * 4)))
    means = mean_iou_by_class(results, target, ["a", "b"])
    assert means["a"] == pytest.approx(0.9)
    assert math.isnan(means["b"])


def test_crowding_counts_neighbours_within_three_sides():
    # 10 px objects in a row: centres 30 px apart are neighbours, 31 px are not. The 40 px object at x 200
    # sees 120 px far; its neighbour of 10 px at x 150 (centres 65 px apart) does not see it.
    row = [square(0, 0, 10), square(30, 0, 10), square(61, 0, 10)]
    first = annotations(row, [0, 1, 0])
    second = annotations([square(200, 0, 40), square(150, 15, 10)], [0, 0])
    results, _ = results_of((detections(), first), (detections(), second))
    assert crowding(results).tolist() == [1, 1, 0, 1, 0]


def test_crowding_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 60, (300, 2))  # whole pixels, so that many are just three sides apart
    boxes = np.concatenate((corners, corners + rng.integers(0, 5, (300, 2))), 1).astype(np.float32)
    results, _ = results_of((detections(), annotations(boxes, np.zeros(300))))
    centres, areas = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    squared = ((centres[:, None] - centres) ** 2).sum(axis=2)
    assert ((squared == 9 * areas[:, None]) & (squared > 0)).sum() > 10
    assert crowding(results).tolist() == ((squared <= 9 * areas[:, None]).sum(axis=1) - 1).tolist()


def test_recall_by_crowding():
    pair = [square(0, 0, 10), square(12, 0, 10)]
    alone = square(500, 0, 10)
    found = detections([pair[0], alone], [0.9, 0.8], [0, 0])
    count, recall = recall_by_crowding(*results_of((found, annotations([*pair, alone], [0, 0, 0]))))
    assert count.tolist() == [1, 2, 0, 0, 0]
    assert recall[:2].tolist() == [1, 0.5]
    assert np.isnan(recall[2:]).all()
    assert len(CROWDING_NAMES) == 5

import math

import numpy as np
import pytest
from evaluation_cases import annotations, detections, random_image, square

from evaluation import matching
from evaluation.coco import CocoScores
from evaluation.errors import (
    ERRORS,
    IGNORED,
    NOTHING,
    confusion_by_class,
    confusion_by_size,
    error_costs,
    find_errors,
    find_objects,
    size_bins,
)

ANY = np.zeros(2)  # score thresholds that accept everything


def results_of(*images, classes=("a", "b")):
    metric = CocoScores(classes)
    for image_id, image in enumerate(images):
        metric.update(image_id, *image)
    return metric.gather()


def analyse(*images):
    results = results_of(*images)
    target = find_objects(results, 2)
    errors = find_errors(results, target)
    return results, target, errors


def kinds(errors):
    return [ERRORS[kind] if kind >= 0 else None for kind in errors.kind]


A = square(100, 100, 10)


def shifted(x):
    """`A` moved by x columns: IoU (10 - x) / (10 + x)."""
    return square(100 + x, 100, 10)


# ---- the six types -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "label", "kind"),
    [
        (A, 0, None),
        (shifted(3), 0, None),  # IoU 7/13 = 0.54
        (shifted(4), 0, "localisation"),  # 6/14 = 0.43
        (shifted(8), 0, "localisation"),  # 2/18 = 0.11
        (shifted(9), 0, "background"),  # 1/19 = 0.05
        (A, 1, "classification"),
        (shifted(3), 1, "classification"),
        (shifted(4), 1, "both"),
        (shifted(9), 1, "background"),
        (square(500, 500, 10), 1, "background"),
    ],
)
def test_type_of_a_single_detection(box, label, kind):
    _, _, errors = analyse((detections([box], [0.9], [label]), annotations([A], [0])))
    assert kinds(errors) == [kind]
    about = kind in ("classification", "localisation")
    assert errors.culprit.tolist() == [0 if about else -1]
    assert errors.redeems.tolist() == [about]
    # An object is missed only if nothing is about it.
    assert errors.missed.tolist() == [kind in ("both", "background")]


def test_duplicate():
    found = detections([A, shifted(1)], [0.9, 0.8], [0, 0])
    _, target, errors = analyse((found, annotations([A], [0])))
    assert target.tolist() == [0, NOTHING]
    assert kinds(errors) == [None, "duplicate"]
    assert not errors.missed.any()


def test_localisation_goes_before_classification():
    # IoU 0.43 with an object of its class, 1 with one of the other class.
    found = detections([A], [0.9], [0])
    _, _, errors = analyse((found, annotations([shifted(4), A], [0, 1])))
    assert kinds(errors) == ["localisation"]


def test_an_image_without_objects_has_background_errors():
    _, _, errors = analyse(
        (detections([A], [0.9], [0]), annotations()), (detections(), annotations([A], [0]))
    )
    assert kinds(errors) == ["background"]
    assert errors.missed.tolist() == [True]


def test_ignored_detections_are_no_errors():
    region = annotations(ignore_boxes=[square(90, 90, 40)], ignore_labels=[0])
    results, target, errors = analyse((detections([A, A], [0.9, 0.8], [0, 1]), region))
    assert target.tolist() == [IGNORED, NOTHING]  # the region is of class a
    assert kinds(errors) == [None, "background"]
    assert find_objects(results, 2, max_detections=0).tolist() == [IGNORED, IGNORED]


def test_culprits_are_indices_over_all_images():
    # In the second image, objects 1 and 2: one localised, the other classified wrongly.
    found = detections([shifted(4), square(300, 300, 10)], [0.9, 0.8], [0, 1])
    second = (found, annotations([A, square(300, 300, 10)], [0, 0]))
    _, _, errors = analyse((detections(), annotations([A], [0])), second)
    assert kinds(errors) == ["localisation", "classification"]
    assert errors.culprit.tolist() == [1, 2]
    assert errors.missed.tolist() == [True, False, False]


def test_the_best_detection_redeems_an_object():
    # Three errors about one object, of two types: only the best one would be true when mended.
    found = detections([shifted(5), A, shifted(4)], [0.7, 0.8, 0.6], [0, 1, 0])
    _, _, errors = analyse((found, annotations([A], [0])))
    assert kinds(errors) == ["localisation", "classification", "localisation"]
    assert errors.redeems.tolist() == [False, True, False]


def test_a_found_object_is_not_redeemed():
    found = detections([A, shifted(4)], [0.9, 0.8], [0, 0])
    _, _, errors = analyse((found, annotations([A], [0])))
    assert kinds(errors) == [None, "localisation"]
    assert not errors.redeems.any()


# ---- what they cost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "label", "kind"),
    [
        (shifted(4), 0, "localisation"),
        (A, 1, "classification"),
        (shifted(4), 1, "both"),
        (square(500, 500, 10), 0, "background"),
    ],
)
def test_cost_of_one_error(box, label, kind):
    # Two objects of class a. The better detection is wrong about the first, the other finds the second:
    # precision 1/2 (classes a), recall 1/2, so AP is 51/101 * 1/2; of class b (no object of it) the wrong
    # one leaves class a's AP at 51/101.
    other = square(300, 300, 10)
    found = detections([box, other], [0.9, 0.8], [label, 0])
    results, target, errors = analyse((found, annotations([A, other], [0, 0])))
    costs = error_costs(results, target, errors, 2)["all"]
    base = 51 / 101 * (0.5 if label == 0 else 1)
    assert costs["AP50"] == pytest.approx(base)
    if kind in ("localisation", "classification"):
        mended, missed = 1.0, base  # both found
    else:
        mended, missed = 51 / 101, 0.5 if label == 0 else 1.0  # gone; without the missed object recall is 1
    expected = dict.fromkeys(ERRORS, 0.0) | {"missed": missed - base, kind: mended - base}
    assert {name: costs[name] for name in ERRORS} == pytest.approx(expected)


def test_cost_of_a_duplicate():
    # True, duplicate, true of two objects: precision 1 to recall 1/2, then 2/3; without the duplicate 1.
    other = square(300, 300, 10)
    found = detections([A, A, other], [0.9, 0.8, 0.7], [0, 0, 0])
    results, target, errors = analyse((found, annotations([A, other], [0, 0])))
    costs = error_costs(results, target, errors, 2)["all"]
    assert costs["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert costs["duplicate"] == pytest.approx(1 - costs["AP50"])


def test_costs_by_size():
    # A 10 px object is missed, a false 100 px box scores best, the 100 px object is found.
    large = square(300, 300, 100)
    found = detections([square(600, 600, 100), large], [0.9, 0.8], [0, 0])
    results, target, errors = analyse((found, annotations([A, large], [0, 0])))
    costs = error_costs(results, target, errors, 2)
    assert costs["small"] == pytest.approx({"AP50": 0} | dict.fromkeys(ERRORS, 0.0) | {"missed": 1})
    assert costs["large"]["AP50"] == pytest.approx(0.5)
    assert costs["large"]["background"] == pytest.approx(0.5)
    assert costs["large"]["missed"] == 0
    assert math.isnan(costs["medium"]["AP50"])
    assert math.isnan(costs["medium"]["missed"])


def test_a_missed_class_is_mended_whole():
    # Class a is perfect, class b is missed and has no detection: AP 1/2; with no object of b expected, 1.
    truth = annotations([A, square(300, 300, 10)], [0, 1])
    results, target, errors = analyse((detections([A], [0.9], [0]), truth))
    costs = error_costs(results, target, errors, 2)["all"]
    assert costs["AP50"] == pytest.approx(0.5)
    assert costs["missed"] == pytest.approx(0.5)


def test_ignored_detections_beside_a_single_object():
    # One object, found; a detection in a region costs nothing.
    truth = annotations([A], [0], ignore_boxes=[square(0, 0, 50)], ignore_labels=[0])
    results, target, errors = analyse((detections([A, square(5, 5, 10)], [0.9, 0.8], [0, 0]), truth))
    assert target.tolist() == [0, IGNORED]
    assert error_costs(results, target, errors, 2)["all"] == {"AP50": 1.0} | dict.fromkeys(ERRORS, 0.0)


def test_no_object_and_no_detection():
    results, target, errors = analyse((detections(), annotations()))
    assert all(
        math.isnan(v) for costs in error_costs(results, target, errors, 2).values() for v in costs.values()
    )
    results, target, errors = analyse((detections([A], [0.9], [0]), annotations()))
    assert math.isnan(error_costs(results, target, errors, 2)["all"]["AP50"])


@pytest.mark.parametrize("seed", range(4))
def test_ap50_is_cocos(seed):
    rng = np.random.default_rng(seed)
    metric = CocoScores(["a", "b", "c", "absent"])
    for image_id in range(5):
        found, truth = random_image(rng, 3)
        truth.ignore_labels[::2] = -1
        metric.update(image_id, found, truth)
    results = metric.gather()
    target = find_objects(results, 4)
    errors = find_errors(results, target)
    costs = error_costs(results, target, errors, 4)["all"]
    assert costs["AP50"] == pytest.approx(metric.compute()["AP50"], abs=1e-12)
    # Every false detection has a type and every object is found, missed, or about to be redeemed.
    assert ((errors.kind >= 0) == (target == NOTHING)).all()
    found_objects = set(target[target >= 0].tolist())
    redeemed = set(errors.culprit[errors.redeems].tolist())
    missed = set(errors.missed.nonzero()[0].tolist())
    assert found_objects | redeemed | missed == set(range(len(results.gt_labels)))
    assert len(found_objects) + len(redeemed) + len(missed) == len(results.gt_labels)


# ---- confusion ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 500])
def test_errors_are_the_same_in_blocks_of_any_size(block, monkeypatch):
    rng = np.random.default_rng(1)
    images = [random_image(rng, 2) for _ in range(6)]
    results, target, whole = analyse(*images)
    assert {*range(len(ERRORS) - 1)} < set(whole.kind.tolist())  # none is missed, some are true
    monkeypatch.setattr(matching, "BLOCK", block)
    parts = find_errors(results, target)
    for name in ("kind", "culprit", "redeems", "missed"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_confusion_by_class():
    # Found; taken for b; missed; a false b; a b below its threshold; a b in a region; a worse second a on
    # the first object, which another detection found.
    boxes = [square(100 * i, 0, 10) for i in range(6)]
    found = detections(
        [boxes[0], boxes[1], boxes[3], boxes[4], boxes[5], boxes[0]],
        [0.9, 0.8, 0.7, 0.3, 0.9, 0.6],
        [0, 1, 1, 1, 1, 0],
    )
    truth = annotations(boxes[:3], [0, 0, 1], ignore_boxes=[boxes[5]], ignore_labels=[-1])
    matrix = confusion_by_class(results_of((found, truth)), 2, np.array([0.5, 0.5]))
    assert matrix.tolist() == [
        [1, 1, 0],  # a: found, taken for b
        [0, 0, 1],  # b: missed
        [1, 1, 0],  # nothing there: the second a, the false b
    ]


def test_detections_of_all_classes_compete_for_an_object():
    # b scores higher on an object of class a: it is taken for b, and the right detection is a second one.
    found = detections([A, A], [0.8, 0.9], [0, 1])
    matrix = confusion_by_class(results_of((found, annotations([A], [0]))), 2, ANY)
    assert matrix.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_confusion_by_size():
    # A 20 px object found by a box of 20 x 15 px (side 17.3, IoU 0.75), a 16 px one found by a 13 px box (IoU
    # 0.66), a 7 px one missed, and a false box of 100 px.
    objects = [square(0, 0, 20), square(100, 0, 16), square(200, 0, 7)]
    found = detections(
        [[0, 0, 20, 15], square(100, 0, 13), square(300, 300, 100)], [0.9, 0.8, 0.7], [0, 0, 0]
    )
    matrix = confusion_by_size(results_of((found, annotations(objects, [0, 0, 0]))), 2, ANY)
    expected = np.zeros((6, 6), dtype=int)
    expected[2, 2] = expected[2, 1] = expected[0, 5] = expected[5, 4] = 1
    assert matrix.tolist() == expected.tolist()


def test_size_bins_include_their_lower_bound():
    sides = np.array([1, 7.99, 8, 15, 16, 32, 95, 96, 1000])
    assert size_bins(sides**2).tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4]

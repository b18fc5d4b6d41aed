"""How good the detections are by score, by class and by crowding, at IoU 0.5.

D detections, G objects, C classes, N distinct scores of a class, K bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from evaluation.errors import IGNORED, find_objects
from evaluation.matching import Ints, Reals, annotated_boxes, detected_boxes
from evaluation.results import Results


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision, recall and F1 of one class by score threshold.

    Attributes:
        scores: (N,) distinct scores, descending; threshold n accepts the scores[n] and better.
        precision: (N,) share of accepted detections that are true.
        recall: (N,) share of objects found.
        f1: (N,) harmonic mean of both.
    """

    scores: Reals
    precision: Reals
    recall: Reals
    f1: Reals

    @property
    def best(self) -> tuple[float, float, float, float]:
        """Threshold, F1, precision and recall where F1 is highest (the highest such threshold).

        The threshold is infinite and the rest 0 if no object was found.
        """
        if not self.f1.any():
            return float("inf"), 0.0, 0.0, 0.0
        i = self.f1.argmax()
        return float(self.scores[i]), float(self.f1[i]), float(self.precision[i]), float(self.recall[i])


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far scores are from the share of true detections, in K equal bins of [0, 1].

    Attributes:
        count: (K,) number of detections.
        score: (K,) their mean score, NaN for none.
        precision: (K,) share of true ones, NaN for none.
        error: expected calibration error: mean of |precision - score| over the detections, NaN for none.
            Source: Guo et al. 2017, eq. 5.
    """

    count: Ints
    score: Reals
    precision: Reals
    error: float


def precision_recall_curves(results: Results, target: Ints, classes: int) -> list[Curve]:
    """Precision, recall and F1 of each class at every score threshold.

    Args:
        results: detections and annotations.
        target: (D,) what each detection found, see `evaluation.errors.find_objects`.
        classes: number of classes.

    Returns:
        One curve per class; without a point where a class has no detection, with recall 0 where it has no
        object.
    """
    curves = []
    for c in range(classes):
        mine = np.flatnonzero((results.labels == c) & (target != IGNORED))
        mine = mine[np.argsort(-results.scores[mine], kind="stable")]
        scores, true = results.scores[mine], np.cumsum(target[mine] >= 0)
        # A threshold cannot part equal scores: only the last of them is a point of the curve.
        last = np.flatnonzero(np.diff(scores, append=-np.inf))
        true, accepted = true[last], last + 1
        number = (results.gt_labels == c).sum()
        # F1 = 2 TP / (2 TP + FP + FN), which is defined without any true detection.
        curves.append(
            Curve(scores[last], true / accepted, true / max(number, 1), 2 * true / (accepted + number))
        )
    return curves


def best_thresholds(results: Results, classes: int, max_detections: int = 500) -> list[float]:
    """Score threshold of each class at which its F1 is highest; infinite where no object was found.

    Args:
        results: detections and annotations.
        classes: number of classes.
        max_detections: most detections of one class in one image that count.
    """
    target = find_objects(results, classes, max_detections)
    return [curve.best[0] for curve in precision_recall_curves(results, target, classes)]


def calibration(results: Results, target: Ints, bins: int = 10) -> Calibration:
    """Compare scores with the share of true detections.

    Args:
        results: detections.
        target: (D,) what each detection found, see `evaluation.errors.find_objects`.
        bins: K.
    """
    counted = target != IGNORED
    scores, true = results.scores[counted].astype(np.float64), target[counted] >= 0
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        score = np.bincount(place, scores, minlength=bins) / count
        precision = np.bincount(place, true, minlength=bins) / count
    gaps = np.nan_to_num(np.abs(precision - score)) * count
    return Calibration(
        count, score, precision, float(gaps.sum() / count.sum()) if len(scores) else float("nan")
    )


def mean_iou_by_class(results: Results, target: Ints, class_names: Sequence[str]) -> dict[str, float]:
    """MIoU: mean IoU of the objects found and the boxes that found them.

    Args:
        results: detections and annotations.
        target: (D,) what each detection found, see `evaluation.errors.find_objects`.
        class_names: name of each class index.

    Returns:
        By class name, in [0.5, 1]; NaN where nothing was found.
    """
    true = np.flatnonzero(target >= 0)
    found, objects, index = detected_boxes(results), annotated_boxes(results), target[true]
    low = np.maximum(found.corners[true, :2], objects.corners[index, :2])
    high = np.minimum(found.corners[true, 2:], objects.corners[index, 2:])
    intersection = (high - low).prod(axis=1)
    iou = intersection / (found.areas[true] + objects.areas[index] - intersection)
    mine = [iou[found.labels[true] == c] for c in range(len(class_names))]
    means = [float(values.mean()) if len(values) else float("nan") for values in mine]
    return dict(zip(class_names, means, strict=True))


def crowding(results: Results) -> Ints:
    """Number of neighbours of each object: (G,).

    A neighbour is another object of the image, of any class, whose centre lies within three sides (roots of
    the box's area) of the object's centre: near for its size.
    """
    from scipy.spatial import cKDTree  # late: it takes a while, which scores alone need not wait for

    objects = annotated_boxes(results)
    centres = (objects.corners[:, :2] + objects.corners[:, 2:]) / 2
    neighbours = np.zeros(len(centres), dtype=np.int64)
    cuts = np.searchsorted(objects.image_index, np.arange(len(results.image_ids) + 1))
    for first, last in pairwise(cuts):
        here = centres[first:last]
        reach = 3 * np.sqrt(objects.areas[first:last]) * (1 + 1e-12)  # a distance of three sides is near
        if len(here):
            neighbours[first:last] = cKDTree(here).query_ball_point(here, reach, return_length=True) - 1
    return neighbours


CROWDING_EDGES = (1, 3, 6, 11)
CROWDING_NAMES = ("0", "1-2", "3-5", "6-10", "11+")
"""Bins of the number of neighbours."""


def recall_by_crowding(results: Results, target: Ints) -> tuple[Ints, Reals]:
    """Recall at IoU 0.5 of objects alone and in crowds, by the bins of `CROWDING_NAMES`.

    Args:
        results: detections and annotations.
        target: (D,) what each detection found, see `evaluation.errors.find_objects`.

    Returns:
        Number of objects (K,) and their recall (K,), NaN for none.
    """
    bins = np.digitize(crowding(results), CROWDING_EDGES)
    found = np.zeros(len(bins), dtype=np.bool_)
    found[target[target >= 0]] = True
    count = np.bincount(bins, minlength=len(CROWDING_NAMES))
    with np.errstate(invalid="ignore"):
        return count, np.bincount(bins, found, minlength=len(CROWDING_NAMES)) / count

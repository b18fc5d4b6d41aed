"""Where a detector fails: TIDE's six types of error and what each costs; which classes and sizes it confuses.

D detections, G objects, C classes, N detections of one class, K groups. Everything here is at IoU 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from evaluation.coco import ALL_RANGES, average_precision, in_range
from evaluation.matching import (
    Bools,
    Boxes,
    Ints,
    Reals,
    annotated_boxes,
    blocks,
    detected_boxes,
    find_candidates,
    match,
    overlaps,
    rank_in_class,
)
from evaluation.results import Results

IOU = 0.5
BACKGROUND_IOU = 0.1

NOTHING, IGNORED = -1, -2
"""What a detection found, if it is not the index of an object."""

SIZE_EDGES = (8, 16, 32, 96)
SIZE_NAMES = ("< 8", "8-16", "16-32", "32-96", "96+")
"""Bins of an object's side (the root of its area, pixels); unlike COCO's ranges they do not overlap."""

ERRORS = ("classification", "localisation", "both", "duplicate", "background", "missed")


@dataclass(frozen=True, slots=True)
class Errors:
    """The errors of all detections.

    Attributes:
        kind: (D,) index into `ERRORS`, -1 for a true or ignored detection.
        culprit: (D,) the object that a wrongly classified or localised detection is about, else -1.
        redeems: (D,) whether such a detection would find its object, were it right: nothing found the object
            and no better detection is about it.
        missed: (G,) whether nothing is about an object.
    """

    kind: Ints
    culprit: Ints
    redeems: Bools
    missed: Bools


def find_objects(
    results: Results,
    classes: int,
    max_detections: int = 500,
    thresholds: Reals | None = None,
    any_class: bool = False,
) -> Ints:
    """What each detection found by COCO's matching at IoU 0.5.

    Args:
        results: detections and annotations.
        classes: number of classes.
        max_detections: most detections of one class in one image that count.
        thresholds: (C,) least score of a detection that counts; None for no such limit.
        any_class: whether a detection may find an object of another class, so that all compete.

    Returns:
        (D,) index of the object, `NOTHING`, or `IGNORED` (in a region, or one that does not count).
    """
    found = detected_boxes(results)
    pairs, crowd = find_candidates(results, classes, IOU, any_class)
    rank = rank_in_class(found, results.scores)
    counts = rank < max_detections
    if thresholds is not None:
        counts &= results.scores >= thresholds[results.labels]
    if any_class:
        rank = rank_in_class(replace(found, labels=np.zeros_like(found.labels)), results.scores)
    target = match(pairs[counts[pairs.detection]], rank, crowd, np.array([IOU]))[:, 0]
    return np.where(counts & (target < len(results.gt_labels)), target, IGNORED)


def find_errors(results: Results, target: Ints) -> Errors:
    """Sort the false detections and the objects not found into TIDE's types.

    By its IoU with the objects of its own and of other classes in the image, a false detection is the first
    of: localisation (0.1 to 0.5 with its own), classification (0.5 or more with another), duplicate (0.5 or
    more with its own, which another detection found), background (at most 0.1 with all), else both. An
    object is missed if nothing found it and no error of the first two types is about it.

    Args:
        results: detections and annotations.
        target: (D,) what each detection found, see `find_objects`.

    Returns:
        The errors. Source: Bolya et al. 2020, "TIDE", section 2.2, in the order of their code.
    """
    kind = np.full(len(target), -1)
    culprit = np.full(len(target), -1)
    used = np.zeros(len(results.gt_labels), np.bool_)
    used[target[target >= 0]] = True
    found, objects = detected_boxes(results), annotated_boxes(results)

    false = np.flatnonzero(target == NOTHING)
    cuts = np.searchsorted(results.image_index[false], np.arange(1, len(results.image_ids)))
    for image, d in enumerate(np.split(false, cuts)):
        g = np.arange(*np.searchsorted(objects.image_index, (image, image + 1)))
        for block in blocks(found.corners, objects.corners, d, g):
            _sort_block(found, objects, *block, kind, culprit)

    about = np.flatnonzero(culprit >= 0)
    about = about[~used[culprit[about]]]
    about = about[np.lexsort((-results.scores[about], culprit[about]))]
    redeems = np.zeros(len(target), np.bool_)
    redeems[about[np.diff(culprit[about], prepend=-1) != 0]] = True
    missed = ~used
    missed[culprit[about]] = False
    return Errors(kind, culprit, redeems, missed)


def _sort_block(found: Boxes, objects: Boxes, d: Ints, g: Ints, kind: Ints, culprit: Ints) -> None:
    """Type of some false detections and the object that each is about, among some; written in place."""
    if not len(g):
        kind[d] = ERRORS.index("background")
        return
    areas, corners = objects.areas[g], objects.corners[g]
    iou = overlaps(found.corners[d], found.areas[d], corners, areas, np.zeros(len(g), np.bool_))
    same = found.labels[d, None] == objects.labels[g]
    own, other = iou * same, iou * ~same
    best_own, best_other = own.max(axis=1), other.max(axis=1)
    conditions = [
        (best_own >= BACKGROUND_IOU) & (best_own <= IOU),
        best_other >= IOU,
        best_own >= IOU,  # a free object it would have found
        iou.max(axis=1) <= BACKGROUND_IOU,
    ]
    names = ("localisation", "classification", "duplicate", "background")
    kind[d] = np.select(conditions, [ERRORS.index(n) for n in names], ERRORS.index("both"))
    culprit[d] = np.select(conditions[:2], [g[own.argmax(axis=1)], g[other.argmax(axis=1)]], -1)


def error_costs(results: Results, target: Ints, errors: Errors, classes: int) -> dict[str, dict[str, float]]:
    """AP at IoU 0.5 that each type of error costs, overall and by object size.

    A type's cost is what AP gains when an oracle mends its errors alone: a wrongly classified or localised
    detection becomes true if it redeems its object, every other false detection disappears, a missed object
    is no longer expected. For a size range, an object of another size and what found it are left out, and
    so is a false detection of another size.

    Args:
        results: detections and annotations.
        target: (D,) see `find_objects`.
        errors: see `find_errors`.
        classes: number of classes.

    Returns:
        By range, see `ALL_RANGES`: `AP50` and the cost of each type, in [0, 1]; NaN where
        there is no object. Source: Bolya et al. 2020, section 2.3. Equal to their `tidecv`, except that it
        counts ignored detections among the errors, leaves a class that is missed whole out of the mean and
        takes its recalls as i / 100, where pycocotools and this function take a linspace.
    """
    order = np.argsort(-results.scores, kind="stable")
    areas = detected_boxes(results).areas
    costs = {}
    for name, sides in ALL_RANGES.items():
        counts, sized = in_range(results.gt_areas, sides), in_range(areas, sides)
        mean_ap = partial(_mean_ap, results, order, sized=sized, counts=counts, classes=classes)
        base = mean_ap(target)
        costs[name] = {"AP50": base}
        for i, error in enumerate(ERRORS):
            mended = np.where(errors.kind == i, np.where(errors.redeems, errors.culprit, IGNORED), target)
            missed = errors.missed if error == "missed" else None
            costs[name][error] = mean_ap(mended, missed=missed) - base
    return costs


def confusion_by_class(results: Results, classes: int, thresholds: Reals, max_detections: int = 500) -> Ints:
    """Which classes are taken for which, at the given score thresholds.

    Detections of all classes compete for the objects, best score first.

    Args:
        results: detections and annotations.
        classes: number of classes.
        thresholds: (C,) least score of a detection of each class, see `Curve.best` in `evaluation.curves`.
        max_detections: most detections of one class in one image that count.

    Returns:
        (C + 1, C + 1) numbers: rows the true class, columns the detected one; the last row counts false
        detections, the last column objects not found.
    """
    target = find_objects(results, classes, max_detections, thresholds, any_class=True)
    return _count_pairs(target, results.gt_labels, results.labels, classes)


def confusion_by_size(results: Results, classes: int, thresholds: Reals, max_detections: int = 500) -> Ints:
    """Which sizes are taken for which, at the given score thresholds, by the bins of `SIZE_EDGES`.

    Args:
        results: detections and annotations.
        classes: number of classes.
        thresholds: (C,) least score of a detection of each class.
        max_detections: most detections of one class in one image that count.

    Returns:
        (K + 1, K + 1) numbers: rows the bin of the object, columns that of the box that found it; the last
        row counts false detections, the last column objects not found.
    """
    target = find_objects(results, classes, max_detections, thresholds)
    gt_bins, bins = size_bins(results.gt_areas), size_bins(detected_boxes(results).areas)
    return _count_pairs(target, gt_bins, bins, len(SIZE_NAMES))


def size_bins(areas: Reals) -> Ints:
    """Bin of each area by its square root, lower bounds included: (n,) index into `SIZE_NAMES`."""
    return np.digitize(np.sqrt(areas), SIZE_EDGES)


def _count_pairs(target: Ints, gt_groups: Ints, groups: Ints, number: int) -> Ints:
    """Count (group of the object, group of the detection): (K + 1, K + 1), the last one for nobody."""
    false, true = target == NOTHING, target >= 0
    missed = np.ones(len(gt_groups), np.bool_)
    missed[target[true]] = False
    nobody = np.full(max(false.sum(), missed.sum()), number)
    rows = np.concatenate((gt_groups[target[true]], nobody[: false.sum()], gt_groups[missed]))
    columns = np.concatenate((groups[true], groups[false], nobody[: missed.sum()]))
    codes = rows * (number + 1) + columns
    return np.bincount(codes, minlength=(number + 1) ** 2).reshape(number + 1, number + 1)


def _mean_ap(
    results: Results,
    order: Ints,
    target: Ints,
    sized: Bools,
    counts: Bools,
    classes: int,
    missed: Bools | None = None,
) -> float:
    """AP at IoU 0.5 over the classes that have objects; `missed` ones are no longer expected.

    Args:
        results: detections and annotations.
        order: (D,) best score first.
        target: (D,) see `find_objects`.
        sized: (D,) whether a false detection counts.
        counts: (G,) whether an object counts.
        classes: number of classes.
        missed: (G,) objects without which the recall is taken.
    """
    if not counts.any():
        return float("nan")
    true, index = target >= 0, np.maximum(target, 0)
    label = np.where(true, results.gt_labels[index], results.labels)
    kept = order[np.where(true, counts[index], sized & (target == NOTHING))[order]]
    present = np.bincount(results.gt_labels[counts], minlength=classes)
    expected = counts if missed is None else counts & ~missed
    numbers = np.bincount(results.gt_labels[expected], minlength=classes)
    aps = []
    for c in present.nonzero()[0]:
        hits = true[kept][label[kept] == c]
        if not numbers[c] and not len(hits):
            aps.append(1.0)  # nothing is expected and nothing detected any more: no error is left
            continue
        aps.append(average_precision(hits[:, None], ~hits[:, None], max(numbers[c], 1))[0])
    return float(np.mean(aps))

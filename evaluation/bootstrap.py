"""COCO's scores of resampled images, from one matching: how far the choice of images moves a score.

B resamples, I images, D detections, G objects, R ignored regions, C classes, T IoU thresholds; N detections
of one class that count, K true ones among them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.coco import IOU_PERCENT, SIDE_RANGES
from evaluation.matching import (
    Bools,
    Boxes,
    Ints,
    Pairs,
    Reals,
    annotated_boxes,
    detected_boxes,
    find_pairs,
    match,
    turns,
)
from evaluation.results import Results

Floats = NDArray[np.float64]

SCORE_NAMES = ("AP", "AP50", "AP75", *(f"AP_{name}" for name in SIDE_RANGES))
"""The scores that are resampled."""

IOU_THRESHOLDS = np.linspace(0.5, 0.95, len(IOU_PERCENT))
RECALLS = np.linspace(0, 1, 101)


def image_weights(images: int, resamples: int = 200, seed: int = 0) -> Floats:
    """Draw resamples of the images with replacement; the same call gives the same draw.

    Args:
        images: I.
        resamples: B; 200 are enough for a standard deviation (Efron and Tibshirani 1993, section 6.4).
        seed: of the draw.

    Returns:
        (B, I) how often each image was drawn; every row sums to I.
    """
    draw = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
    return draw.astype(np.float64)


def resampled_scores(
    results: Results, classes: int, weights: Floats, max_detections: int = 500
) -> dict[str, Floats]:
    """Score a data set in which image i occurs weights[b, i] times, for each b.

    Weights of 1 give the scores of `evaluation.coco.evaluate`. COCO matches image by image, so the images
    are matched once, and a resample only changes how often their detections and objects count.

    Args:
        results: detections and annotations.
        classes: C.
        weights: (B, I) not negative.
        max_detections: most detections of one class in one image that count.

    Returns:
        (B,) by the names of `SCORE_NAMES`, in [0, 1]; NaN where a resample has no object to find.
    """
    found, objects = detected_boxes(results), annotated_boxes(results)
    regions = _regions(results, classes)
    turn = turns(found, results.scores)
    pairs = _pairs(found, objects, regions)
    pairs = pairs[turn[pairs.detection] < max_detections]
    best_first = np.lexsort((turn, found.image_index, -results.scores))
    best_first = best_first[turn[best_first] < max_detections]

    crowd = np.repeat((False, True), (len(objects.labels), len(regions.labels)))
    scores = {}
    for name, (low, high) in {"AP": (0, 1e5), **{f"AP_{key}": r for key, r in SIDE_RANGES.items()}}.items():
        counted = _inside(results.gt_areas, low, high)
        ignored = crowd.copy()
        ignored[: len(counted)] = ~counted
        target = match(pairs, turn, ignored, IOU_THRESHOLDS, crowd)
        true = ~np.append(ignored, True)[target]  # the last is that of -1, nothing found
        false = (target < 0) & _inside(found.areas, low, high)[:, None]

        precision = np.full((len(weights), classes, len(IOU_THRESHOLDS)), np.nan)
        for c in range(classes):
            mine = best_first[found.labels[best_first] == c]
            expected = weights[:, objects.image_index[counted & (objects.labels == c)]].sum(axis=1)
            for t in range(len(IOU_THRESHOLDS)):
                precision[:, c, t] = _average_precision(
                    true[mine, t], false[mine, t], found.image_index[mine], expected, weights
                )
        scores[name] = _mean(precision)
        if name == "AP":
            scores["AP50"], scores["AP75"] = _mean(precision[..., :1]), _mean(precision[..., 5:6])
    return {name: scores[name] for name in SCORE_NAMES}


def _average_precision(true: Bools, false: Bools, image: Ints, expected: Floats, weights: Floats) -> Floats:
    """Average precision of one class at one threshold over COCO's 101 recalls, for each resample.

    Args:
        true: (N,) whether a detection found an object, best score first.
        false: (N,) whether it is false; what is neither does not count.
        image: (N,) index of its image.
        expected: (B,) number of objects to find.
        weights: (B, I).

    Returns:
        (B,) in [0, 1], NaN where nothing is expected.
    """
    images, hits = weights.shape[1], int(true.sum())
    # Precision matters at true detections alone, so false ones are counted by the next true one: (K, I).
    before = np.cumsum(true)
    relevant = false & (before < hits)
    cells = before[relevant] * images + image[relevant]
    false_by_image = np.bincount(cells, minlength=hits * images).reshape(hits, images)
    n_true = np.cumsum(weights[:, image[true]], axis=1)
    n_false = np.cumsum(weights @ false_by_image.T, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(n_true / (n_true + n_false))
        recall = np.nan_to_num(n_true / expected[:, None])
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALLS, recall, side="right")
    average = (envelope * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALLS)
    return np.where(expected > 0, average, np.nan)


def _pairs(found: Boxes, objects: Boxes, regions: Boxes) -> Pairs:
    """Candidates for a match; regions are numbered after the objects."""
    least = IOU_THRESHOLDS[0]
    near = find_pairs(found, objects, np.zeros(len(objects.labels), np.bool_), least)
    inside = find_pairs(found, regions, np.ones(len(regions.labels), np.bool_), least)
    return Pairs(
        np.concatenate((near.detection, inside.detection)),
        np.concatenate((near.target, inside.target + len(objects.labels))),
        np.concatenate((near.overlap, inside.overlap)),
    )


def _regions(results: Results, classes: int) -> Boxes:
    """The ignored regions in double precision, those of every class once for each."""
    boxes, labels, image_index = results.regions_by_class(classes)
    corners = boxes.astype(np.float64)
    return Boxes(image_index, corners, (corners[:, 2:] - corners[:, :2]).prod(axis=1), labels)


def _inside(areas: Reals, low: float, high: float) -> Bools:
    """Whether areas belong to a range of sides, both bounds included as in `evaluation.coco`."""
    return (areas >= low**2) & (areas <= high**2)


def _mean(values: Floats) -> Floats:
    """Mean of the defined values of (B, C, T) over C and T: (B,), NaN where there is none."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.nansum(values, axis=(1, 2)) / defined.sum(axis=(1, 2))
    return mean

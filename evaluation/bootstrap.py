"""COCO's scores of resampled images, from one matching: how far the choice of images moves a score.

B resamples, I images, C classes, T IoU thresholds; N detections of one class that count, K true ones among
them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.coco import IOU_THRESHOLDS, RECALLS, SIDE_RANGES, match_by_size, rank_detections
from evaluation.matching import Bools, Ints
from evaluation.results import Results

Floats = NDArray[np.float64]

SCORE_NAMES = ("AP", "AP50", "AP75", *(f"AP_{name}" for name in SIDE_RANGES))
"""The scores that are resampled."""


CELLS = 2**21
"""Resamples times detections that are counted together: 16 MB an array."""


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
    rank, by_class = rank_detections(results, classes, max_detections)
    scores = {}
    for name, matches in match_by_size(results, classes, rank):
        precision = np.full((len(weights), classes, len(IOU_THRESHOLDS)), np.nan)
        for c, mine in enumerate(by_class):
            objects = results.gt_image_index[matches.expected & (results.gt_labels == c)]
            expected = weights[:, objects].sum(axis=1)
            for t in range(len(IOU_THRESHOLDS)):
                precision[:, c, t] = _average_precision(
                    matches.true[mine, t],
                    matches.false[mine, t],
                    results.image_index[mine],
                    expected,
                    weights,
                )
        if name == "all":
            scores["AP"] = _mean(precision)
            scores["AP50"], scores["AP75"] = _mean(precision[..., :1]), _mean(precision[..., 5:6])
        else:
            scores[f"AP_{name}"] = _mean(precision)
    return scores


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
    # Precision matters at true detections alone, so what follows the last of them does not.
    found = np.flatnonzero(true)
    ranked = np.flatnonzero((true | false)[: found[-1] + 1]) if len(found) else found
    hits, where = true[ranked], image[ranked]
    average = np.empty(len(weights))
    together = max(1, CELLS // max(len(ranked), 1))
    for start in range(0, len(weights), together):
        some = slice(start, start + together)
        drawn = weights[some][:, where]
        n_true = np.cumsum(drawn * hits, axis=1)[:, hits]
        n_ranked = np.cumsum(drawn, axis=1)[:, hits]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.nan_to_num(n_true / n_ranked)
            recall = np.nan_to_num(n_true / expected[some, None])
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(RECALLS, recall, side="right")
        average[some] = (envelope * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALLS)
    return np.where(expected > 0, average, np.nan)


def _mean(values: Floats) -> Floats:
    """Mean of the defined values of (B, C, T) over C and T: (B,), NaN where there is none."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.nansum(values, axis=(1, 2)) / defined.sum(axis=(1, 2))
    return mean

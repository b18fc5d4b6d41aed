"""COCO's scores in original pixels: overall, by size, by class, with the tiny bins of aerial images.

T IoU thresholds, C classes, D detections, N of one class, G objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed
from torchmetrics import Metric

from evaluation.matching import Bools, Ints, Reals, detected_boxes, find_candidates, match, rank_in_class
from evaluation.results import AnnotationsLike, DetectionsLike, Results, gather, pack

IOU_PERCENT = range(50, 100, 5)
"""COCO's ten IoU thresholds."""

IOU_THRESHOLDS = np.linspace(0.5, 0.95, len(IOU_PERCENT))
RECALLS = np.linspace(0, 1, 101)

SIDE_RANGES = {
    "small": (0, 32),
    "medium": (32, 96),
    "large": (96, 1e5),
    "0_8": (0, 8),
    "8_16": (8, 16),
    "16_32": (16, 32),
}
"""Square root of the object's area, pixels; both bounds included, as in pycocotools and AI-TOD."""

ALL_RANGES = {"all": (0, 1e5), **SIDE_RANGES}


@dataclass(frozen=True, slots=True)
class Matches:
    """How the detections of a data set fare with the objects of one size range.

    Attributes:
        true: (D, T) whether a detection found an object that counts.
        false: (D, T) whether it is false; what is neither does not count.
        expected: (G,) whether an object counts.
    """

    true: Bools
    false: Bools
    expected: Bools


def evaluate(
    results: Results, class_names: Sequence[str], max_detections: int = 500, ignore_regions: bool = True
) -> dict[str, float]:
    """COCO's scores, equal to pycocotools' at the same detection limits.

    An ignored region is a crowd annotation of its class, or one of every class (`ANY_CLASS`).

    Args:
        results: detections and annotations.
        class_names: name of each class index.
        max_detections: most detections of one class in one image that count.
        ignore_regions: whether ignored regions count; if not, detections inside them are false.

    Returns:
        The scores in [0, 1], NaN where there is no object to find: `AP`, `AP50` to `AP95` by IoU threshold,
        `AP_<range>` by size, `AR`, `AR_<range>`, `AP/<class>` and `AP50/<class>`, all at `max_detections`
        detections of a class in an image; `AR<n>` at n of them.
        Source: Lin et al. 2014; pycocotools' `COCOeval`.
    """
    limits, classes = detection_limits(max_detections), len(class_names)
    rank, by_class = rank_detections(results, classes, max_detections)
    precision = {name: np.full((classes, len(IOU_THRESHOLDS)), np.nan) for name in ALL_RANGES}
    recall = {name: np.full((len(limits), classes, len(IOU_THRESHOLDS)), np.nan) for name in ALL_RANGES}
    for name, matches in match_by_size(results, classes, rank, ignore_regions):
        numbers = np.bincount(results.gt_labels[matches.expected], minlength=classes)
        for c in numbers.nonzero()[0]:
            mine = by_class[c]
            precision[name][c] = average_precision(matches.true[mine], matches.false[mine], numbers[c])
            for m, limit in enumerate(limits):
                recall[name][m, c] = matches.true[mine[rank[mine] < limit]].sum(axis=0) / numbers[c]

    overall = precision["all"]
    scores = {"AP": _mean(overall)}
    scores |= {f"AP{percent}": _mean(overall[:, t]) for t, percent in enumerate(IOU_PERCENT)}
    scores |= {f"AP_{name}": _mean(precision[name]) for name in SIDE_RANGES}
    scores |= {"AR": _mean(recall["all"][-1])}
    scores |= {f"AR_{name}": _mean(recall[name][-1]) for name in SIDE_RANGES}
    scores |= {f"AR{limit}": _mean(recall["all"][m]) for m, limit in enumerate(limits)}
    scores |= {f"AP/{name}": _mean(overall[c]) for c, name in enumerate(class_names)}
    scores |= {f"AP50/{name}": float(overall[c, 0]) for c, name in enumerate(class_names)}
    return scores


def rank_detections(results: Results, classes: int, max_detections: int) -> tuple[Ints, list[Ints]]:
    """Order the detections as COCO does.

    Args:
        results: detections.
        classes: C.
        max_detections: most detections of one class in one image that count.

    Returns:
        rank: (D,) rank in image and class, see `evaluation.matching.rank_in_class`.
        by_class: for each class, the indices of its detections that count, best score first.
    """
    rank = rank_in_class(detected_boxes(results), results.scores)
    # Ties in score: earlier image first, then the given order.
    by_score = np.argsort(-results.scores, kind="stable")
    by_score = by_score[rank[by_score] < max_detections]
    return rank, [by_score[results.labels[by_score] == c] for c in range(classes)]


def match_by_size(
    results: Results, classes: int, rank: Ints, ignore_regions: bool = True
) -> Iterator[tuple[str, Matches]]:
    """Match the detections with the objects of each size range.

    Args:
        results: detections and annotations.
        classes: C.
        rank: (D,) see `rank_detections`; those too far down to count take no object from those before.
        ignore_regions: whether ignored regions count.

    Yields:
        Each name of `ALL_RANGES`, and how the detections fare with the objects of that range.
    """
    pairs, crowd = find_candidates(results, classes, IOU_THRESHOLDS[0])
    if not ignore_regions:
        pairs = pairs[~crowd[pairs.target]]
    areas = detected_boxes(results).areas
    for name, sides in ALL_RANGES.items():
        # An object of another size may be found, but neither that nor missing it counts.
        expected = in_range(results.gt_areas, sides)
        ignored = crowd.copy()
        ignored[~crowd] = ~expected
        target = match(pairs, rank, ignored, IOU_THRESHOLDS, crowd)
        true = ~np.append(ignored, True)[target]  # the last is that of -1, nothing found
        yield name, Matches(true, (target < 0) & in_range(areas, sides)[:, None], expected)


def in_range(areas: Reals, sides: tuple[float, float]) -> Bools:
    """Whether areas, in square pixels, belong to a range of sides, both bounds included."""
    low, high = sides
    return (areas >= low**2) & (areas <= high**2)


def average_precision(true: Bools, false: Bools, number: int) -> Reals:
    """Precision envelope averaged over COCO's 101 recalls.

    Args:
        true: (N, T) whether a detection found an object, best score first.
        false: (N, T) whether it is false; what is neither does not count.
        number: number of objects, at least 1.

    Returns:
        (T,) in [0, 1].
    """
    n_true, n_false = np.cumsum(true, axis=0), np.cumsum(false, axis=0)
    precision = n_true / np.maximum(n_true + n_false, 1)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    envelope = np.concatenate((envelope, np.zeros((1, true.shape[1]))))  # for recalls that are never reached
    reached = np.stack([np.searchsorted(column, RECALLS) for column in (n_true / number).T])
    average: Reals = np.take_along_axis(envelope, reached.T, axis=0).mean(axis=0)
    return average


class CocoScores(Metric):
    """Collects detections and annotations on every rank and scores them once, as COCO does.

    The state is two compact tensors a batch. `compute` gathers them on rank 0 alone, which scores them and
    sends the numbers to all ranks: the memory of the whole evaluation is needed once, not once per rank.
    torchmetrics' own synchronisation, which mis-pairs lists of unequal length, is off.

    Args:
        class_names: name of each class index.
        max_detections: most detections of one class in one image that count.

    Attributes:
        thresholds: score of each class at which its F1 was best when `compute` was last called, see
            `evaluation.curves.best_thresholds`; empty before.
    """

    full_state_update = False

    images: list[Tensor]
    rows: list[Tensor]

    def __init__(self, class_names: Sequence[str], max_detections: int = 500) -> None:
        # No cache either: a rank that saw nothing new would answer from it while the others wait.
        super().__init__(sync_on_compute=False, compute_with_cache=False)
        self.class_names = tuple(class_names)
        self.max_detections = max_detections
        self.thresholds: list[float] = []
        self.add_state("images", default=[], dist_reduce_fx=None)
        self.add_state("rows", default=[], dist_reduce_fx=None)

    def update(self, image_id: int, detections: DetectionsLike, annotations: AnnotationsLike) -> None:
        """Add one image.

        Args:
            image_id: id of the image, scored once over all ranks.
            detections: its detections, pixels of the original image, on any device.
            annotations: its annotations, pixels of the original image.
        """
        image, rows = pack(image_id, detections, annotations)
        self.images.append(image.to(self.device))
        self.rows.append(rows.to(self.device))

    def gather(self) -> Results | None:
        """Everything seen since the last reset, on rank 0; None on the others. A collective."""
        images = torch.cat([torch.empty(0, 4, dtype=torch.int64, device=self.device), *self.images])
        rows = torch.cat([torch.empty(0, 6, device=self.device), *self.rows])
        return gather(images, rows)

    def compute(self) -> dict[str, float]:
        """Score all images of all ranks, see `evaluate`. A collective; every rank gets the numbers."""
        from evaluation.curves import best_thresholds  # late, as curves stand on these scores

        results = self.gather()
        found: list[Any] = [{}, []]
        if results is not None:
            names, limit = self.class_names, self.max_detections
            found = [evaluate(results, names, limit), best_thresholds(results, len(names), limit)]
        if distributed.is_available() and distributed.is_initialized():
            distributed.broadcast_object_list(found, src=0, device=self.device)
        scores: dict[str, float] = found[0]
        self.thresholds = found[1]
        return scores


def detection_limits(max_detections: int) -> list[int]:
    """Detection limits of the recalls `AR<n>`, ascending; the last is `max_detections`."""
    return [limit for limit in (1, 10, 100) if limit < max_detections] + [max_detections]


def _mean(values: Reals) -> float:
    """Mean of the defined values, NaN if there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")

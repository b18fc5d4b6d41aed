"""COCO's scores in original pixels: overall, by size, by class, with the tiny bins of aerial images.

T IoU thresholds, C classes, N detections of one class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, distributed
from torchmetrics import Metric

from evaluation.matching import Bools, Reals, detected_boxes, find_candidates, match, turns
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


def score_names(class_names: Sequence[str], max_detections: int = 500) -> list[str]:
    """Names of the scores of `evaluate`, in its order.

    `AP`, `AP50` to `AP95` by IoU threshold, `AP_<range>` by size, `AR`, `AR_<range>`, `AP/<class>` and
    `AP50/<class>`, all at `max_detections` detections of a class in an image; `AR<n>` at n of them.
    """
    return [
        "AP",
        *(f"AP{threshold}" for threshold in IOU_PERCENT),
        *(f"AP_{name}" for name in SIDE_RANGES),
        "AR",
        *(f"AR_{name}" for name in SIDE_RANGES),
        *(f"AR{limit}" for limit in _limits(max_detections)),
        *(f"AP/{name}" for name in class_names),
        *(f"AP50/{name}" for name in class_names),
    ]


def evaluate(
    results: Results, class_names: Sequence[str], max_detections: int = 500, ignore_regions: bool = True
) -> dict[str, float]:
    """COCO's scores, equal to pycocotools' at the same detection limits.

    An ignored region is a crowd annotation of its class, or one of every class (`ANY_CLASS`).

    Args:
        results: detections and annotations.
        class_names: name of each class index.
        max_detections: most detections of one class in one image that count.
        ignore_regions: whether the regions are in place; without them, detections inside are false.

    Returns:
        The scores in [0, 1], see `score_names`; NaN where there is no object to find.
        Source: Lin et al. 2014; pycocotools' `COCOeval`.
    """
    limits, classes = _limits(max_detections), len(class_names)
    found = detected_boxes(results)
    pairs, crowd = find_candidates(results, classes, IOU_THRESHOLDS[0])
    if not ignore_regions:
        pairs = pairs[~crowd[pairs.target]]
    turn = turns(found, results.scores)
    # Ties in score: earlier image first, then the given order.
    by_score = np.argsort(-results.scores, kind="stable")
    by_score = by_score[turn[by_score] < max_detections]
    by_class = [by_score[results.labels[by_score] == c] for c in range(classes)]

    ranges = [(0.0, 1e5), *SIDE_RANGES.values()]
    precision = np.full((len(ranges), classes, len(IOU_THRESHOLDS)), np.nan)
    recall = np.full((len(ranges), len(limits), classes, len(IOU_THRESHOLDS)), np.nan)
    for a, (low, high) in enumerate(ranges):
        # An object of another size may be found, but neither that nor missing it counts.
        ignored = crowd.copy()
        ignored[~crowd] = (results.gt_areas < low**2) | (results.gt_areas > high**2)
        in_range = (found.areas >= low**2) & (found.areas <= high**2)
        target = match(pairs, turn, ignored, IOU_THRESHOLDS, crowd)
        # The element appended is that of -1, nothing found.
        true, false = ~np.append(ignored, True)[target], (target < 0) & in_range[:, None]
        numbers = np.bincount(results.gt_labels[~ignored[~crowd]], minlength=classes)
        for c in numbers.nonzero()[0]:
            mine = by_class[c]
            precision[a, c] = average_precision(true[mine], false[mine], numbers[c])
            for m, limit in enumerate(limits):
                recall[a, m, c] = true[mine[turn[mine] < limit]].sum(axis=0) / numbers[c]

    values = [
        _mean(precision[0]),
        *(_mean(precision[0, :, t]) for t in range(len(IOU_THRESHOLDS))),
        *(_mean(precision[a]) for a in range(1, len(ranges))),
        *(_mean(recall[a, -1]) for a in range(len(ranges))),
        *(_mean(recall[0, m]) for m in range(len(limits))),
        *(_mean(precision[0, c]) for c in range(classes)),
        *precision[0, :, 0].tolist(),
    ]
    return dict(zip(score_names(class_names, max_detections), values, strict=True))


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
    """

    full_state_update = False

    images: list[Tensor]
    rows: list[Tensor]

    def __init__(self, class_names: Sequence[str], max_detections: int = 500) -> None:
        # No cache either: a rank that saw nothing new would answer from it while the others wait.
        super().__init__(sync_on_compute=False, compute_with_cache=False)
        self.class_names = tuple(class_names)
        self.max_detections = max_detections
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
        results = self.gather()
        names = score_names(self.class_names, self.max_detections)
        values = torch.empty(len(names), dtype=torch.float64, device=self.device)
        if results is not None:
            scores = evaluate(results, self.class_names, self.max_detections)
            values = torch.tensor(list(scores.values()), dtype=torch.float64, device=self.device)
        if distributed.is_available() and distributed.is_initialized():
            distributed.broadcast(values, src=0)
        return dict(zip(names, values.tolist(), strict=True))


def _limits(max_detections: int) -> list[int]:
    """Detection limits of the recalls, ascending; the last is `max_detections`."""
    return [limit for limit in (1, 10, 100) if limit < max_detections] + [max_detections]


def _mean(values: Reals) -> float:
    """Mean of the defined values, NaN if there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")

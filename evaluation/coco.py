"""COCO's scores in original pixels: overall, by size, by class, with the tiny bins of aerial images.

T IoU thresholds, Q recall points, C classes, A area ranges, M detection limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray
from torch import Tensor, distributed
from torchmetrics import Metric

from evaluation.results import AnnotationsLike, DetectionsLike, Floats, Ints, Results, gather, pack

IOU_PERCENT = range(50, 100, 5)
"""COCO's ten IoU thresholds."""

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
    limits = _limits(max_detections)
    precision, recall = _precision_recall(results, len(class_names), limits, ignore_regions)
    ranges = range(1, 1 + len(SIDE_RANGES))
    values = [
        _mean(precision[..., 0, -1]),
        *(_mean(precision[t, ..., 0, -1]) for t in range(len(IOU_PERCENT))),
        *(_mean(precision[..., a, -1]) for a in ranges),
        _mean(recall[..., 0, -1]),
        *(_mean(recall[..., a, -1]) for a in ranges),
        *(_mean(recall[..., 0, m]) for m in range(len(limits))),
        *(_mean(precision[:, :, c, 0, -1]) for c in range(len(class_names))),
        *(_mean(precision[0, :, c, 0, -1]) for c in range(len(class_names))),
    ]
    return dict(zip(score_names(class_names, max_detections), values, strict=True))


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


def _mean(values: NDArray[np.float64]) -> float:
    """Mean over the defined values (faster_coco_eval marks the others -1), NaN if there is none."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else float("nan")


def _precision_recall(
    results: Results, classes: int, limits: list[int], ignore_regions: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision (T, Q, C, A, M) and recall (T, C, A, M); -1 where undefined."""
    truth, found = _coco_data_sets(results, classes, ignore_regions)
    run = COCOeval_faster(truth, found, iouType="bbox")
    # Setting the ranges here keeps COCO's "all" first and lets the others overlap.
    run.params.areaRngLbl = ["all", *SIDE_RANGES]
    run.params.areaRng = [[0, 1e10], *([low**2, high**2] for low, high in SIDE_RANGES.values())]
    run.params.maxDets = limits
    run.evaluate()
    run.accumulate()
    return np.asarray(run.eval["precision"]), np.asarray(run.eval["recall"])


def _coco_data_sets(results: Results, classes: int, ignore_regions: bool) -> tuple[COCO, COCO]:
    """Ground truth and detections as faster_coco_eval's data sets; image ids are the indices."""
    truth = list(_annotations(results.gt_boxes, results.gt_labels, results.gt_image_index, results.gt_areas))
    if ignore_regions:
        boxes, labels, image_index = results.regions_by_class(classes)
        truth.extend(_annotations(boxes, labels, image_index, first_id=1 + len(truth), iscrowd=1))
    found = _annotations(results.boxes, results.labels, results.image_index, scores=results.scores)
    return _data_set(results, classes, truth), _data_set(results, classes, list(found))


def _annotations(
    boxes: Floats,
    labels: Ints,
    image_index: Ints,
    areas: Floats | None = None,
    scores: Floats | None = None,
    first_id: int = 1,
    iscrowd: int = 0,
) -> Iterable[dict[str, Any]]:
    """COCO annotations with ids from `first_id` on (0 would read as "not matched"); area: the box's."""
    # The sides are subtracted in double precision, where they are exact.
    sides = boxes.astype(np.float64)
    sides[:, 2:] -= sides[:, :2]
    area = (sides[:, 2] * sides[:, 3] if areas is None else areas).tolist()
    score = [0.0] * len(boxes) if scores is None else scores.tolist()
    columns = zip(image_index.tolist(), labels.tolist(), sides.tolist(), area, score, strict=True)
    for i, (image, label, bbox, size, value) in enumerate(columns, first_id):
        yield {
            "id": i,
            "image_id": image,
            "category_id": label,
            "bbox": bbox,
            "area": size,
            "score": value,
            "iscrowd": iscrowd,
        }


def _data_set(results: Results, classes: int, annotations: list[dict[str, Any]]) -> COCO:
    """A data set over all images and classes."""
    return COCO(
        {
            "images": [{"id": i} for i in range(len(results.image_ids))],
            "categories": [{"id": c, "name": str(c)} for c in range(classes)],
            "annotations": annotations,
        }
    )

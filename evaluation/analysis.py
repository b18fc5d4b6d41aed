"""Everything known about where a detector fails, in one object: what the report shows and metrics.json keeps.

D detections, G objects, C classes, K groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.curves import (
    CROWDING_NAMES,
    Calibration,
    Curve,
    calibration,
    mean_iou_by_class,
    precision_recall_curves,
    recall_by_crowding,
)
from evaluation.errors import (
    ERRORS,
    SIZE_NAMES,
    confusion_by_class,
    confusion_by_size,
    error_costs,
    find_errors,
    find_objects,
)
from evaluation.matching import Ints, Reals
from evaluation.results import Results

LEAST_SHOWN = 0.05
"""Score below which confusion and pictures leave detections out.

The best F1 of a class that is hardly learned may lie at 0.001, where false detections cover the images.
"""


@dataclass(frozen=True, slots=True)
class Analysis:
    """Where a detector fails, at IoU 0.5.

    Attributes:
        class_names: name of each class index.
        objects: (C,) number of objects.
        curves: C curves of precision, recall and F1.
        thresholds: (C,) score threshold of the best F1 of each class.
        target: (D,) what each detection found, `evaluation.errors.find_objects`.
        shown: (D,) the same with the detections below the thresholds, or `LEAST_SHOWN`, ignored.
        error_counts: number of errors of each of TIDE's types.
        error_costs: AP50 and the cost of each type, by size range.
        confusion: (C + 1, C + 1) of what is shown, see `evaluation.errors.confusion_by_class`.
        size_confusion: (K + 1, K + 1) likewise, see `evaluation.errors.confusion_by_size`.
        calibration: scores against precision.
        crowding: numbers of objects (K,) and recalls (K,) by crowding.
        mean_iou: MIoU by class name.
    """

    class_names: Sequence[str]
    objects: Ints
    curves: Sequence[Curve]
    thresholds: Reals
    target: Ints
    shown: Ints
    error_counts: dict[str, int]
    error_costs: dict[str, dict[str, float]]
    confusion: Ints
    size_confusion: Ints
    calibration: Calibration
    crowding: tuple[Ints, Reals]
    mean_iou: dict[str, float]

    def metrics(self) -> dict[str, object]:
        """The figures as nested mappings, for `evaluation.report.text.write_metrics`."""
        best = {
            name: dict(zip(("threshold", "f1", "precision", "recall"), curve.best, strict=True))
            for name, curve in zip(self.class_names, self.curves, strict=True)
        }
        count, recall = self.crowding
        by_crowding = zip(CROWDING_NAMES, count.tolist(), recall.tolist(), strict=True)
        return {
            "errors": self.error_counts,
            "error_costs": self.error_costs,
            "best_f1": best,
            "mean_iou": self.mean_iou,
            "calibration_error": self.calibration.error,
            "recall_by_crowding": {name: {"objects": n, "recall": r} for name, n, r in by_crowding},
            "confusion": {"rows": [*self.class_names, "nothing"], "counts": self.confusion},
            "size_confusion": {"rows": [*SIZE_NAMES, "nothing"], "counts": self.size_confusion},
        }


def analyse(results: Results, class_names: Sequence[str], max_detections: int = 500) -> Analysis:
    """Analyse all detections.

    Args:
        results: detections and annotations.
        class_names: name of each class index.
        max_detections: most detections of one class in one image that count.
    """
    classes = len(class_names)
    target = find_objects(results, classes, max_detections)
    errors = find_errors(results, target)
    curves = precision_recall_curves(results, target, classes)
    thresholds = np.array([curve.best[0] for curve in curves])
    visible = np.maximum(thresholds, LEAST_SHOWN)
    counts = {name: int((errors.kind == i).sum()) for i, name in enumerate(ERRORS)}
    return Analysis(
        class_names=class_names,
        objects=np.bincount(results.gt_labels, minlength=classes),
        curves=curves,
        thresholds=thresholds,
        target=target,
        shown=find_objects(results, classes, max_detections, visible),
        error_counts=counts | {"missed": int(errors.missed.sum())},
        error_costs=error_costs(results, target, errors, classes),
        confusion=confusion_by_class(results, classes, visible, max_detections),
        size_confusion=confusion_by_size(results, classes, visible, max_detections),
        calibration=calibration(results, target),
        crowding=recall_by_crowding(results, target),
        mean_iou=mean_iou_by_class(results, target, class_names),
    )

"""Two detectors on the same images: do their scores differ by more than the choice of images explains?

B resamples, I images, n detections read from a file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from scipy.special import stdtrit

from evaluation.bootstrap import image_weights, resampled_scores
from evaluation.results import Results

COMPARED = ("AP", "AP50", "AP_small")
"""The scores that are compared."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One score of two detectors.

    Attributes:
        this: score of the one, in [0, 1]; NaN without an object.
        other: score of the other.
        low: lower bound of `mean`'s 95 % interval over the choice of images; NaN for a single image.
        high: its upper bound.
    """

    this: float
    other: float
    low: float
    high: float

    @property
    def mean(self) -> float:
        """This score minus the other."""
        return self.this - self.other


def differences(
    this: Results, other: Results, classes: int, max_detections: int = 500, resamples: int = 200
) -> dict[str, Difference]:
    """Compare two detectors on resamples of their images, the same for both, so that what is common cancels.

    The interval covers other images of the same kind; it does not cover another training.

    Args:
        this: detections of the one, and the annotations.
        other: detections of the other, with the same annotations.
        classes: number of classes.
        max_detections: most detections of one class in one image that count.
        resamples: B.

    Returns:
        By the names of `COMPARED`. The interval is the difference +- t times its standard deviation over the
        resamples, with I - 1 degrees of freedom, as `pinpoint.comparison.differences` has it for images.
    """
    images = len(this.image_ids)
    # The first "resample" is the data set itself.
    weights = np.concatenate((np.ones((1, images)), image_weights(images, resamples)))
    ours, theirs = (resampled_scores(one, classes, weights, max_detections) for one in (this, other))
    found = {}
    for name in COMPARED:
        change = (ours[name] - theirs[name])[1:]
        change = change[~np.isnan(change)]
        reach = math.nan
        if images > 1 and len(change) > 1:
            reach = float(stdtrit(images - 1, 0.975)) * float(change.std(ddof=1))
        here, there = float(ours[name][0]), float(theirs[name][0])
        found[name] = Difference(here, there, here - there - reach, here - there + reach)
    return found


def predictions_path(path: Path) -> Path:
    """The predictions of another run, given them or the metrics.json beside them.

    Args:
        path: a metrics.json or predictions.json of evaluate.py.

    Raises:
        ValueError: if there is no such file, or no predictions beside the metrics.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the metrics.json or predictions.json of another run")
    predictions = path.with_name("predictions.json") if path.name == "metrics.json" else path
    if not predictions.is_file():
        raise ValueError(
            f"{path} has no predictions.json beside it, and totals alone cannot tell a difference from "
            "chance: keep both files, or evaluate that checkpoint again"
        )
    return predictions


def require_same_images(predictions: Path, images: Sequence[Mapping[str, Any]]) -> None:
    """Refuse predictions of other images, or of some of them, where an images.json beside them says so.

    Args:
        predictions: predictions.json of another run.
        images: what was scored here, as COCO lists it; the folders of their names may differ.

    Raises:
        ValueError: they are others.
    """

    def identities(listed: Sequence[Mapping[str, Any]]) -> dict[int, tuple[str, int, int]]:
        return {
            image["id"]: (PurePath(image["file_name"]).name, image["width"], image["height"])
            for image in listed
        }

    listing = predictions.with_name("images.json")
    if not listing.is_file():
        return
    try:
        theirs = identities(json.loads(listing.read_text("utf-8"))["images"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{listing} is no list of images in COCO's format ({error})") from error
    ours = identities(images)
    if theirs != ours:
        same = sum(theirs.get(id_) == image for id_, image in ours.items())
        raise ValueError(
            f"{predictions} is of {len(theirs)} images, of which {same} are among the {len(ours)} scored "
            "here: compare runs on the same split of the same data"
        )


def read_predictions(path: Path, results: Results, category_ids: Sequence[int]) -> Results:
    """Put the detections of a file, in COCO's results format, in place of those of `results`.

    Args:
        path: a predictions.json, see `evaluation.report.text.write_predictions`.
        results: the annotations.
        category_ids: the data set's category id of each class index.

    Raises:
        ValueError: if it is not such a file, or of other images or categories.
    """
    try:
        rows = json.loads(path.read_text("utf-8"))
        image_ids = np.array([row["image_id"] for row in rows], dtype=np.int64)
        categories = np.array([row["category_id"] for row in rows], dtype=np.int64)
        boxes = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(len(rows), 4)
        scores = np.array([row["score"] for row in rows], dtype=np.float32)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a list of detections in COCO's results format ({error})") from error
    for kind, theirs, ours in (
        ("image", image_ids, results.image_ids),
        ("category", categories, category_ids),
    ):
        unknown = np.setdiff1d(theirs, ours)
        if len(unknown):
            raise ValueError(
                f"{path} has detections of {kind} {unknown[0]}, which the data scored here lack: compare "
                "runs on the same split of the same data"
            )
    image_index = np.searchsorted(results.image_ids, image_ids)
    order = np.argsort(image_index, kind="stable")
    ids = np.asarray(category_ids)
    by_id = np.argsort(ids)
    boxes[:, 2:] += boxes[:, :2]
    return replace(
        results,
        boxes=boxes[order].astype(np.float32),
        scores=scores[order],
        labels=by_id[np.searchsorted(ids, categories, sorter=by_id)][order],
        image_index=image_index[order],
    )

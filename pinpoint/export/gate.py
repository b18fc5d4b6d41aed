"""The gate: an exported file must find on real images what its checkpoint finds.

B images of a batch, A points, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import median

from torch import Tensor

from datamodules.base import DetectionDataModule
from datamodules.batch import Batch
from datamodules.progress import progress_bar
from detector.inference import Model
from detector.postprocess import Detections
from evaluation.coco import CocoScores

BOX_TOLERANCE = 0.1
"""Pixels that a side of a box may move. Float32 moves it by 0.0001; more is another computation."""
SCORE_TOLERANCE = 0.001
AP_TOLERANCE = 0.001
BEST = 100
"""Points of each image whose boxes are compared, those of the best scores: the others are noise."""
WARM_UP = 3
"""Images that are not timed: runtimes allocate and choose kernels on the first."""


CALIBRATION_IMAGES = 100
"""Images that set the ranges of int8, drawn evenly; more change them no further."""


class ValidationImages:
    """Validation images with their annotations, drawn evenly, one a batch.

    Args:
        data: where they come from; is set up, and left with these images alone.
        count: most of them.
    """

    def __init__(self, data: DetectionDataModule, count: int) -> None:
        data.val_batch_size = 1
        data.prepare_data()
        data.setup("validate")
        records = data.records["val"]
        step = -(-len(records.images) // count)
        data.records["val"] = replace(records, images=records.images[::step])
        self.data = data

    def __len__(self) -> int:
        return len(self.data.records["val"].images)

    def __iter__(self) -> Iterator[Batch]:
        return iter(progress_bar(self.data.val_dataloader(), len(self), "checking"))

    def few(self) -> Iterator[Tensor]:
        """Some of the images, to calibrate on: (1, 3, H, W) uint8 each."""
        step = -(-len(self) // CALIBRATION_IMAGES)
        return (batch.images for batch in islice(self.data.val_dataloader(), 0, None, step))


@dataclass(frozen=True, slots=True)
class Comparison:
    """A file beside its checkpoint.

    Attributes:
        images: number of images.
        box_error: largest distance between a side of the two boxes of a point, pixels of the input.
        score_error: largest difference of two scores.
        reference: COCO scores of the checkpoint, see `evaluation.coco.evaluate`.
        scores: COCO scores of the file.
        reference_ms: median milliseconds that torch takes for an image.
        ms: median milliseconds that the file takes, the same images in turn.
    """

    images: int
    box_error: float
    score_error: float
    reference: dict[str, float]
    scores: dict[str, float]
    reference_ms: float
    ms: float

    def failures(self, exact: bool) -> list[str]:
        """What is wrong with the file, in words; empty if nothing is.

        Args:
            exact: whether it computes in float32 and has to agree; one of lower precision has to be finite.
        """
        wrong = []
        if not (self.box_error < float("inf") and self.score_error < float("inf")):
            return ["boxes or scores are not finite numbers, or of another shape"]
        if exact and self.box_error > BOX_TOLERANCE:
            wrong.append(f"boxes move by up to {self.box_error:.3g} px, more than {BOX_TOLERANCE}")
        if exact and self.score_error > SCORE_TOLERANCE:
            wrong.append(f"scores change by up to {self.score_error:.2g}, more than {SCORE_TOLERANCE}")
        if exact and self.reference["AP"] - self.scores["AP"] > AP_TOLERANCE:
            lost = self.reference["AP"] - self.scores["AP"]
            wrong.append(f"AP is lower by {lost:.4f}, more than {AP_TOLERANCE}")
        return wrong

    def table(self, name: str) -> str:
        """The two beside each other as text."""
        rows = [f"{self.images} images        AP   AP_small  ms/image"]
        for label, scores, ms in (("torch", self.reference, self.reference_ms), (name, self.scores, self.ms)):
            rows.append(f"{label:<14}{scores['AP']:8.4f}  {scores['AP_small']:8.4f}  {ms:8.1f}")
        lost = {key: self.reference[key] - self.scores[key] for key in ("AP", "AP_small")}
        rows.append(f"{'cost':<14}{lost['AP']:8.4f}  {lost['AP_small']:8.4f}")
        rows.append(f"boxes differ by up to {self.box_error:.2g} px, scores by up to {self.score_error:.2g}")
        return "\n".join(rows)


def compare(
    reference: Model,
    candidate: Model,
    batches: Iterable[Batch],
    suppressed: Callable[[Tensor], list[Detections]] | None = None,
) -> Comparison:
    """Run both on the same images, in turn.

    Args:
        reference: the checkpoint.
        candidate: the file.
        batches: uint8 images with their annotations, one image each for the times to be per image.
        suppressed: detections of the file's own suppression, to be scored in place of ours.
    """
    forwards, postprocess = (reference.forward, candidate.forward), reference.postprocess
    names, limit = reference.facts.class_names, postprocess.max_detections
    scores = [CocoScores(names, limit) for _ in forwards]
    seconds: list[list[float]] = [[], []]
    box_error = score_error = 0.0
    images = 0
    for batch in batches:
        images += len(batch)
        outputs = []
        for forward, spent in zip(forwards, seconds, strict=True):
            start = time.perf_counter()
            outputs.append(forward(batch.images))
            spent.append(time.perf_counter() - start)
        differences = _differences(*outputs)
        box_error, score_error = max(box_error, differences[0]), max(score_error, differences[1])
        found = [postprocess(*output) for output in outputs]
        if suppressed is not None:
            found[1] = suppressed(batch.images)
        for one, detections in zip(scores, found, strict=True):
            _add(one, detections, batch)
    ours, theirs = (one.compute() for one in scores)
    ours_ms, theirs_ms = (median(spent[WARM_UP:] or spent) * 1e3 for spent in seconds)
    return Comparison(
        images=images,
        box_error=box_error,
        score_error=score_error,
        reference=ours,
        scores=theirs,
        reference_ms=ours_ms,
        ms=theirs_ms,
    )


def _differences(reference: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Largest difference of boxes, in pixels, at the best points, and of scores; inf if not a number."""
    (logits, boxes), (other_logits, other_boxes) = reference, other
    if logits.shape != other_logits.shape or boxes.shape != other_boxes.shape:
        return float("inf"), float("inf")
    scores = logits.float().sigmoid()
    best = scores.amax(dim=-1).topk(min(BEST, scores.shape[1])).indices[..., None].expand(-1, -1, 4)
    errors = ((boxes - other_boxes).gather(1, best), scores - other_logits.float().sigmoid())
    # Not nan_to_num with its default, which would take an infinite difference for a large one.
    worst = [float(error.abs().nan_to_num(float("inf"), posinf=float("inf")).max()) for error in errors]
    return worst[0], worst[1]


def _add(scores: CocoScores, found: Sequence[Detections], batch: Batch) -> None:
    for one, info, truth in zip(found, batch.infos, batch.annotations, strict=True):
        scores.update(info.image_id, replace(one, boxes=info.to_original(one.boxes)), truth)

"""From predictions to detections: threshold, best candidates, suppression of all but the best of an object.

B images, A points of an image, C classes, n detections of an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor
from torchvision.ops import box_iou, nms

from datamodules.limits import require_between

Suppression = Literal["nms", "soft"]
"""What happens to a detection that overlaps a better one: it goes ("nms"), or its score falls ("soft")."""

SOFT_SIGMA = 0.5
"""How fast the score falls under "soft": by exp(-IoU^2 / sigma). Source: Bodla et al. 2017."""


@dataclass(frozen=True, slots=True)
class Detections:
    """The detections of one image, by score descending.

    Attributes:
        boxes: (n, 4) float32 xyxy pixels.
        scores: (n,) float32 in (0, 1].
        labels: (n,) int64 class indices.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.scores)


@torch.no_grad()
def postprocess(
    logits: Tensor,
    boxes: Tensor,
    score_threshold: float = 0.001,
    pre_nms: int = 5000,
    nms_iou: float = 0.6,
    max_detections: int = 500,
    suppression: Suppression = "nms",
    class_agnostic: bool = False,
) -> list[Detections]:
    """Turn predictions into detections; one point may give a detection of every class.

    Args:
        logits: (B, A, C) class logits.
        boxes: (B, A, 4) xyxy pixels.
        score_threshold: a (point, class) is a candidate if its probability is above this.
        pre_nms: most candidates of an image, the best by score; ties go to the lower point, then class.
        nms_iou: a candidate is dropped if its IoU with a better one is above this; of no use to "soft".
        max_detections: most detections of an image, over all classes.
        suppression: see `Suppression`.
        class_agnostic: classes suppress each other; otherwise each only itself.

    Returns:
        The detections of each image, in the pixels of `boxes`.
    """
    classes = logits.shape[-1]
    found = []
    for image_logits, image_boxes in zip(logits, boxes, strict=True):
        scores = image_logits.float().sigmoid().flatten()
        candidate = (scores > score_threshold).nonzero().squeeze(1)
        values = scores[candidate]
        if len(candidate) > pre_nms:
            # A full sort of hundreds of thousands is slow, and top-k alone breaks ties in no fixed order.
            good = values >= values.topk(pre_nms).values[-1]
            candidate, values = candidate[good], values[good]
        values, order = values.sort(descending=True, stable=True)
        candidate, values = candidate[order[:pre_nms]], values[:pre_nms]
        candidates = Detections(image_boxes[candidate // classes], values, candidate % classes)
        if suppression == "soft":
            found.append(soften(candidates, score_threshold, max_detections, class_agnostic))
        else:
            found.append(suppress(candidates, nms_iou, max_detections, class_agnostic))
    return found


def suppress(
    candidates: Detections, nms_iou: float = 0.6, max_detections: int = 500, class_agnostic: bool = False
) -> Detections:
    """Non-maximum suppression, class by class unless told otherwise.

    Args:
        candidates: by score descending.
        nms_iou: a detection is dropped if its IoU with a better one is above this.
        max_detections: most detections to return, over all classes.
        class_agnostic: classes suppress each other.
    """
    boxes, scores, labels = candidates.boxes, candidates.scores, candidates.labels
    groups = torch.zeros_like(labels) if class_agnostic else labels
    # A detection is dropped by better ones alone, so what remains of the best is final, however many follow:
    # the rest is looked at in portions, until enough remain. Most often the first portion is enough.
    kept = labels.new_empty(0)
    for portion in torch.arange(len(labels), device=labels.device).split(max(2 * max_detections, 1)):
        some = torch.cat((kept, portion))
        kept = some[_remaining(boxes[some], scores[some], groups[some], nms_iou)]
        if len(kept) >= max_detections:
            break
    kept = kept[:max_detections]
    return Detections(boxes[kept], scores[kept], labels[kept])


def _remaining(boxes: Tensor, scores: Tensor, groups: Tensor, nms_iou: float) -> Tensor:
    """Indices, ascending, of the boxes that no better one of their group drops.

    Group by group: torchvision's batched_nms shifts each group by an offset in float32, which lets groups
    suppress each other where coordinates are negative, and rounds small boxes where there are many groups.

    Args:
        boxes: (n, 4) xyxy pixels.
        scores: (n,) descending.
        groups: (n,) int64, not negative.
        nms_iou: a box is dropped if its IoU with a better one is above this.
    """
    groups, order = groups.sort(stable=True)
    sizes = torch.unique_consecutive(groups, return_counts=True)[1].tolist()
    parts = zip(order.split(sizes), boxes[order].split(sizes), scores[order].split(sizes), strict=True)
    kept = [index[nms(box, score, nms_iou)] for index, box, score in parts]
    return torch.cat(kept).sort().values if kept else order


def soften(
    candidates: Detections, score_threshold: float, max_detections: int = 500, class_agnostic: bool = False
) -> Detections:
    """Soft suppression: each detection, the best first, lowers the scores of those that it overlaps.

    Args:
        candidates: by score descending.
        score_threshold: detections that fall to it go.
        max_detections: most detections to return, over all classes.
        class_agnostic: classes lower each other's scores.
    """
    boxes, labels = candidates.boxes, candidates.labels
    scores, left = candidates.scores.clone(), candidates.scores.clone()
    chosen = []
    for _ in range(min(max_detections, len(scores))):
        best = int(left.argmax())
        if left[best] <= score_threshold:
            break
        chosen.append(best)
        scores[best] = left[best]
        factor = torch.exp(-(box_iou(boxes[best : best + 1], boxes)[0] ** 2) / SOFT_SIGMA)
        left *= factor if class_agnostic else factor.where(labels == labels[best], 1.0)
        left[best] = 0
    remaining = torch.tensor(chosen, dtype=torch.int64, device=labels.device)
    return Detections(boxes[remaining], scores[remaining], labels[remaining])


@final
class Postprocess:
    """Parameters of `postprocess`.

    Args:
        score_threshold: a (point, class) is a candidate if its probability is above this.
        pre_nms: most candidates of an image before suppression.
        nms_iou: a candidate is dropped if its IoU with a better one is above this.
        max_detections: most detections of an image, over all classes; of a tile, where there are tiles.
        suppression: nms drops what overlaps a better detection, soft lowers its score.
        class_agnostic: classes suppress each other; otherwise each only itself.

    Raises:
        ValueError: a suppression that there is not.
    """

    def __init__(
        self,
        score_threshold: float = 0.001,
        pre_nms: int = 5000,
        nms_iou: float = 0.6,
        max_detections: int = 500,
        suppression: Suppression = "nms",
        class_agnostic: bool = False,
    ) -> None:
        if suppression not in ("nms", "soft"):
            raise ValueError(f"postprocess.suppression must be nms or soft, got {suppression!r}")
        require_between("postprocess.score_threshold", score_threshold, 0, 1)
        require_between("postprocess.nms_iou", nms_iou, 0, 1)
        require_between("postprocess.max_detections", max_detections, 1, 100_000)
        require_between("postprocess.pre_nms", pre_nms, 1, 1_000_000)
        self.score_threshold = score_threshold
        self.pre_nms = pre_nms
        self.nms_iou = nms_iou
        self.max_detections = max_detections
        self.suppression: Suppression = suppression
        self.class_agnostic = class_agnostic

    def __call__(self, logits: Tensor, boxes: Tensor) -> list[Detections]:
        """Turn logits (B, A, C) and boxes (B, A, 4) xyxy pixels into the detections of each image."""
        return postprocess(logits, boxes, **vars(self))

    def arguments(self) -> dict[str, Any]:
        """The arguments that it was made with, for files that keep them."""
        return dict(vars(self))

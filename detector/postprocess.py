"""From predictions to detections: threshold, best candidates, class-wise non-maximum suppression.

B images, A points of an image, C classes, n detections of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torchvision.ops import nms


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
) -> list[Detections]:
    """Turn predictions into detections; one point may give a detection of every class.

    Args:
        logits: (B, A, C) class logits.
        boxes: (B, A, 4) xyxy pixels.
        score_threshold: a (point, class) is a candidate if its probability is above this.
        pre_nms: most candidates of an image, the best by score; ties go to the lower point, then class.
        nms_iou: a candidate is dropped if its IoU with a better one of its class is above this.
        max_detections: most detections of an image, over all classes.

    Returns:
        The detections of each image, in the pixels of `boxes`.
    """
    classes = logits.shape[-1]
    found = []
    for image_logits, image_boxes in zip(logits, boxes, strict=True):
        scores = image_logits.float().sigmoid().flatten()
        candidate = (scores > score_threshold).nonzero().squeeze(1)
        # A full sort of hundreds of thousands is slow, and top-k alone breaks ties in no fixed order.
        best = scores[candidate].topk(min(pre_nms, len(candidate))).values
        candidate = candidate[scores[candidate] >= best[-1:]]
        candidate = candidate[scores[candidate].argsort(descending=True, stable=True)[:pre_nms]]
        candidates = Detections(image_boxes[candidate // classes], scores[candidate], candidate % classes)
        found.append(merge([candidates], nms_iou, max_detections))
    return found


@torch.no_grad()
def merge(parts: Sequence[Detections], nms_iou: float = 0.6, max_detections: int = 500) -> Detections:
    """Join detections of one image, such as those of its tiles, by class-wise non-maximum suppression.

    Args:
        parts: at least one, all in pixels of the same image.
        nms_iou: a detection is dropped if its IoU with a better one of its class is above this.
        max_detections: most detections to return, over all classes.

    Returns:
        The best of what remains; ties go to the earlier part and position.
    """
    scores = torch.cat([part.scores for part in parts])
    scores, order = scores.sort(descending=True, stable=True)
    boxes = torch.cat([part.boxes for part in parts])[order]
    labels = torch.cat([part.labels for part in parts])[order]
    # Class by class: torchvision's batched_nms shifts each class by an offset in float32, which lets classes
    # suppress each other where coordinates are negative, and rounds small boxes where there are many classes.
    kept = torch.zeros_like(labels, dtype=torch.bool)
    for label in torch.unique(labels):
        same = (labels == label).nonzero().squeeze(1)
        kept[same[nms(boxes[same], scores[same], nms_iou)]] = True
    remaining = kept.nonzero().squeeze(1)[:max_detections]
    return Detections(boxes[remaining], scores[remaining], labels[remaining])


@final
class Postprocess:
    """Parameters of `postprocess` and `merge`.

    Args:
        score_threshold: a (point, class) is a candidate if its probability is above this.
        pre_nms: most candidates of an image before suppression.
        nms_iou: a candidate is dropped if its IoU with a better one of its class is above this.
        max_detections: most detections of an image, over all classes.
    """

    def __init__(
        self,
        score_threshold: float = 0.001,
        pre_nms: int = 5000,
        nms_iou: float = 0.6,
        max_detections: int = 500,
    ) -> None:
        self.score_threshold = score_threshold
        self.pre_nms = pre_nms
        self.nms_iou = nms_iou
        self.max_detections = max_detections

    def __call__(self, logits: Tensor, boxes: Tensor) -> list[Detections]:
        """Turn logits (B, A, C) and boxes (B, A, 4) xyxy pixels into the detections of each image."""
        return postprocess(
            logits,
            boxes,
            score_threshold=self.score_threshold,
            pre_nms=self.pre_nms,
            nms_iou=self.nms_iou,
            max_detections=self.max_detections,
        )

    def arguments(self) -> dict[str, float]:
        """The arguments that it was made with, for files that keep them."""
        return dict(vars(self))

    def merge(self, parts: Sequence[Detections]) -> Detections:
        """Join detections of one image, all in its pixels; see the function `merge`."""
        return merge(parts, self.nms_iou, self.max_detections)

"""The total loss of a detector.

B images, A points of an image, C classes, K bins of a distance, P positives, G objects of the batch.
"""

import math
from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor, nn

from losses.classification import ClassificationLoss, ClassTargets
from losses.distribution import distribution_focal, side_distances
from losses.named import BoxLossName, ClassificationName, named_box_loss, named_classification_loss
from losses.ranges import in_range
from losses.reduction import mean_over_ranks
from losses.regression import BoxLoss

TERMS = ("loss", "loss_box", "loss_cls", "loss_dfl")
"""What a `DetectionLoss` says: the total and its terms."""


class Predictions(Protocol):
    """A detector's predictions for a batch."""

    @property
    def logits(self) -> Tensor:
        """(B, A, C) class logits."""

    @property
    def distances(self) -> Tensor:
        """(B, A, 4, K) logits of the distributions of the distances to left, top, right, bottom."""

    @property
    def points(self) -> Tensor:
        """(A, 2) x and y in pixels of the input."""

    @property
    def strides(self) -> Tensor:
        """(A,) pixels of the input."""

    @property
    def bins(self) -> Tensor:
        """(K,) the distance that each bin stands for, in strides, ascending, evenly spaced."""

    def decode(self, index: Tensor) -> Tensor:
        """Boxes of flat indices b * A + a: (P,) to (P, 4) float32 xyxy pixels, with gradient."""


class Assignment(Protocol):
    """Which points are responsible for which objects."""

    @property
    def point(self) -> Tensor:
        """(P,) int64 flat indices b * A + a, ascending."""

    @property
    def object(self) -> Tensor:
        """(P,) int64 indices into the G objects."""

    @property
    def score(self) -> Tensor:
        """(P,) target scores in [0, 1]."""


@final
class DetectionLoss(nn.Module):
    """gain_box * L_box + gain_cls * L_cls + gain_dfl * L_dfl.

    With w the target score of a positive and S = max(sum w, 1), the sum averaged over ranks before the
    clamp: L_box = sum w k (1 - similarity) / S (or as the box loss defines it), L_dfl = sum w k DFL / S with
    the same k, L_cls = sum BCE / S. A batch without objects has a box loss of 0, connected to the graph, and
    a positive class loss. The loss does not grow with the batch or the number of ranks. All arithmetic is
    float32 under any autocast.

    Args:
        box: name of a box loss with its published constants, or a box loss with its own
            (`--model.loss.box=HybridLoss --model.loss.box.gamma=2`).
        classification: name of a classification loss, or one with its own constants.
        gain_box: factor of the box loss.
        gain_cls: factor of the classification loss.
        gain_dfl: factor of the distribution focal loss.
        class_weights: factor of each class in the classification loss, in the order of the class names; null
            for 1 each. They are not normalised: a mean of 1 over the objects keeps the scale of the loss.

    Raises:
        ValueError: if a gain is negative, or a class weight not positive.
    """

    class_weights: Tensor
    """(C,) float32, or () for any number of classes without weights."""

    def __init__(
        self,
        box: BoxLossName | BoxLoss = "ciou",
        classification: ClassificationName | ClassificationLoss = "bce",
        gain_box: float = 7.5,
        gain_cls: float = 0.5,
        gain_dfl: float = 1.5,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.box = box if isinstance(box, BoxLoss) else named_box_loss(box)
        if not isinstance(classification, ClassificationLoss):
            classification = named_classification_loss(classification)
        self.classification = classification
        self.gain_box = in_range("loss.gain_box", gain_box, 0)
        self.gain_cls = in_range("loss.gain_cls", gain_cls, 0)
        self.gain_dfl = in_range("loss.gain_dfl", gain_dfl, 0)
        if class_weights is not None and not all(0 < weight < math.inf for weight in class_weights):
            raise ValueError(f"loss.class_weights must be positive numbers, got {list(class_weights)}")
        weights = torch.tensor(1.0 if class_weights is None else class_weights, dtype=torch.float32)
        # They belong to the configuration, not to a checkpoint's weights.
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(
        self,
        predictions: Predictions,
        assignment: Assignment,
        gt_boxes: Tensor,
        gt_labels: Tensor,
        ignored: Tensor,
    ) -> dict[str, Tensor]:
        """Add up the three terms. In distributed training, a collective call: all ranks make it.

        Args:
            predictions: what the network says about the batch.
            assignment: its positives.
            gt_boxes: (G, 4) xyxy pixels of the input.
            gt_labels: (G,) int64 class indices.
            ignored: (K,) int64 flat indices b * A + a of the points inside ignore boxes, which may repeat;
                they teach the classes nothing, unless they are positives.

        Returns:
            Scalars: `loss`, the total; `loss_box`, `loss_cls`, `loss_dfl`, its terms with their gains,
            without gradient.
        """
        with torch.autocast(predictions.logits.device.type, enabled=False):
            point, score = assignment.point, assignment.score.detach().float()
            target, label = gt_boxes[assignment.object].float(), gt_labels[assignment.object]
            normaliser = mean_over_ranks(score.sum()).clamp(min=1)

            box, factors = self.box(predictions.decode(point), target, score, normaliser)

            place = point % len(predictions.points)
            sides = side_distances(
                target, predictions.points[place].float(), predictions.strides[place].float()
            )
            distances = predictions.distances.flatten(0, 1)[point].float()
            dfl = distribution_focal(distances, sides, predictions.bins.float())
            dfl = (score * factors * dfl).sum() / normaliser

            logits = predictions.logits.flatten(0, 1).float()
            valid = logits.new_ones(len(logits)).index_fill(0, ignored, 0).index_fill(0, point, 1)
            weights = self.class_weights.float().expand(logits.shape[-1])
            targets = ClassTargets(
                valid=valid, point=point, label=label, score=score, normaliser=normaliser, weights=weights
            )
            cls = self.classification(logits, targets)

            terms = {
                "loss_box": self.gain_box * box,
                "loss_cls": self.gain_cls * cls,
                "loss_dfl": self.gain_dfl * dfl,
            }
            return {"loss": sum(terms.values())} | {name: term.detach() for name, term in terms.items()}

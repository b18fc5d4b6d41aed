"""Box and classification losses by name: every word that the configuration takes for a loss."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, get_args

from losses.classification import (
    BCELoss,
    ClassificationLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    QualityFocalLoss,
    VarifocalLoss,
)
from losses.regression import BoxLoss, SimilarityLoss, SmoothL1Loss, WiseIoUV2Loss, WiseIoUV3Loss
from losses.size_aware import DynamicLoss, FocalLogLoss, HybridLoss, InverseSqrtLoss, NormalizedSqrtLoss
from losses.tunable import SimilarityName

BoxLossName = Literal[
    SimilarityName,
    "wise_iou_v2",
    "wise_iou_v3",
    "smooth_l1",
    "inverse_sqrt",
    "focal_log",
    "dynamic",
    "normalized_sqrt",
    "hybrid",
    "hybrid_scaled",
]
ClassificationName = Literal["bce", "cross_entropy", "focal", "quality_focal", "varifocal", "dice"]

_BOX_LOSSES: Mapping[str, Callable[[], BoxLoss]] = {
    **{name: partial(SimilarityLoss, name) for name in get_args(SimilarityName)},
    "wise_iou_v2": WiseIoUV2Loss,
    "wise_iou_v3": WiseIoUV3Loss,
    "smooth_l1": SmoothL1Loss,
    "inverse_sqrt": InverseSqrtLoss,
    "focal_log": FocalLogLoss,
    "dynamic": DynamicLoss,
    "normalized_sqrt": NormalizedSqrtLoss,
    "hybrid": HybridLoss,
    "hybrid_scaled": partial(HybridLoss, gain=0.3 / 99),
}
_CLASSIFICATION_LOSSES: Mapping[str, Callable[[], ClassificationLoss]] = {
    "bce": BCELoss,
    "cross_entropy": CrossEntropyLoss,
    "focal": FocalLoss,
    "quality_focal": QualityFocalLoss,
    "varifocal": VarifocalLoss,
    "dice": DiceLoss,
}


def named_box_loss(name: BoxLossName) -> BoxLoss:
    """Build a box loss with its published constants.

    Args:
        name: of a box loss, or of a similarity, which stands for its plain loss.

    Returns:
        The loss, calibrated if it is size-aware.
    """
    return _BOX_LOSSES[name]()


def named_classification_loss(name: ClassificationName) -> ClassificationLoss:
    """Build a classification loss with its published constants."""
    return _CLASSIFICATION_LOSSES[name]()

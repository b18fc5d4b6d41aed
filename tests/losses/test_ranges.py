"""Parameters that would turn a gradient round, or make it no number, are refused."""

import math
from collections.abc import Callable
from functools import partial

import pytest

from losses.classification import FocalLoss, QualityFocalLoss, VarifocalLoss
from losses.detection import DetectionLoss
from losses.ranges import in_range
from losses.regression import SmoothL1Loss, WiseIoUV2Loss, WiseIoUV3Loss
from losses.size_aware import HybridLoss, InverseSqrtLoss
from losses.tunable import (
    NWD,
    AlphaIoU,
    CIoU,
    CIoUNWD,
    FocalerIoU,
    InnerIoU,
    MPDIoU,
    PIoU2,
    SDIoU,
    ShapeIoU,
    SIoU,
)


def test_bounds() -> None:
    assert in_range("x", 0, 0) == 0
    assert in_range("x", 1, 0, 1) == 1
    for value, options, message in (
        (-1, {}, "x is -1, but must be at least 0"),
        (0, {"above": True}, "x is 0, but must be above 0"),
        (2, {"high": 1}, "x is 2, but must be at least 0 and at most 1"),
        (math.nan, {}, "x is nan, but must be at least 0"),
        (math.inf, {}, "x is inf, but must be at least 0"),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            in_range("x", value, 0, **options)


@pytest.mark.parametrize(
    "wrong",
    [
        partial(AlphaIoU, -1),
        partial(InnerIoU, 0),
        partial(FocalerIoU, 0.95, 0),
        partial(FocalerIoU, 0.5, 0.5),
        partial(CIoU, 2),
        partial(SIoU, 0.5),
        partial(MPDIoU, 0, 0),
        partial(ShapeIoU, 50),
        partial(PIoU2, -1),
        partial(SDIoU, 2),
        partial(NWD, 0),
        partial(NWD, -12.8),
        partial(CIoUNWD, 1.5),
        partial(CIoUNWD, 0.5, 0),
        partial(SmoothL1Loss, unit=0),
        partial(WiseIoUV2Loss, -1),
        partial(WiseIoUV3Loss, delta=0),
        partial(WiseIoUV3Loss, half_life=0),
        partial(InverseSqrtLoss, gain=-1),
        partial(HybridLoss, gain=0),
        partial(FocalLoss, 1.5),
        partial(QualityFocalLoss, 0),
        partial(VarifocalLoss, gamma=-1),
        partial(DetectionLoss, gain_box=-7.5),
        partial(DetectionLoss, gain_cls=math.nan),
    ],
)
def test_parameters_out_of_their_ranges(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="but must be"):
        wrong()

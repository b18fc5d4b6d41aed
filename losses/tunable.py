"""Similarities by name, with the constants of their papers, or as objects with constants of one's own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from losses import gaussian, similarity
from losses.ranges import in_range


class Similarity(ABC):
    """A similarity together with its parameters; one out of its range raises a ValueError."""

    @abstractmethod
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare predictions `a` with targets `b`, both (..., 4) xyxy pixels; returns (...,)."""


@dataclass(frozen=True)
class AlphaIoU(Similarity):
    """Power of the IoU; see `similarity.alpha_iou`.

    Args:
        alpha: exponent > 0.
    """

    alpha: float = 3.0

    def __post_init__(self) -> None:
        """Check the range."""
        in_range("alpha", self.alpha, 0, above=True)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare boxes; see `similarity.alpha_iou`."""
        return similarity.alpha_iou(a, b, self.alpha)


@dataclass(frozen=True)
class InnerIoU(Similarity):
    """IoU of auxiliary boxes; see `similarity.inner_iou`.

    Args:
        ratio: side of the auxiliary boxes over that of the boxes.
    """

    ratio: float = 1.25

    def __post_init__(self) -> None:
        """Check the range."""
        in_range("ratio", self.ratio, 0, above=True)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare boxes; see `similarity.inner_iou`."""
        return similarity.inner_iou(a, b, self.ratio)


@dataclass(frozen=True)
class FocalerIoU(Similarity):
    """IoU stretched from an interval; see `similarity.focaler_iou`.

    Args:
        low: the IoU that becomes 0.
        high: the IoU that becomes 1.
    """

    low: float = 0.0
    high: float = 0.95

    def __post_init__(self) -> None:
        """Check the range."""
        in_range("low", self.low, 0, 1)
        in_range("high", self.high, self.low, 1, above=True)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare boxes; see `similarity.focaler_iou`."""
        return similarity.focaler_iou(a, b, self.low, self.high)


@dataclass(frozen=True)
class CIoU(Similarity):
    """Complete IoU; see `similarity.ciou`.

    Args:
        gate: IoU below which the aspect ratio does not count; 0.5 in the journal version.
    """

    gate: float = 0.0

    def __post_init__(self) -> None:
        """Check the range."""
        in_range("gate", self.gate, 0, 1)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare boxes; see `similarity.ciou`."""
        return similarity.ciou(a, b, self.gate)


@dataclass(frozen=True)
class SIoU(Similarity):
    """SCYLLA IoU; see `similarity.siou`.

    Args:
        theta: exponent of the shape cost, 2 to 6; at least 1, or boxes of the right shape have no gradient.
    """

    theta: float = 4.0

    def __post_init__(self) -> None:
        """Check the range."""
        in_range("theta", self.theta, 1)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare boxes; see `similarity.siou`."""
        return similarity.siou(a, b, self.theta)


@dataclass(frozen=True)
class MPDIoU(Similarity):
    """Minimum point distance IoU; see `similarity.mpdiou`.

    Args:
        width: of the input image in pixels.
        height: of the input image in pixels.
    """

    width: float = 640.0
    height: float = 640.0

    def __post_init__(self) -> None:
        """Check the range."""
        in_range("width", self.width, 0, above=True)
        in_range("height", self.height, 0, above=True)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare boxes; see `similarity.mpdiou`."""
        return similarity.mpdiou(a, b, self.width, self.height)


@dataclass(frozen=True)
class ShapeIoU(Similarity):
    """Shape-IoU; see `similarity.shape_iou`.

    Args:
        scale: influence of the target's shape, 0 to 1.5.
    """

    scale: float = 0.0

    def __post_init__(self) -> None:
        """Check the range."""
        in_range("scale", self.scale, 0, 8)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare boxes; see `similarity.shape_iou`."""
        return similarity.shape_iou(a, b, self.scale)


@dataclass(frozen=True)
class PIoU2(Similarity):
    """Powerful IoU v2; see `similarity.piou2`.

    Args:
        attention: lambda of the attention factor.
    """

    attention: float = 1.3

    def __post_init__(self) -> None:
        """Check the range."""
        in_range("attention", self.attention, 0, above=True)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare boxes; see `similarity.piou2`."""
        return similarity.piou2(a, b, self.attention)


@dataclass(frozen=True)
class SDIoU(Similarity):
    """Scale-based dynamic IoU; see `similarity.sdiou`.

    Args:
        delta: strength of the change in [0, 1].
        largest: target area in pixels squared from which there is none.
    """

    delta: float = 0.5
    largest: float = 81.0

    def __post_init__(self) -> None:
        """Check the range."""
        in_range("delta", self.delta, 0, 1)
        in_range("largest", self.largest, 0, above=True)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare boxes; see `similarity.sdiou`."""
        return similarity.sdiou(a, b, self.delta, self.largest)


@dataclass(frozen=True)
class NWD(Similarity):
    """Normalised Wasserstein distance; see `gaussian.nwd`.

    Args:
        constant: C in pixels, about the mean object side of the data set.
    """

    constant: float = 12.8

    def __post_init__(self) -> None:
        """Check the range."""
        in_range("constant", self.constant, 0, above=True)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare boxes; see `gaussian.nwd`."""
        return gaussian.nwd(a, b, self.constant)


@dataclass(frozen=True)
class CIoUNWD(Similarity):
    """Mix of CIoU and NWD; see `gaussian.ciou_nwd`.

    Args:
        ratio: share of NWD in [0, 1].
        constant: C of NWD in pixels.
    """

    ratio: float = 0.5
    constant: float = 12.8

    def __post_init__(self) -> None:
        """Check the range."""
        in_range("ratio", self.ratio, 0, 1)
        in_range("constant", self.constant, 0, above=True)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Compare boxes; see `gaussian.ciou_nwd`."""
        return gaussian.ciou_nwd(a, b, self.ratio, self.constant)


SimilarityName = Literal[
    "iou",
    "dice",
    "alpha_iou",
    "inner_iou",
    "focaler_iou",
    "giou",
    "diou",
    "ciou",
    "eiou",
    "siou",
    "mpdiou",
    "shape_iou",
    "wise_iou",
    "piou",
    "piou2",
    "sdiou",
    "nwd",
    "gcd",
    "kld",
    "ciou_nwd",
]

_FUNCTIONS = vars(similarity) | vars(gaussian)
_BY_NAME: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    name: _FUNCTIONS[name] for name in get_args(SimilarityName)
}


def resolve(choice: SimilarityName | Similarity) -> Callable[[Tensor, Tensor], Tensor]:
    """Turn the name of a similarity into its function, with the constants of its paper.

    Args:
        choice: a name, or an object, which is returned as it is.

    Returns:
        A function of two broadcasting (..., 4) xyxy boxes.
    """
    return choice if isinstance(choice, Similarity) else _BY_NAME[choice]

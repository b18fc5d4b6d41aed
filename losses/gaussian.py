"""Similarities of boxes seen as Gaussians, which have a gradient at any distance; see `losses.similarity`."""

import torch
from torch import Tensor

from losses.boxes import centre, size
from losses.similarity import EPS, ROOT_EPS, ciou


def nwd(a: Tensor, b: Tensor, constant: float = 12.8) -> Tensor:
    """Normalised Wasserstein distance: exp(-sqrt(dx^2 + dy^2 + (dw^2 + dh^2) / 4) / C).

    The boxes are Gaussians of standard deviations w/2 and h/2. Scale: not invariant, a shift by one pixel
    costs the same at any size; the gradient does not grow for small objects as IoU's does, and fades for
    errors above C. Small objects: made for them; the paper reports +6.7 AP on AI-TOD (Faster R-CNN;
    assignment, NMS and loss together), less as a loss alone.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.
        constant: C in pixels, about the mean object side of the data set (12.8 for AI-TOD).

    Returns:
        (...,) in (0, 1].

    Source: Wang et al. 2021, A Normalized Gaussian Wasserstein Distance for Tiny Object Detection.
    """
    shift, growth = centre(a) - centre(b), size(a) - size(b)
    distance = shift.square().sum(-1) + growth.square().sum(-1) / 4
    return torch.exp(-torch.sqrt(distance + ROOT_EPS) / constant)


def gcd(a: Tensor, b: Tensor) -> Tensor:
    """Gaussian combined distance: exp(-sqrt(D)), D = the mean of the two one-sided squared distances.

    D = 1/2 [dx^2/w^2 + dy^2/h^2 + dx^2/W^2 + dy^2/H^2 + 1/4 (dw^2/W^2 + dh^2/H^2 + dw^2/w^2 + dh^2/h^2)].
    Scale: invariant. Small objects: the paper reports gains over NWD on AI-TOD-v2 and VisDrone. Of the public
    code's modes only this one, exp, has the right sign.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.

    Returns:
        (...,) in (0, 1].

    Source: Guan et al. 2025, Gaussian Combined Distance.
    """
    shift, growth = centre(a) - centre(b), size(a) - size(b)
    squared = shift.square() + growth.square() / 4
    distance = (squared / size(a, EPS).square() + squared / size(b, EPS).square()).sum(-1) / 2
    return torch.exp(-torch.sqrt(distance + ROOT_EPS))


def kld(a: Tensor, b: Tensor) -> Tensor:
    """Kullback-Leibler divergence D(a || b) of the Gaussians: 1 / (1 + ln(1 + D)).

    D = 1/2 [w^2/W^2 + h^2/H^2 + 4 dx^2/W^2 + 4 dy^2/H^2 + ln(W^2/w^2) + ln(H^2/h^2)] - 1.
    Scale: invariant. Not symmetric. Small objects: used for the assignment of tiny objects (RFLA, 2022).

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.

    Returns:
        (...,) in (0, 1].

    Source: Yang et al. 2021, Learning High-Precision Bounding Box via Kullback-Leibler Divergence, tau = 1.
    """
    ratio = (size(a, EPS) / size(b, EPS)).square()
    shift = ((centre(a) - centre(b)) / size(b, EPS)).square()
    divergence = (ratio - 1 - ratio.log() + 4 * shift).sum(-1) / 2
    return 1 / (1 + divergence.clamp(min=0).log1p())


def ciou_nwd(a: Tensor, b: Tensor, ratio: float = 0.5, constant: float = 12.8) -> Tensor:
    """Mix of CIoU and NWD: (1 - ratio) CIoU + ratio NWD.

    Scale: not invariant, see `nwd`. Small objects: a widespread habit without a paper of its own; CIoU keeps
    the large objects, NWD reaches small ones that do not overlap yet.

    Args:
        a: (..., 4) xyxy pixels.
        b: (..., 4) xyxy pixels.
        ratio: share of NWD in [0, 1].
        constant: C of NWD in pixels.

    Returns:
        (...,) in (-1.5, 1].

    Source: none; NWD as in `nwd`.
    """
    return (1 - ratio) * ciou(a, b) + ratio * nwd(a, b, constant)

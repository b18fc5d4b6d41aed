"""What the detector needs of a network, whichever it is."""

import copy
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from detector.networks.head import Predictions


class DetectionNetwork(nn.Module, ABC):
    """Images to predictions. Its direct submodules, `backbone` first, are the optimizer's parameter groups.

    Attributes:
        in_channels: channels of the images.
        strides: pyramid levels, pixels, ascending.
        fill: grey level, 0 to 255, of the canvas around the images that its weights were made for.
    """

    strides: tuple[int, ...]
    fill: ClassVar[int] = 127
    backbone: nn.Module
    in_channels: int

    @abstractmethod
    def forward(self, images: Tensor) -> Predictions:
        """(B, channels, H, W) float images in [0, 1] to predictions in pixels of these images."""


def match_channels(images: Tensor, wanted: int) -> Tensor:
    """Images (B, channels, H, W) with as many channels as wanted; one is the mean of three.

    Raises:
        ValueError: they have others.
    """
    given = images.shape[1]
    if wanted == 1 and given == 3:
        return images.mean(dim=1, keepdim=True)
    if given != wanted:
        raise ValueError(
            f"the images have {given} channels, the network takes {wanted}: use "
            f"--model.network.in_channels={given}"
        )
    return images


def count(network: DetectionNetwork, image_size: tuple[int, int]) -> tuple[int, int]:
    """Parameters of a network, and multiply-accumulates of one image.

    Args:
        network: counted as it is, branches for training among its parameters; see `fusion.fuse`.
        image_size: (height, width), pixels.
    """
    counted = copy.deepcopy(network).eval()  # a copy, as parts of a network may be frozen in evaluation
    image = next(network.parameters()).new_zeros((1, network.in_channels, *image_size))
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        counted(image)
    return sum(p.numel() for p in network.parameters()), flops.get_total_flops() // 2

"""The whole network on any timm backbone: backbone, neck, head."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from datamodules.limits import require_between
from detector.networks.backbone import Backbone
from detector.networks.base import DetectionNetwork
from detector.networks.head import Head, Predictions
from detector.networks.neck import PAN

FEW = 8
"""Channels from which on the gradient of a 1x1 convolution with a stride is right in channels_last."""


@final
class Network(DetectionNetwork):
    """Images to predictions with any timm backbone.

    Args:
        num_classes: number of classes; comes from the data.
        image_size: (height, width) of the input in pixels, for the class prior; comes from the data.
        backbone: name of a timm model with a feature pyramid.
        pretrained: true for timm's ImageNet weights, or a local file of them.
        strides: pyramid levels, ascending; add 4 for objects of a few pixels.
        channels: channels of neck and head.
        neck_depth: residual units in each fusion block of the neck.
        reg_max: largest distance from a point to a side of its box, in strides.
        expected_objects: objects that an image holds on average; sets where class scores start.
        in_channels: channels of the images; 1 takes the mean of RGB images.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int] = (640, 640),
        backbone: str = "mobilenetv4_conv_small",
        pretrained: bool | Path = False,
        strides: Sequence[int] = (8, 16, 32),
        channels: int = 64,
        neck_depth: int = 1,
        reg_max: int = 13,
        expected_objects: float = 16,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        for name, value, low, high in (
            ("channels", channels, 8, 2048),
            ("neck_depth", neck_depth, 0, 32),
            ("reg_max", reg_max, 1, 64),
            ("in_channels", in_channels, 1, 64),
            ("the number of strides", len(strides), 1, 6),
            ("expected_objects", expected_objects, 1e-6, 1e6),
        ):
            require_between(f"model.network: {name}", value, low, high)
        if list(strides) != sorted(set(strides)):
            raise ValueError(f"model.network: strides must ascend, got {', '.join(map(str, strides))}")
        self.in_channels = in_channels
        self.strides = tuple(strides)
        self.backbone = Backbone(backbone, strides, pretrained, in_channels, image_size)
        self.neck = PAN(self.backbone.channels, channels, neck_depth)
        self.head = Head(channels, strides, num_classes, channels, reg_max)
        self.head.initialise(image_size, expected_objects)
        self.register_buffer("mean", torch.tensor(self.backbone.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(self.backbone.std)[:, None, None])
        # Convolutions run up to a third faster on this layout, on CPUs and in half precision on GPUs.
        self.layout = torch.contiguous_format if any(map(_breaks, self.modules())) else torch.channels_last
        self.to(memory_format=self.layout)

    def forward(self, images: Tensor) -> Predictions:
        """(B, in_channels, H, W) float images in [0, 1] to predictions in pixels of these images."""
        # Images come in float32; the weights may be of another precision.
        images = images.to(self.mean.dtype, memory_format=self.layout)
        mean, std = (_along_a_row(values, images.shape[3]) for values in (self.mean, self.std))
        normalised = (images - mean).div_(std)
        predictions: Predictions = self.head(self.neck(self.backbone(normalised)))
        return predictions


def _breaks(module: nn.Module) -> bool:
    """Whether torch's gradient of a convolution writes beyond its memory in channels_last (2.14, CPU)."""
    if not isinstance(module, nn.Conv2d) or module.groups > 1:
        return False
    return module.in_channels < FEW and module.kernel_size == (1, 1) and max(module.stride) > 1


def _along_a_row(values: Tensor, width: int) -> Tensor:
    """Values (C, 1, 1) as (C, 1, width), laid out as a row of channels_last images is.

    So a whole row is computed at once, not C numbers: the same arithmetic in a quarter of the time.
    """
    return values.permute(1, 2, 0).expand(1, width, -1).contiguous().permute(2, 0, 1)

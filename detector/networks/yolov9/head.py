"""YOLOv9's anchor-free head, with the branches by stride of their level."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from detector.networks.head import Predictions, predict, start_plausibly
from detector.networks.layers import separable_conv
from detector.networks.yolov9.blocks import Conv

BINS = 16
"""Distances 0 to 15 strides; unlike those of `detector.networks.head.Head` none is below zero."""

GROUPS = 4


class YOLOv9Head(nn.Module):
    """Decoupled head: a class branch and a distance branch on every level.

    At stride 4 the branches are depthwise separable: dense ones would cost as much as all the rest, and there
    are no public weights to keep.

    Args:
        channels: channels of the map at each stride, by ascending stride.
        num_classes: C.
        class_width: channels within the class branches.
    """

    bins: Tensor

    def __init__(self, channels: Mapping[int, int], num_classes: int, class_width: int) -> None:
        super().__init__()
        self.strides = tuple(channels)
        self.register_buffer("bins", torch.arange(float(BINS)), persistent=False)
        # A quarter of the first of the dense levels' channels, but room for four distributions.
        width = max(channels.get(8, 0) // 4, 4 * BINS)
        all_classes, all_distances = {}, {}
        for stride, c in channels.items():
            if stride == 4:
                classes = separable_conv(c, class_width), separable_conv(class_width, class_width)
                distances = separable_conv(c, width), separable_conv(width, width)
            else:
                classes = Conv(c, class_width, 3), Conv(class_width, class_width, 3)
                distances = Conv(c, width, 3), Conv(width, width, 3, groups=GROUPS)
            all_classes[str(stride)] = nn.Sequential(*classes, nn.Conv2d(class_width, num_classes, 1))
            last = nn.Conv2d(width, 4 * BINS, 1, groups=GROUPS)
            all_distances[str(stride)] = nn.Sequential(*distances, last)
        self.classes: Mapping[str, nn.Sequential] = nn.ModuleDict(all_classes)  # type: ignore[assignment]
        self.distances: Mapping[str, nn.Sequential] = nn.ModuleDict(all_distances)  # type: ignore[assignment]

    def initialise(self, image_size: tuple[int, int], expected_objects: float) -> None:
        """Start from plausible outputs, see `start_plausibly`."""
        start_plausibly(
            self.classes.values(),
            self.distances.values(),
            self.bins,
            self.strides,
            image_size,
            expected_objects,
        )

    def forward(self, maps: Sequence[Tensor]) -> Predictions:
        """One (B, channels, H, W) map a level, finest first, to the predictions of the batch."""
        logits = [branch(x) for branch, x in zip(self.classes.values(), maps, strict=True)]
        distances = [branch(x) for branch, x in zip(self.distances.values(), maps, strict=True)]
        return predict(logits, distances, self.strides, self.bins)

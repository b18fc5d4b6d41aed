"""The whole network: backbone, neck, head, and the auxiliary branch that only training has."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from detector.networks.base import DetectionNetwork
from detector.networks.head import Predictions
from detector.networks.yolov9.auxiliary import RoutedAuxiliary, TopDownAuxiliary
from detector.networks.yolov9.head import YOLOv9Head
from detector.networks.yolov9.pyramid import Backbone, Neck
from detector.networks.yolov9.sizes import SizeName, size_named

STRIDES = (4, 8, 16, 32)


class YOLOv9(DetectionNetwork):
    """YOLOv9 in the sizes t, s, m and c, for which there are public COCO weights (`--model.init_from=coco`).

    Images are neither shifted nor scaled: mean 0, standard deviation 1.

    Args:
        num_classes: number of classes; comes from the data.
        image_size: (height, width) of the input in pixels, for the class prior; comes from the data.
        size: t, s, m or c, with 3.9, 13.2, 38 or 51 GMACs at 640 x 640 pixels.
        strides: pyramid levels, neighbours among 4, 8, 16, 32; add 4 for objects of a few pixels.
        expected_objects: objects that an image holds on average; sets where class scores start.
        auxiliary: train with the auxiliary branch, which costs about as much again and is left out of
            evaluation and export.
        in_channels: channels of the images; 1 takes the mean of RGB images.

    Raises:
        ValueError: if there is no such size, or the strides are no neighbours.

    Source: Wang, Yeh and Liao 2024, YOLOv9; structure of the weights that MultimediaTechLab/YOLO publishes.
    """

    fill: ClassVar[int] = 114

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int] = (640, 640),
        size: SizeName = "s",
        strides: Sequence[int] = (8, 16, 32),
        expected_objects: float = 16,
        auxiliary: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        strides = tuple(strides)
        first = STRIDES.index(strides[0]) if strides and strides[0] in STRIDES else len(STRIDES)
        if not strides or strides != STRIDES[first : first + len(strides)]:
            raise ValueError(
                f"--model.network.strides of YOLOv9 must be neighbours among {list(STRIDES)}, for example "
                f"[4,8,16,32], got {list(strides)}"
            )
        self.strides, self.size = strides, size
        widths = size_named(size)
        self.backbone = Backbone(widths, in_channels)
        self.neck = Neck(widths, strides)
        channels = {stride: widths.fused[stride] for stride in strides}
        self.head = YOLOv9Head(channels, num_classes, widths.class_width)
        self.head.initialise(image_size, expected_objects)
        self.auxiliary = None
        if auxiliary:
            branch = RoutedAuxiliary if size in ("m", "c") else TopDownAuxiliary
            self.auxiliary = branch(widths, num_classes, in_channels)
            self.auxiliary.head.initialise(image_size, expected_objects)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Predictions:
        """(B, in_channels, H, W) float images in [0, 1] to predictions in pixels of these images."""
        # Images come in float32; the weights may be of another precision.
        images = images.to(next(self.parameters()).dtype).contiguous(memory_format=torch.channels_last)
        maps = self.backbone(images)
        predictions: Predictions = self.head(self.neck(maps))
        if self.auxiliary is not None and self.training:
            predictions = replace(predictions, auxiliary=self.auxiliary(images, maps))
        return predictions

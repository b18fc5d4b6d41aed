"""The auxiliary branches: a second opinion in training, which teaches the backbone and is then left out.

Their heads stand on strides 8, 16 and 32, whatever the levels of the network itself.
Source: Wang, Yeh and Liao 2024, YOLOv9, section 4.1 (programmable gradient information).
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import interpolate

from detector.networks.head import Predictions
from detector.networks.yolov9.head import YOLOv9Head
from detector.networks.yolov9.pyramid import Backbone, TopDown
from detector.networks.yolov9.sizes import Size

LEVELS = (8, 16, 32)


class TopDownAuxiliary(nn.Module):
    """Sizes t and s: a second top-down path from the backbone's maps.

    Args:
        size: widths and depths.
        num_classes: C.
        in_channels: channels of the images, which this branch does not see.
    """

    def __init__(self, size: Size, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.top_down = TopDown(size, finest=LEVELS[0])
        channels = {stride: size.fused[stride] for stride in LEVELS}
        self.head = YOLOv9Head(channels, num_classes, size.class_width)

    def forward(self, images: Tensor, maps: Mapping[int, Tensor]) -> Predictions:
        """Backbone's maps by stride to predictions."""
        fused = self.top_down(maps)
        predictions: Predictions = self.head([fused[stride] for stride in LEVELS])
        return predictions


class RoutedAuxiliary(nn.Module):
    """Sizes m and c: a second backbone, to which the first one's maps are added (CBLinear and CBFuse).

    Args:
        size: widths and depths.
        num_classes: C.
        in_channels: channels of the images.
    """

    def __init__(self, size: Size, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        # The map of a stride gives something to every stage up to its own.
        self.widths = {stride: [size.shrunk[s] for s in LEVELS if s <= stride] for stride in LEVELS}
        self.routes = nn.ModuleDict(
            {
                str(stride): nn.Conv2d(size.stages[stride], sum(widths), 1)
                for stride, widths in self.widths.items()
            }
        )
        self.backbone = Backbone(size, in_channels)
        channels = {stride: size.stages[stride] for stride in LEVELS}
        self.head = YOLOv9Head(channels, num_classes, max(size.class_width, channels[LEVELS[0]]))

    def forward(self, images: Tensor, maps: Mapping[int, Tensor]) -> Predictions:
        """Images (B, in_channels, H, W) and the first backbone's maps by stride to predictions."""
        added: dict[int, Tensor] = {}
        for name, route in self.routes.items():
            parts = route(maps[int(name)]).split(self.widths[int(name)], dim=1)
            for stride, part in zip(LEVELS, parts, strict=False):
                part = interpolate(part, size=maps[stride].shape[-2:])
                added[stride] = added[stride] + part if stride in added else part
        second = self.backbone(images, added)
        predictions: Predictions = self.head([second[stride] for stride in LEVELS])
        return predictions

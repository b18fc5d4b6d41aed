"""Backbone and neck. Maps and blocks go by their stride in pixels."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from detector.networks.yolov9.blocks import SPPELAN, AConv, ADown, Conv, RepNCSPELAN
from detector.networks.yolov9.sizes import Size


class Backbone(nn.Module):
    """GELAN: a map at each of the strides 4, 8, 16 and 32.

    Args:
        size: widths and depths.
        in_channels: channels of the images.
    """

    def __init__(self, size: Size, in_channels: int = 3) -> None:
        super().__init__()
        first, second = size.stem
        self.stem = Conv(in_channels, first, 3, stride=2)
        self.downs = nn.ModuleDict({"4": Conv(first, second, 3, stride=2)})
        self.stages = nn.ModuleDict()
        channels = second
        for stride, out in size.stages.items():
            if stride > 4:
                self.downs[str(stride)] = _down(size, channels, size.shrunk[stride])
                channels = size.shrunk[stride]
            depth = 0 if stride == 4 and size.elan_first else size.depth
            self.stages[str(stride)] = RepNCSPELAN(channels, out, size.parts[stride], depth)
            channels = out

    def forward(self, images: Tensor, added: Mapping[int, Tensor] | None = None) -> dict[int, Tensor]:
        """Maps of images.

        Args:
            images: (B, in_channels, H, W).
            added: (B, channels, H/stride, W/stride) by stride, to be added to what enters the stage there.
        """
        x, maps = self.stem(images), {}
        for name, stage in self.stages.items():
            stride = int(name)
            x = self.downs[name](x)
            if added and stride in added:
                x = x + added[stride]
            maps[stride] = x = stage(x)
        return maps


class TopDown(nn.Module):
    """Context from the coarsest map of the backbone down to a finer one.

    Args:
        size: widths and depths.
        finest: stride of the finest map.
    """

    def __init__(self, size: Size, finest: int) -> None:
        super().__init__()
        self.spp = SPPELAN(size.stages[32], size.fused[32])
        self.blocks = nn.ModuleDict()
        channels = size.fused[32]
        for stride in (stride for stride in (16, 8, 4) if stride >= finest):
            out = size.fused[stride]
            # The finest block is as deep as the others even where the backbone's stage is an ELAN.
            self.blocks[str(stride)] = RepNCSPELAN(channels + size.stages[stride], out, out, size.depth)
            channels = out

    def forward(self, maps: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Backbone's maps to one fused map a stride, from 32 down."""
        x = self.spp(maps[32])
        fused = {32: x}
        for name, block in self.blocks.items():
            lateral = maps[int(name)]
            x = block(torch.cat((interpolate(x, size=lateral.shape[-2:]), lateral), dim=1))
            fused[int(name)] = x
        return fused


class Neck(nn.Module):
    """Path aggregation: context down to the finest level, then detail up to the coarsest.

    Args:
        size: widths and depths.
        strides: levels, ascending.
    """

    def __init__(self, size: Size, strides: Sequence[int]) -> None:
        super().__init__()
        self.finest = strides[0]
        self.top_down = TopDown(size, self.finest)
        self.downs, self.bottom_up = nn.ModuleDict(), nn.ModuleDict()
        channels = size.fused[self.finest]
        for stride in strides[1:]:
            out, lifted = size.fused[stride], size.lifted[stride]
            self.downs[str(stride)] = _down(size, channels, lifted)
            self.bottom_up[str(stride)] = RepNCSPELAN(lifted + out, out, out, size.depth)
            channels = out

    def forward(self, maps: Mapping[int, Tensor]) -> list[Tensor]:
        """Backbone's maps by stride to one (B, channels, H/stride, W/stride) map a level, finest first."""
        fused = self.top_down(maps)
        levels = [fused[self.finest]]
        for name, block in self.bottom_up.items():
            levels.append(block(torch.cat((self.downs[name](levels[-1]), fused[int(name)]), dim=1)))
        return levels


def _down(size: Size, in_channels: int, out_channels: int) -> nn.Module:
    return (ADown if size.adown else AConv)(in_channels, out_channels)

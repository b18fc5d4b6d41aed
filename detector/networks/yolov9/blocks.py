"""Building blocks of YOLOv9, under the names that its public weights have.

All maps are (B, channels, H, W). Strided blocks halve H and W.
Source: Wang, Yeh and Liao 2024, YOLOv9, section 4.2 (GELAN); Ding et al. 2021, RepVGG (RepConv).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, silu

from detector.networks.layers import BatchNorm


class Conv(nn.Sequential):
    """Convolution, batch norm and SiLU, padded by half the kernel.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the kernel.
        stride: step of the kernel.
        groups: groups of channels that see each other.
        activation: whether SiLU follows.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False
        )
        self.bn = BatchNorm(out_channels)
        self.act = nn.SiLU() if activation else nn.Identity()


class RepConv(nn.Module):
    """A 3x3 and a 1x1 convolution side by side, which `fusion.fuse` makes one 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels, 3, activation=False)
        self.conv2 = Conv(channels, channels, 1, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W), as the input."""
        return silu(self.conv1(x) + self.conv2(x))


class Bottleneck(nn.Module):
    """RepConv, then a 3x3 convolution, with a residual around both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = RepConv(channels)
        self.conv2 = Conv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W), as the input."""
        residual: Tensor = self.conv2(self.conv1(x))
        return x + residual


class RepNCSP(nn.Module):
    """Cross-stage partial block: half of the channels pass `depth` bottlenecks, half go around."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = Conv(channels, half)
        self.conv2 = Conv(channels, half)
        self.conv3 = Conv(2 * half, channels)
        self.bottleneck = nn.Sequential(*(Bottleneck(half) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W), as the input."""
        merged: Tensor = self.conv3(torch.cat((self.bottleneck(self.conv1(x)), self.conv2(x)), dim=1))
        return merged


class RepNCSPELAN(nn.Module):
    """Two halves, and two further steps from the second half, all merged.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        part: channels of both halves together; each step has half of them.
        depth: bottlenecks in each step; 0 leaves a 3x3 convolution alone as the step (ELAN).
    """

    def __init__(self, in_channels: int, out_channels: int, part: int, depth: int) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels, part)
        self.conv2 = self._step(part // 2, depth)
        self.conv3 = self._step(part // 2, depth)
        self.conv4 = Conv(2 * part, out_channels)

    @staticmethod
    def _step(channels: int, depth: int) -> nn.Module:
        conv = Conv(channels, channels, 3)
        return nn.Sequential(RepNCSP(channels, depth), conv) if depth else conv

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        first, second = self.conv1(x).chunk(2, dim=1)
        third = self.conv2(second)
        merged: Tensor = self.conv4(torch.cat((first, second, third, self.conv3(third)), dim=1))
        return merged


class AConv(nn.Module):
    """Downsampling: the mean of every 2x2 window, then a strided 3x3 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv(in_channels, out_channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H // 2, W // 2)."""
        halved: Tensor = self.conv(avg_pool2d(x, 2, stride=1))
        return halved


class ADown(nn.Module):
    """Downsampling in two ways after the mean of every 2x2 window: strided convolution, largest value."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels // 2, out_channels // 2, 3, stride=2)
        self.conv2 = Conv(in_channels // 2, out_channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H // 2, W // 2)."""
        first, second = avg_pool2d(x, 2, stride=1).chunk(2, dim=1)
        return torch.cat((self.conv1(first), self.conv2(max_pool2d(second, 3, stride=2, padding=1))), dim=1)


class SPPELAN(nn.Module):
    """Spatial pyramid pooling: the largest value of ever wider windows beside the map itself."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels, out_channels // 2)
        self.conv5 = Conv(2 * out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        maps = [self.conv1(x)]
        for _ in range(3):
            maps.append(max_pool2d(maps[-1], 5, stride=1, padding=2))
        merged: Tensor = self.conv5(torch.cat(maps, dim=1))
        return merged

"""Convolution blocks that neck and head share."""

from functools import partial

from torch import Tensor, cat, nn
from torchvision.ops import Conv2dNormActivation

# Batches are small in detection: a slow running mean and a larger eps keep the statistics steady.
BatchNorm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03)


def conv(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Module:
    """Convolution, batch norm and SiLU; padded so that stride 1 keeps height and width.

    SiLU in place would save nothing: its gradient needs the input, so autograd copies that first.
    """
    block: nn.Module = Conv2dNormActivation(
        in_channels,
        out_channels,
        kernel,
        stride,
        groups=groups,
        norm_layer=BatchNorm,
        activation_layer=nn.SiLU,
        inplace=False,
    )
    return block


def separable_conv(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Module:
    """Depthwise convolution followed by a pointwise one, each with batch norm and SiLU."""
    return nn.Sequential(
        conv(in_channels, in_channels, kernel, groups=in_channels), conv(in_channels, out_channels)
    )


class CSPBlock(nn.Module):
    """Cross-stage partial block: half of the channels pass residual 3x3 convolutions, half go around.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, even.
        depth: number of residual units.

    Source: Wang et al. 2020, CSPNet.
    """

    def __init__(self, in_channels: int, out_channels: int, depth: int = 1) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.around = conv(in_channels, hidden)
        self.into = conv(in_channels, hidden)
        self.units = nn.ModuleList(
            nn.Sequential(conv(hidden, hidden, 3), conv(hidden, hidden, 3)) for _ in range(depth)
        )
        self.out = conv((2 + depth) * hidden, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        parts = [self.around(x), self.into(x)]
        for unit in self.units:
            parts.append(parts[-1] + unit(parts[-1]))
        merged: Tensor = self.out(cat(parts, dim=1))
        return merged

"""Path aggregation neck: carries context down to the fine levels and detail up to the coarse ones."""

from collections.abc import Sequence

from torch import Tensor, cat, nn
from torch.compiler import is_exporting
from torch.nn.functional import interpolate, pad

from detector.networks.layers import CSPBlock, conv


class PAN(nn.Module):
    """Top-down, then bottom-up fusion of a feature pyramid.

    Args:
        in_channels: channels of each input map, finest level first.
        channels: channels of every output map.
        depth: residual units of each fusion block.

    Source: Liu et al. 2018, Path Aggregation Network, with CSP blocks as fusion.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, depth: int = 1) -> None:
        super().__init__()
        steps = len(in_channels) - 1
        self.lateral = nn.ModuleList(conv(c, channels) for c in in_channels)
        self.top_down = nn.ModuleList(CSPBlock(2 * channels, channels, depth) for _ in range(steps))
        self.downsample = nn.ModuleList(conv(channels, channels, 3, stride=2) for _ in range(steps))
        self.bottom_up = nn.ModuleList(CSPBlock(2 * channels, channels, depth) for _ in range(steps))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One (B, in_channels, H, W) map per level to one (B, channels, H, W) map per level, finest first."""
        fused = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for level in reversed(range(len(self.top_down))):
            context = interpolate(fused[level + 1], size=fused[level].shape[-2:])
            fused[level] = self.top_down[level](cat((fused[level], context), dim=1))
        for level, (downsample, block) in enumerate(zip(self.downsample, self.bottom_up, strict=True)):
            detail, (height, width) = downsample(fused[level]), fused[level + 1].shape[-2:]
            # Some backbones round the halves of odd sides down. An export would decide it at a size for all.
            if is_exporting() or detail.shape[-2:] != (height, width):
                detail = pad(detail, (0, width - detail.shape[-1], 0, height - detail.shape[-2]))
            fused[level + 1] = block(cat((detail, fused[level + 1]), dim=1))
        return fused

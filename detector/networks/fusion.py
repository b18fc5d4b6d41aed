"""Convolution, norm and parallel branches folded into single convolutions, for evaluation and export."""

import copy
from typing import TypeVar

from torch import nn
from torch.nn.functional import pad
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import Conv2dNormActivation

from detector.networks.yolov9.blocks import Conv, RepConv

M = TypeVar("M", bound=nn.Module)


def fuse(network: M) -> M:
    """A copy that predicts the same, up to rounding, with fewer layers; it cannot be trained.

    Folded are the norms of our own blocks and of YOLOv9's, and its RepConv; a timm backbone stays as it is.
    """
    fused = copy.deepcopy(network).eval()
    for name, module in list(fused.named_modules()):
        if isinstance(module, RepConv):
            fused.set_submodule(name, _one_convolution(module))
    for name, module in list(fused.named_modules()):
        if isinstance(module, Conv | Conv2dNormActivation):
            fused.set_submodule(name, _without_norm(module))
    return fused


def _without_norm(block: nn.Sequential) -> nn.Sequential:
    """Convolution, norm and activation without the norm."""
    conv, norm, *activation = block
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return nn.Sequential(fuse_conv_bn_eval(conv, norm), *activation)


def _one_convolution(block: RepConv) -> nn.Sequential:
    """A 3x3 convolution that sums a 3x3 and a 1x1 one: the latter's kernel is the middle of the former's."""
    wide, narrow = (fuse_conv_bn_eval(part.conv, part.bn) for part in (block.conv1, block.conv2))
    assert wide.bias is not None
    assert narrow.bias is not None
    wide.weight.data += pad(narrow.weight.data, (1, 1, 1, 1))
    wide.bias.data += narrow.bias.data
    return nn.Sequential(wide, nn.SiLU())

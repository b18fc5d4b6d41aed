"""Convolution, norm and parallel branches folded into single convolutions, for evaluation and export."""

import copy
from typing import Any, TypeVar

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detector.networks.base import DetectionNetwork
from detector.networks.yolov9.blocks import RepConv

N = TypeVar("N", bound=DetectionNetwork)

PROBE = 4
"""Sides of the image that is sent through to find the norms, in strides of the coarsest level."""

ROUNDING = 1e-3
"""Largest difference of a class logit of that image; a mistake makes more."""


def fuse(network: N) -> N:
    """A copy that predicts the same, up to rounding, with fewer layers; it cannot be trained.

    Folded are YOLOv9's RepConv, and all batch norms that take a convolution's output, a timm backbone's too.
    A backbone that uses such an output beside its norm, and so predicts something else, stays as it is.
    """
    fused = copy.deepcopy(network).eval()
    for name, module in list(fused.named_modules()):
        if isinstance(module, RepConv):
            fused.set_submodule(name, _one_convolution(module))
    pairs, expected = _pairs(fused)
    whole = _folded(fused, pairs)
    if (_logits(whole) - expected).abs().max() > ROUNDING:
        return _folded(fused, [pair for pair in pairs if not pair[0].startswith("backbone.")])
    return whole


def _pairs(network: DetectionNetwork) -> tuple[list[tuple[str, str]], Tensor]:
    """Names of convolutions and of the norms that take their output, as a pass shows them; and its logits."""
    made: dict[int, tuple[str, Tensor]] = {}
    found: dict[tuple[str, str], None] = {}
    hooks = []
    for name, module in network.named_modules():
        if type(module) is nn.Conv2d:

            def keep(module: nn.Module, inputs: Any, output: Tensor, name: str = name) -> None:  # noqa: ANN401
                made[id(output)] = name, output  # kept, so that no other tensor gets its id

            hooks.append(module.register_forward_hook(keep))
        elif type(module) in (nn.BatchNorm2d, BatchNormAct2d):

            def look(module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                if id(inputs[0]) in made:
                    found[made[id(inputs[0])][0], name] = None

            hooks.append(module.register_forward_pre_hook(look))
    logits = _logits(network)
    for hook in hooks:
        hook.remove()
    convs, norms = [conv for conv, _ in found], [norm for _, norm in found]
    # Not those that several levels share, each with a norm of its own.
    return [pair for pair in found if convs.count(pair[0]) == norms.count(pair[1]) == 1], logits


@torch.no_grad()
def _logits(network: DetectionNetwork) -> Tensor:
    """Class logits of an image of noise, always the same."""
    side, weight = PROBE * max(network.strides), next(network.parameters())
    noise = torch.rand(1, network.in_channels, side, side, generator=torch.Generator().manual_seed(0))
    logits: Tensor = network(noise.to(weight.device)).logits
    return logits.float()


def _folded(network: N, pairs: list[tuple[str, str]]) -> N:
    """A copy without these norms."""
    folded = copy.deepcopy(network)
    for conv_name, norm_name in pairs:
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        folded.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        rest = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
        folded.set_submodule(norm_name, rest)
    return folded


def _one_convolution(block: RepConv) -> nn.Sequential:
    """A 3x3 convolution that sums a 3x3 and a 1x1 one: the latter's kernel is the middle of the former's."""
    wide, narrow = (fuse_conv_bn_eval(part.conv, part.bn) for part in (block.conv1, block.conv2))
    assert wide.bias is not None
    assert narrow.bias is not None
    wide.weight.data += pad(narrow.weight.data, (1, 1, 1, 1))
    wide.bias.data += narrow.bias.data
    return nn.Sequential(wide, nn.SiLU())

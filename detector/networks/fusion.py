"""Convolution, norm, activation and parallel branches in single convolutions, for evaluation and export."""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detector.networks.base import DetectionNetwork
from detector.networks.norms import local
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
    fused = local(copy.deepcopy(network)).eval()
    for name, module in list(fused.named_modules()):
        if isinstance(module, RepConv):
            fused.set_submodule(name, _one_convolution(module))
    return _joined(fused, NORMS, _without_norm)


def activate(network: N) -> N:
    """A copy whose convolutions compute their activations too; it runs on CPUs alone, for inference.

    oneDNN then writes an activation's values while they are at hand, which saves a pass through memory. The
    operation is torch.compile's own and no public one: where there is none, the network stays as it is.
    """
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return network
    return _joined(network, tuple(ACTIVATIONS), _with_activation)


class Activated(nn.Module):
    """A convolution and its activation in one operation.

    Args:
        conv: of float32 weights.
        activation: one of `ACTIVATIONS`.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.name = conv, ACTIVATIONS[type(activation)]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) float32 to (B, out_channels, H', W')."""
        conv = self.conv
        shape = conv.padding, conv.stride, conv.dilation, conv.groups
        operation = torch.ops.mkldnn._convolution_pointwise
        result: Tensor = operation(x, conv.weight, conv.bias, *shape, self.name, [], "")
        return result


NORMS = (nn.BatchNorm2d, BatchNormAct2d)
ACTIVATIONS: dict[type[nn.Module], str] = {nn.SiLU: "swish", nn.ReLU: "relu"}
"""oneDNN's names."""

Join = Callable[[nn.Conv2d, nn.Module], tuple[nn.Module, nn.Module]]
"""A convolution and what takes its output, to what stands in the place of each."""


def _joined(network: N, followers: tuple[type[nn.Module], ...], join: Join) -> N:
    """A copy in which convolutions and what follows them are joined.

    In a backbone that predicts something else then, because it uses such an output twice, they are left.
    """
    pairs, expected = _pairs(network, followers)
    whole = _with_pairs(network, pairs, join)
    if (_logits(whole) - expected).abs().max() > ROUNDING:
        return _with_pairs(network, [pair for pair in pairs if not pair[0].startswith("backbone.")], join)
    return whole


def _pairs(
    network: DetectionNetwork, followers: tuple[type[nn.Module], ...]
) -> tuple[list[tuple[str, str]], Tensor]:
    """Names of convolutions and of the followers that take their output, as a pass shows them; its logits."""
    made: dict[int, tuple[str, Tensor]] = {}
    found: dict[tuple[str, str], None] = {}
    hooks = []
    for name, module in network.named_modules():
        if type(module) is nn.Conv2d:

            def keep(module: nn.Module, inputs: Any, output: Tensor, name: str = name) -> None:  # noqa: ANN401
                made[id(output)] = name, output  # kept, so that no other tensor gets its id

            hooks.append(module.register_forward_hook(keep))
        elif type(module) in followers:

            def look(module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                if id(inputs[0]) in made:
                    found[made[id(inputs[0])][0], name] = None

            hooks.append(module.register_forward_pre_hook(look))
    logits = _logits(network)
    for hook in hooks:
        hook.remove()
    convs, others = [conv for conv, _ in found], [other for _, other in found]
    # Not those that several levels share, each with a follower of its own.
    return [pair for pair in found if convs.count(pair[0]) == others.count(pair[1]) == 1], logits


@torch.no_grad()
def _logits(network: DetectionNetwork) -> Tensor:
    """Class logits of an image of noise, always the same."""
    side, weight = PROBE * max(network.strides), next(network.parameters())
    noise = torch.rand(1, network.in_channels, side, side, generator=torch.Generator().manual_seed(0))
    logits: Tensor = network(noise.to(weight.device)).logits
    return logits.float()


def _with_pairs(network: N, pairs: list[tuple[str, str]], join: Join) -> N:
    """A copy in which these pairs are joined."""
    joined = copy.deepcopy(network)
    for conv_name, other_name in pairs:
        conv, other = joined.get_submodule(conv_name), joined.get_submodule(other_name)
        assert isinstance(conv, nn.Conv2d)
        first, second = join(conv, other)
        joined.set_submodule(conv_name, first)
        joined.set_submodule(other_name, second)
    return joined


def _without_norm(conv: nn.Conv2d, norm: nn.Module) -> tuple[nn.Module, nn.Module]:
    assert isinstance(norm, nn.BatchNorm2d)
    # timm's norms have a dropout, which does nothing here, and an activation in them.
    rest = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
    return fuse_conv_bn_eval(conv, norm), rest


def _with_activation(conv: nn.Conv2d, activation: nn.Module) -> tuple[nn.Module, nn.Module]:
    return Activated(conv, activation), nn.Identity()


def _one_convolution(block: RepConv) -> nn.Sequential:
    """A 3x3 convolution that sums a 3x3 and a 1x1 one: the latter's kernel is the middle of the former's."""
    wide, narrow = (fuse_conv_bn_eval(part.conv, part.bn) for part in (block.conv1, block.conv2))
    assert wide.bias is not None
    assert narrow.bias is not None
    wide.weight.data += pad(narrow.weight.data, (1, 1, 1, 1))
    wide.bias.data += narrow.bias.data
    return nn.Sequential(wide, nn.SiLU())

"""The feature pyramid of any timm backbone."""

import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector.weights import read_weights, without_prefix

PROBED = ((192, 256), (256, 320))
"""(height, width) of the images on which a backbone must show its strides."""

WAYS: tuple[dict[str, Any], ...] = (
    {"feature_cls": "getter"},
    {"feature_cls": "getter", "dynamic_img_size": True},
    {},
)
"""How timm may be asked for features, best first.

Only the getter cuts off the layers beyond the last map in every family: unused parameters would stop
distributed training, and cost time everywhere. Some transformers take images of any size only if told to, and
a few older models know no getter.
"""


class Backbone(nn.Module):
    """A timm network that returns one feature map per stride.

    Args:
        name: timm model with a feature pyramid, for example mobilenetv4_conv_small.
        strides: strides of the feature maps, ascending.
        pretrained: true for timm's ImageNet weights, downloaded once from the Hugging Face hub; a path for a
            local file of such weights (safetensors or torch).
        in_channels: channels of the input images.
        image_size: (height, width) in pixels that it must take, beside multiples of 32.

    Attributes:
        channels: number of channels of each map.
        mean: channel means of the images that the backbone was made for, in [0, 1].
        std: their standard deviations.

    Raises:
        ValueError: unknown name, a name without the strides, weights that cannot be had or do not fit.
    """

    def __init__(
        self,
        name: str,
        strides: Sequence[int],
        pretrained: bool | Path = False,
        in_channels: int = 3,
        image_size: tuple[int, int] = (64, 64),
    ) -> None:
        super().__init__()
        import timm  # a third of a second, which commands without a network need not wait for

        if not timm.is_model(name):
            close = get_close_matches(name, timm.list_models(), 8, 0.6)
            raise ValueError(
                f"timm has no backbone {name!r}; names like it: {', '.join(close) or 'none'}; "
                "one of your own is known once its module is imported"
            )
        levels, options = _levels(name, strides, in_channels, image_size)
        if isinstance(pretrained, Path):
            with torch.device("meta"):
                known = timm.create_model(name).state_dict()
            given = without_prefix(read_weights(pretrained).tensors, known)
            options["pretrained_cfg_overlay"] = {"state_dict": given}
        try:
            self.features = timm.create_model(
                name,
                pretrained=bool(pretrained),
                features_only=True,
                out_indices=levels,
                in_chans=in_channels,
                **options,
            )
        except OSError as error:
            raise ValueError(
                f"the ImageNet weights of {name} cannot be downloaded ({type(error).__name__}). Connect to "
                "the internet once, or give a local file with --model.network.pretrained=FILE, or train from "
                "scratch with --model.network.pretrained=false"
            ) from error
        except RuntimeError as error:
            raise ValueError(f"the weights {pretrained} do not fit {name}: {error}") from error
        if isinstance(pretrained, Path):
            _require_most(self.features, given, f"{pretrained} ({name})")
        config = timm.models.get_pretrained_cfg(name)
        self.mean = _per_channel(config.mean if config else (0.485, 0.456, 0.406), in_channels)
        self.std = _per_channel(config.std if config else (0.229, 0.224, 0.225), in_channels)
        features: Any = self.features
        self.channels: list[int] = features.feature_info.channels()

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) normalised images to a (B, channels, H/stride, W/stride) map per stride."""
        maps: list[Tensor] = self.features(images)
        return maps


def _require_most(features: nn.Module, given: Mapping[str, Tensor], what: str) -> None:
    """Say how much of a backbone came from given tensors; timm leaves aside what it does not know.

    Raises:
        ValueError: less than half.
    """
    found = total = 0
    for parameter in features.parameters():
        total += parameter.numel()
        same = (v for v in given.values() if v.shape == parameter.shape)
        found += any(torch.equal(v.to(parameter.dtype), parameter) for v in same) * parameter.numel()
    if found < total / 2:
        raise ValueError(
            f"{what}: {found / total:.1%} of the backbone's parameters are in the file, so it is of another "
            f"network. It holds {', '.join(list(given)[:3])}; of a detector: --model.init_from=FILE"
        )
    print(f"{what}: {found / total:.1%} of the backbone's parameters come from the file", file=sys.stderr)


def _levels(
    name: str, strides: Sequence[int], in_channels: int, image_size: tuple[int, int]
) -> tuple[list[int], dict[str, Any]]:
    """Indices of the strides among the model's feature maps, and how to ask timm for them.

    What timm says of a model's strides is not always what it does (unpadded convolutions, images of one size
    only), so the maps are measured, on the meta device, without weights or arithmetic.

    Raises:
        ValueError: no way of asking gives maps at these strides.
    """
    from timm import create_model

    reasons: list[str] = []
    for options in WAYS:
        ask: dict[str, Any] = {"features_only": True, "in_chans": in_channels, **options}
        try:
            with torch.device("meta"):
                features: Any = create_model(name, **ask).feature_info
                reductions = features.reduction()
                if missing := [stride for stride in strides if stride not in reductions]:
                    raise ValueError(
                        f"backbone {name!r} has no features at stride {missing}, only at "
                        f"{sorted(set(reductions))}: choose --model.network.strides among these"
                    )
                # Of several maps of a stride, the last has been through most layers.
                last = dict(zip(reductions, features.out_indices, strict=True))
                levels = [last[stride] for stride in strides]
                model: Any = create_model(name, out_indices=levels, **ask).eval()
                channels = model.feature_info.channels()
                for height, width in PROBED:
                    maps = model(torch.empty(1, in_channels, height, width))
                    expected = [
                        (1, c, height // s, width // s) for c, s in zip(channels, strides, strict=True)
                    ]
                    if [tuple(one.shape) for one in maps] != expected:
                        sizes = ", ".join(f"{one.shape[-2]} x {one.shape[-1]}" for one in maps)
                        raise RuntimeError(f"maps of {sizes} at strides {strides} of {height} x {width} px")
                _try(model, in_channels, image_size)
        except (RuntimeError, TypeError, AttributeError, AssertionError, IndexError, KeyError) as error:
            reasons.append(f"{error}".split("\n")[0] or type(error).__name__)
        else:
            return levels, dict(options)
    raise ValueError(
        f"backbone {name!r} gives no feature pyramid for images of any size ({reasons[0]}): choose another, "
        "such as mobilenetv4_conv_small, convnext_atto or swin_tiny_patch4_window7_224"
    )


def _try(model: nn.Module, in_channels: int, image_size: tuple[int, int]) -> None:
    try:
        model(torch.empty(1, in_channels, *image_size))
    except RuntimeError as error:
        height, width = image_size
        raise RuntimeError(f"it takes no {height} x {width} px, multiples of 32 may do") from error


def _per_channel(values: Sequence[float], channels: int) -> list[float]:
    """ImageNet's three values for three channels, else their mean for every channel."""
    return list(values) if channels == len(values) else [sum(values) / len(values)] * channels

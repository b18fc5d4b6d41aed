"""The feature pyramid of any timm backbone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    """A timm network that returns one feature map a stride.

    Args:
        name: timm model with a feature pyramid, for example mobilenetv4_conv_small.
        strides: strides of the feature maps, ascending.
        pretrained: true for timm's ImageNet weights, downloaded once from the Hugging Face hub; a path for a
            local file of such weights (safetensors or torch).
        in_channels: channels of the input images.

    Attributes:
        channels: number of channels of each map.
        mean: channel means of the images that the backbone was made for, in [0, 1].
        std: their standard deviations.

    Raises:
        ValueError: unknown name, a name without the strides, weights that cannot be had or do not fit.
    """

    def __init__(
        self, name: str, strides: Sequence[int], pretrained: bool | Path = False, in_channels: int = 3
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            close = timm.list_models(f"*{name.split('_')[0]}*")[:8]
            raise ValueError(f"timm has no backbone {name!r}; names like it: {', '.join(close) or 'none'}")
        levels, options = _levels(name, strides)
        if isinstance(pretrained, Path):
            if not pretrained.is_file():
                raise ValueError(f"no weights at {pretrained}: give the file of {name}'s ImageNet weights")
            options["pretrained_cfg_overlay"] = {"file": str(pretrained)}
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
        config = timm.models.get_pretrained_cfg(name)
        self.mean = _per_channel(config.mean if config else (0.485, 0.456, 0.406), in_channels)
        self.std = _per_channel(config.std if config else (0.229, 0.224, 0.225), in_channels)
        features: Any = self.features
        self.channels: list[int] = features.feature_info.channels()

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) normalised images to one (B, channels, H/stride, W/stride) map a stride."""
        maps: list[Tensor] = self.features(images)
        return maps


def _levels(name: str, strides: Sequence[int]) -> tuple[list[int], dict[str, Any]]:
    """Indices of the strides among the model's feature maps, and how to ask timm for them."""
    with torch.device("meta"):  # a look at the structure, no weights
        try:
            probe: Any = timm.create_model(name, features_only=True)
            reductions = probe.feature_info.reduction()
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(f"timm backbone {name!r} has no feature pyramid: choose another") from error
        # Only this way of asking cuts off the layers beyond the last map in every family of models: unused
        # parameters would stop distributed training, and cost time everywhere.
        cuts = hasattr(timm.create_model(name), "forward_intermediates")
    missing = [stride for stride in strides if stride not in reductions]
    if missing:
        raise ValueError(
            f"backbone {name!r} has no features at stride {missing}, only at {reductions}: "
            "choose --model.network.strides among these"
        )
    return [reductions.index(stride) for stride in strides], {"feature_cls": "getter"} if cuts else {}


def _per_channel(values: Sequence[float], channels: int) -> list[float]:
    """ImageNet's three values for three channels, else their mean for every channel."""
    return list(values) if channels == len(values) else [sum(values) / len(values)] * channels

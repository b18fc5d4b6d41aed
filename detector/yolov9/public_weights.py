"""How the public COCO weights name their tensors: by the number of the layer, and within it as we do.

Source: the model descriptions of MultimediaTechLab/YOLO (MIT), release v1.0-alpha.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from detector.yolov9.sizes import SIZES, SizeName

LAYERS = {
    0: "backbone.stem",
    1: "backbone.downs.4",
    2: "backbone.stages.4",
    3: "backbone.downs.8",
    4: "backbone.stages.8",
    5: "backbone.downs.16",
    6: "backbone.stages.16",
    7: "backbone.downs.32",
    8: "backbone.stages.32",
    9: "neck.top_down.spp",
    12: "neck.top_down.blocks.16",
    15: "neck.top_down.blocks.8",
    16: "neck.downs.16",
    18: "neck.bottom_up.16",
    19: "neck.downs.32",
    21: "neck.bottom_up.32",
    22: "head",
}

TOP_DOWN_AUXILIARY = {
    23: "auxiliary.top_down.spp",
    26: "auxiliary.top_down.blocks.16",
    29: "auxiliary.top_down.blocks.8",
    30: "auxiliary.head",
}

ROUTED_AUXILIARY = {
    23: "auxiliary.routes.8",
    24: "auxiliary.routes.16",
    25: "auxiliary.routes.32",
    26: "auxiliary.backbone.stem",
    27: "auxiliary.backbone.downs.4",
    28: "auxiliary.backbone.stages.4",
    29: "auxiliary.backbone.downs.8",
    31: "auxiliary.backbone.stages.8",
    32: "auxiliary.backbone.downs.16",
    34: "auxiliary.backbone.stages.16",
    35: "auxiliary.backbone.downs.32",
    37: "auxiliary.backbone.stages.32",
    38: "auxiliary.head",
}

STEM = "0.conv.weight"
"""Key of the first tensor, by which such weights are known."""

HEAD_BRANCH = re.compile(r"heads\.([012])\.(anchor|class)_conv")


def translate(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of the public weights under our names.

    The distance that each bin stands for, which the heads keep among their weights, is left out.

    Args:
        state: tensors by the public weights' names.
    """
    layers = LAYERS | (
        ROUTED_AUXILIARY if any(key.startswith("38.") for key in state) else TOP_DOWN_AUXILIARY
    )
    translated = {}
    for key, value in state.items():
        number, _, rest = key.partition(".")
        if ".anc2vec." in key:
            continue
        name = layers.get(int(number)) if number.isdecimal() else None
        if name is None:
            translated[key] = value  # to be reported as unexpected
            continue
        if name.startswith("auxiliary.routes"):
            rest = rest.removeprefix("conv.")
        translated[f"{name}.{HEAD_BRANCH.sub(_our_branch, rest)}"] = value
    return translated


def size_of(state: Mapping[str, Any]) -> SizeName | None:
    """Size of the network that public weights are of; None if they are no such weights."""
    widths = [
        tuple(state[key].shape)[:1] for key in (STEM, "1.conv.weight", "2.conv1.conv.weight") if key in state
    ]
    for name, size in SIZES.items():
        if widths == [(size.stem[0],), (size.stem[1],), (size.parts[4],)]:
            return name
    return None


def _our_branch(match: re.Match[str]) -> str:
    branches = {"anchor": "distances", "class": "classes"}
    return f"{branches[match[2]]}.{8 << int(match[1])}"

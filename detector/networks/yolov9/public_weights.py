"""The public COCO weights: where they are, and how they name their tensors.

Their names begin with the number of the layer; within it they are ours.
Source: the model descriptions of MultimediaTechLab/YOLO (MIT), release v1.0-alpha.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.download.fetch import provide_file
from detector.networks.yolov9.sizes import SIZES, SizeName

RELEASE = "https://github.com/MultimediaTechLab/YOLO/releases/download/v1.0-alpha"

NOTICE = """\
YOLOv9-{size}, trained on COCO: Copyright (c) 2024 Kin-Yiu, Wong and Hao-Tang, Tsui, MIT licence,
https://github.com/MultimediaTechLab/YOLO/blob/main/LICENSE; docs/weights.md says what is known of it."""

# fmt: off
COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)
# fmt: on
"""Names of COCO's 80 classes, in the order of the class rows."""

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

FIRST, LAST = "0.conv.weight", "22.heads.0.class_conv.2.weight"
"""Two of their names, by which such weights are known."""

HEAD_BRANCH = re.compile(r"heads\.([012])\.(anchor|class)_conv")


def provide(size: SizeName) -> Path:
    """Fetch the weights of a size once; they stay where torch keeps weights, `$TORCH_HOME/hub/checkpoints`.

    Raises:
        DataError: they cannot be had; it says where to put the file by hand.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / f"v9-{size}.pt"
    return provide_file(f"{RELEASE}/{file.name}", file, NOTICE.format(size=size))


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
    keys = (FIRST, "1.conv.weight", "2.conv1.conv.weight")
    widths = [len(state[key]) for key in keys if key in state and LAST in state]
    return next((n for n, s in SIZES.items() if widths == [*s.stem, s.parts[4]]), None)


def _our_branch(match: re.Match[str]) -> str:
    branches = {"anchor": "distances", "class": "classes"}
    return f"{branches[match[2]]}.{8 << int(match[1])}"

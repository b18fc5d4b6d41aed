"""A checkpoint to pass on: its weights alone, or a folder for the Hugging Face hub."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from detector.checkpoint import without_origin
from detector.hub import LIBRARY
from detector.weights import HUB_CONFIG, HUB_WEIGHTS
from pinpoint.export.gate import Comparison

TRAINING = (
    "optimizer_states",
    "lr_schedulers",
    "loops",
    "callbacks",
    "current_model_state",
    "averaging_state",
    "assigned",
    "schedule",
)
"""What only a training that goes on needs: two thirds of a checkpoint and more."""

FACTS = ("class_names", "thresholds", "epoch", "global_step")
"""What of a checkpoint goes to config.json, beside its configuration."""

PLACES = ("reading", "root", "yaml", "val_groups")
"""Options of data that say where something lies; others are known by their slashes."""

SIZES = {"": "all", "_0_8": "below 8 px", "_8_16": "8 to 16 px", "_16_32": "16 to 32 px"}
SIZES |= {"_small": "small, below 32 px", "_medium": "medium, 32 to 96 px", "_large": "large, above 96 px"}


def write_weights(checkpoint: Mapping[str, Any], path: Path, half: bool) -> None:
    """Write a checkpoint without the state of its training.

    Args:
        checkpoint: see `detector.checkpoint.load_checkpoint`.
        path: new file.
        half: store weights in half precision; they are computed with in float32.
    """
    kept = {name: value for name, value in checkpoint.items() if name not in TRAINING}
    torch.save(kept | {"state_dict": _weights(checkpoint, half)}, path)


def write_hub(checkpoint: Mapping[str, Any], folder: Path, half: bool, licence: str) -> None:
    """Write the folder that `hf upload ORGANISATION/NAME FOLDER` publishes.

    model.safetensors holds the weights, config.json what the model is, README.md the model card. The options
    that say where the data lies, and those of the trainer, stay at home.

    Args:
        checkpoint: see `detector.checkpoint.load_checkpoint`.
        folder: new folder.
        half: store weights in half precision.
        licence: of the weights, by the hub's name for it.
    """
    folder.mkdir()
    save_file(_weights(checkpoint, half), folder / HUB_WEIGHTS, metadata={"format": "pt"})
    full = yaml.safe_load(checkpoint["config"])
    facts = {name: checkpoint[name] for name in FACTS if name in checkpoint}
    config = {"model": without_origin(full["model"]), "data": _without_paths(full["data"])}
    described = {"library_name": LIBRARY, **facts, "config": config}
    (folder / HUB_CONFIG).write_text(json.dumps(described, indent=2) + "\n", "utf-8")
    write_model_card(folder, licence, None)


def write_model_card(folder: Path, licence: str, compared: Comparison | None) -> None:
    """Write the hub's README.md to a folder of `write_hub`.

    Args:
        folder: the folder.
        licence: of the weights, by the hub's name for it.
        compared: scores on the validation images; None if there are none.
    """
    described = json.loads((folder / HUB_CONFIG).read_text("utf-8"))
    (folder / "README.md").write_text(model_card(described, licence, compared), "utf-8")


def model_card(described: Mapping[str, Any], licence: str, compared: Comparison | None) -> str:
    """The hub's README.md.

    Args:
        described: content of config.json.
        licence: of the weights, by the hub's name for it.
        compared: scores on the validation images; None if there are none.
    """
    names, config = ", ".join(map(_plain, described["class_names"])), described["config"]
    data, channels = config["data"], _channels(config["model"]["network"])
    height, width = data["init_args"]["image_size"]
    drawn = data["init_args"]["augment"].items()
    augmentations = ", ".join(f"{name} {value}" for name, value in drawn if value) or "none"
    return f"""---
license: {licence}
library_name: pinpoint
pipeline_tag: object-detection
tags: [object-detection, small-objects, aerial, pinpoint]
---

# Detector of {names}

An anchor-free detector for small objects, trained with Pinpoint: {_network(config["model"]["network"])},
input {height} x {width} pixels (height x width), {channels}.

## Use

    pip install pinpoint-detector

    from detector import load
    model = load("hf://ORGANISATION/NAME")  # or the path of this folder
    detections = model.predict("image.jpg")  # boxes (xyxy pixels of the image), scores, labels, names

Images are letterboxed to the input size (grey, centred), {channels}, in [0, 1]; normalisation is part of the
network.

## Data

Classes, in the order of their indices: {names}.
Read by `{data["class_path"].rpartition(".")[2]}`, in training with these augmentations: {augmentations}.

## Scores

{_scores(compared)}

## Intended use

Finding objects of these classes in images like those of the training data: camera, height, season, region. On
other images the scores above do not hold: label some of them and score the model on these first. Not meant to
identify people, nor for decisions about them, nor where a missed object endangers someone without other means
in place.

## Licence

Weights: {licence}. The terms of the training data hold for what may be done with a model of it. Code: MIT.
"""


def _network(section: Mapping[str, Any]) -> str:
    """What a network is, by the options of its class that say most; without `class_path`, one on timm."""
    options = section.get("init_args", section)
    kind = section.get("class_path", "Network").rpartition(".")[2]
    told = [
        f"{name} {options[name]}" for name in ("backbone", "size", "channels", "strides") if name in options
    ]
    return f"{kind} of {', '.join(told)}"


def _channels(section: Mapping[str, Any]) -> str:
    """What the images of a network are."""
    count = section.get("init_args", section).get("in_channels", 3)
    return {1: "the mean of RGB", 3: "RGB"}.get(count, f"{count} channels")


def _plain(text: str) -> str:
    """A text that Markdown shows as it is, in one line and within a table."""
    return re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", " ".join(text.split()))


def _share(score: float) -> str:
    return "no such object" if math.isnan(score) else f"{score:.3f}"


def _scores(compared: Comparison | None) -> str:
    if compared is None:
        return "Not scored when this folder was written."
    protocol = (
        f"COCO's protocol on {compared.images} validation images, in pixels of the original images; sizes "
        "are square roots of object areas. Ignored regions count as crowds."
    )
    rows = [f"| {text} | {_share(compared.scores[f'AP{name}'])} |" for name, text in SIZES.items()]
    rows.append(f"| AP50 | {_share(compared.scores['AP50'])} |")
    by_class = [
        f"| {_plain(name.removeprefix('AP/'))} | {_share(value)} |"
        for name, value in compared.scores.items()
        if name.startswith("AP/")
    ]
    table = ["| size | AP |", "|---|---|", *rows, "", "| class | AP |", "|---|---|", *by_class]
    return "\n".join((protocol, "", *table))


def _weights(checkpoint: Mapping[str, Any], half: bool) -> dict[str, torch.Tensor]:
    weights = {name: value.contiguous() for name, value in checkpoint["state_dict"].items()}
    if half:
        weights = {n: v.half() if v.is_floating_point() else v for n, v in weights.items()}
    return weights


def _without_paths(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data section without the options that name files, folders or addresses of its author."""
    options = {
        name: value
        for name, value in data["init_args"].items()
        if name not in PLACES and not any("/" in text or "\\" in text for text in _texts(value))
    }
    return {"class_path": data["class_path"], "init_args": options}


def _texts(value: object) -> list[str]:
    """All texts of nested plain values."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []

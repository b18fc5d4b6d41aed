"""Checkpoints of train.py, read without Lightning's Trainer and without data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser

# Imported so that networks are found by the names of their classes.
import detector.networks.network
import detector.networks.yolov9.network  # noqa: F401
from datamodules.parsing import load_yaml
from detector.facts import FALLBACK, ModelFacts
from detector.hub import is_shared, load_shared
from detector.intact import read_intact, require_checkpoint
from detector.networks.base import DetectionNetwork
from detector.postprocess import Postprocess


def load_checkpoint(path: str) -> dict[str, Any]:
    """Read a checkpoint of ours, or a shared model, to the CPU.

    Args:
        path: file, folder of `export.py --format hub`, or hf://ORGANISATION/NAME.

    Raises:
        ValueError: no file, not a checkpoint, a damaged one, or one that train.py did not write.
    """
    if not is_shared(path) and not Path(path).is_file():
        raise ValueError(
            f"no checkpoint at {path}: give the best.ckpt or last.ckpt of a run folder. A new training "
            "starts from other weights with --model.init_from"
        )
    checkpoint: dict[str, Any] = load_shared(path) if is_shared(path) else read_intact(path)
    require_checkpoint(path, checkpoint)
    return checkpoint


def without_origin(model: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's model section without the files that its training began with: the weights are there.

    Args:
        model: the section, left as it is.
    """
    network = model["network"]
    options = network.get("init_args", network)
    kept = {name: value for name, value in options.items() if name != "pretrained"}
    network = {**network, "init_args": kept} if "init_args" in network else kept
    return {name: value for name, value in model.items() if name != "init_from"} | {"network": network}


def build(checkpoint: dict[str, Any]) -> tuple[DetectionNetwork, ModelFacts]:
    """The trained network, ready for use, and what must be known of it.

    Args:
        checkpoint: see `load_checkpoint`.

    Raises:
        ValueError: the configuration or the weights are not of this version's networks.
    """
    config = load_yaml(checkpoint["config"])
    names = tuple(checkpoint["class_names"])
    height, width = config["data"]["init_args"]["image_size"]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(DetectionNetwork, "network")
    parser.add_class_arguments(Postprocess, "postprocess")
    section = config["model"]["network"]  # of a class by name, or the arguments of `Network`
    options = section.get("init_args", section) | {"num_classes": len(names), "image_size": [height, width]}
    options.pop("pretrained", None)  # the weights are there
    kind = section.get("class_path", "Network").rpartition(".")[2]
    sections = {
        "network": {"class_path": kind, "init_args": options},
        "postprocess": config["model"]["postprocess"],
    }
    try:
        with torch.random.fork_rng(devices=[]):  # weights are drawn before they are replaced
            built = parser.instantiate(parser.parse_object(sections))
        network: DetectionNetwork = built.network
        prefix = "network."
        weights = {
            key.removeprefix(prefix): value
            for key, value in checkpoint["state_dict"].items()
            if key.startswith(prefix)
        }
        network.load_state_dict(weights)
    except (ArgumentError, RuntimeError) as error:
        path = section.get("class_path", kind)
        if isinstance(error, ArgumentError) and not path.startswith(("detector.", kind)):
            raise ValueError(
                f"the checkpoint is of {path}, no network of Pinpoint's: import its module before load()"
            ) from error
        raise ValueError(f"the checkpoint does not fit the networks of this version: {error}") from error
    facts = ModelFacts(
        class_names=names,
        image_size=(height, width),
        thresholds=tuple(checkpoint.get("thresholds", [FALLBACK] * len(names))),
        postprocess=sections["postprocess"],
        in_channels=network.in_channels,
        fill=network.fill,
    )
    return network.eval().requires_grad_(False), facts

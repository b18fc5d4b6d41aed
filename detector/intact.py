"""Files of `torch.save`, read as what they were written or not at all."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from datamodules.parsing import load_yaml


def read_intact(path: str | Path) -> Any:  # noqa: ANN401  # whatever was saved
    """Read a file of `torch.save` to the CPU: tensors and plain values alone, and nobody's code is run.

    torch does not look at the check sums in its own files, so that a flipped bit in a weight goes unnoticed.

    Raises:
        ValueError: not such a file, cut short, or changed since it was written.
    """
    try:
        check_sums(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a checkpoint: is it one, and is the file complete and unchanged?"
        ) from error


def check_sums(path: str | Path) -> None:
    """Compare what a file of `torch.save` holds with its check sums.

    Raises:
        ValueError: something in it has changed.
        Exception: it is not such a file; there are many kinds.
    """
    with zipfile.ZipFile(path) as file:
        if any(member.compress_type != zipfile.ZIP_STORED for member in file.infolist()):
            raise ValueError("torch compresses nothing")
        damaged = file.testzip()
    if damaged is not None:
        raise ValueError(f"the check sum of {damaged} is wrong")


def require_checkpoint(path: str, checkpoint: Any) -> None:  # noqa: ANN401  # whatever a file holds
    """Refuse what is no checkpoint of ours, or one whose parts are not what they should be.

    Args:
        path: its file.
        checkpoint: its content.

    Raises:
        ValueError: says what is missing or wrong.
    """
    anew = "A new training starts from its weights with --model.init_from"
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} holds a {type(checkpoint).__name__}, not a checkpoint of train.py")
    if missing := {"state_dict", "config", "class_names"} - checkpoint.keys():
        raise ValueError(f"{path} was not written by train.py: it lacks {', '.join(sorted(missing))}. {anew}")
    names, weights = checkpoint["class_names"], checkpoint["state_dict"]
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError(f"{path} is no checkpoint of train.py: its class_names are not a list of names")
    if not is_configuration(checkpoint["config"]):
        raise ValueError(f"{path} is no checkpoint of train.py: its config is not a configuration")
    for part in ("state_dict", "current_model_state"):
        weights = checkpoint.get(part, weights)
        if not isinstance(weights, Mapping) or not all(isinstance(w, Tensor) for w in weights.values()):
            raise ValueError(f"{path} is no checkpoint of train.py: its {part} is not tensors by name")
        if spoiled := not_finite(weights):
            raise ValueError(f"{path} holds weights that are not numbers, {spoiled} and perhaps others")


def is_configuration(text: object) -> bool:
    """Whether this is YAML with the sections of a training's configuration that a model needs."""
    try:
        config = load_yaml(text) if isinstance(text, str) else None
    except (ValueError, yaml.YAMLError):
        return False
    for section in (("model", "network"), ("model", "postprocess"), ("data", "init_args", "image_size")):
        found = config
        for name in section:
            if not isinstance(found, dict) or name not in found:
                return False
            found = found[name]
        if section == ("model", "network") and not isinstance(found, dict):
            return False
    return True


def not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor that holds NaN or infinity, None if there is none."""
    for name, weight in weights.items():
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            return name
    return None

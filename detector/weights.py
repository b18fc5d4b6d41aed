"""Files of weights, whoever wrote them, read without running anyone's code."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from datamodules.parsing import load_yaml
from detector.intact import check_sums

HUB_WEIGHTS, HUB_CONFIG = "model.safetensors", "config.json"
"""Files of a folder of the Hugging Face hub."""

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Where checkpoints keep the tensors."""

DEEPEST = 4
"""Most words before the names that we know."""


@dataclass(frozen=True)
class Weights:
    """Tensors of some network.

    Attributes:
        origin: the file.
        tensors: by their names there.
        class_names: names of the classes, in the order of the class rows; None if the file does not say.
        strides: levels of the network, pixels; None if the file does not say.
        interrupted: whether it is a checkpoint of ours, from which its training could go on.
    """

    origin: Path
    tensors: dict[str, Tensor]
    class_names: Sequence[str] | None = None
    strides: Sequence[int] | None = None
    interrupted: bool = False


def read_weights(path: Path) -> Weights:
    """Read the tensors of a file or of a folder of the hub.

    Args:
        path: a checkpoint of Pinpoint or another tool, a state dict (torch or safetensors), or a folder with
            model.safetensors and config.json.

    Raises:
        ValueError: nothing is there, it cannot be read, holds more than tensors and plain values, or none.
    """
    if path.is_dir():
        if not (path / HUB_WEIGHTS).is_file():
            raise ValueError(f"{path} holds no {HUB_WEIGHTS}: give a folder of the hub, or a checkpoint file")
        facts = _json(path / HUB_CONFIG) if (path / HUB_CONFIG).is_file() else {}
        config = facts.get("config")
        path = path / HUB_WEIGHTS
    elif not path.is_file():
        raise ValueError(
            f"no weights at {path}: give a file or a folder of the hub; of an address, fetch the file first"
        )
    else:
        facts, config = {}, None
    content = _read(path)
    if path.name != HUB_WEIGHTS:
        facts, config = content, _yaml(content.get("config"))
    wrapped = [content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)]
    tensors = {name: value for name, value in (wrapped or [content])[0].items() if isinstance(value, Tensor)}
    tensors = {name: value for name, value in tensors.items() if isinstance(name, str)}
    if not tensors:
        raise ValueError(f"{path} holds no tensors by name: give a checkpoint or a state dict")
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{path} holds numbers that are not finite, in {name}: its training has failed")
    return Weights(
        path,
        tensors,
        class_names=_names(facts.get("class_names")),
        strides=_strides(config),
        interrupted="class_names" in content and "optimizer_states" in content,
    )


def without_prefix(tensors: Mapping[str, Tensor], known: Collection[str]) -> dict[str, Tensor]:
    """Take off what stands before the known names, such as `module.`, `model.` or `network.`.

    Args:
        tensors: by their names.
        known: names that are looked for. The prefix is the one that uncovers most of them.

    Returns:
        The tensors by their names without it; other names stay.
    """
    uncovered = Counter({"": sum(name in known for name in tensors)})
    for name in tensors:
        words = name.split(".")
        for count in range(1, min(len(words), DEEPEST + 1)):
            if ".".join(words[count:]) in known:
                uncovered[".".join(words[:count]) + "."] += 1
    prefix = max(uncovered, key=uncovered.__getitem__)
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        if zipfile.is_zipfile(path):  # as torch writes them since version 1.6
            check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read ({error}): is the file complete?") from error
    except Exception as error:
        if "weights_only" in str(error):
            raise ValueError(
                f"{path} holds more than tensors, and reading that could run anyone's code: where it comes "
                "from, write the tensors alone with torch.save(model.state_dict(), FILE)"
            ) from error
        raise ValueError(f"{path} cannot be read as weights: are they, and is the file complete?") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not tensors by name")
    return dict(content)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
    return content if isinstance(content, dict) else {}


def _yaml(text: object) -> Any:  # noqa: ANN401  # plain values
    """What a text says, None if it is no YAML: other tools keep other things under a name of ours."""
    try:
        return load_yaml(text) if isinstance(text, str) else None
    except (yaml.YAMLError, ValueError):
        return None


def _names(found: Any) -> list[str] | None:  # noqa: ANN401  # plain values
    """Class names in their order, of a list or of numbers to names; None if it is neither."""
    if isinstance(found, Mapping) and set(found) == set(range(len(found))):
        found = [found[number] for number in range(len(found))]
    alike = isinstance(found, list | tuple) and all(isinstance(name, str) for name in found)
    return list(found) if alike else None


def _strides(config: object) -> Sequence[int] | None:
    """Levels that a configuration of ours asks for; None if it is none."""
    found: Any = config
    for name in ("model", "network"):
        found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, Mapping):
        found = found.get("init_args", found)
    strides = found.get("strides") if isinstance(found, Mapping) else None
    alike = isinstance(strides, list) and all(isinstance(stride, int) for stride in strides)
    return strides if alike else None

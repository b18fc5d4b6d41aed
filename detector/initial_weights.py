"""The start of a training from weights that exist: public ones, or those of a detector of other classes.

C classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from detector.hub import local_folder
from detector.networks.base import DetectionNetwork
from detector.networks.yolov9 import public_weights
from detector.networks.yolov9.network import YOLOv9
from detector.weights import Weights, read_weights, without_prefix

SCENES = Path(__file__).parent / "pretrained" / "scenes"
"""The hub folder of the default network, trained on the generated scenes; benchmarks/init_from.md made it."""

LEAST = 0.2
"""Share of the network's parameters below which weights are taken to be of another network."""

CLASS_LAYER = re.compile(r"(?:^|\.)head\.classes\.\w+\.2\.(?:weight|bias)$")
"""Last layers of class branches: a row a class."""

LEVEL = re.compile(r"^(neck\.(?:lateral|top_down|downsample|bottom_up)|head\.(?:classes|distances))\.(\d+)\.")
"""Parts of `Network` that are numbered by level, finest first."""

COARSER = ("neck.downsample", "neck.bottom_up")
"""Those whose first one belongs to the second level."""


@torch.no_grad()
def start_from(source: str, network: DetectionNetwork, class_names: Sequence[str]) -> str:
    """Put weights into a network as far as they fit, and say how far that is.

    Class rows go by the names of the classes; those of new classes stay as they are. So do levels that the
    weights do not have.

    Args:
        source: `coco` for the public weights of YOLOv9, fetched once; `scenes` for ours of the default
            network, which come with the package; a file or folder, see `read_weights`; or
            hf://ORGANISATION/NAME.
        network: a new network.
        class_names: its classes.

    Returns:
        A table: what was matched, what stays fresh, what was left aside.

    Raises:
        ValueError: the weights cannot be had or read, or are of another network.
    """
    if source == "coco":
        if not isinstance(network, YOLOv9):
            raise ValueError(
                "--model.init_from=coco has weights for YOLOv9 alone: add --config configs/yolov9_s.yaml, or "
                "start from --model.init_from=scenes, or from the ImageNet weights of the backbone with "
                "--model.network.pretrained=true"
            )
        weights = read_weights(public_weights.provide(network.size))
    else:
        weights = read_weights(SCENES if source == "scenes" else local_folder(source))
    weights = _translate(weights, network)
    parameters = dict(network.named_parameters())
    total = sum(p.numel() for p in parameters.values())
    state = network.state_dict()
    copied = {name: _copy(name, state[name], weights, class_names) for name in state}
    matched = {name: count for name, count in copied.items() if count and name in parameters}
    share = sum(matched.values()) / total
    if share < LEAST:
        raise ValueError(
            f"{source} has {share:.1%} of the parameters that the network needs, so it is of another one: "
            f"it holds {_examples(weights.tensors)}, the network {_examples(state)}. Of a backbone alone: "
            "--model.network.pretrained=FILE"
        )
    fresh = [name for name, p in parameters.items() if copied[name] < p.numel()]
    unexpected = {name: value for name, value in weights.tensors.items() if name not in state}
    rows = [
        ("matched", len(matched), sum(matched.values()), ""),
        ("fresh", len(fresh), total - sum(matched.values()), _places(fresh)),
        ("left aside", len(unexpected), sum(v.numel() for v in unexpected.values()), _places(unexpected)),
    ]
    lines = [f"Initial weights from {source}", "              tensors  parameters   share"]
    for title, tensors, count, places in rows:
        lines.append(f"  {title:10}  {tensors:7}  {count:10}  {count / total:6.1%}  {places}".rstrip())
    lines += _about_classes(weights.class_names, class_names)
    if weights.interrupted:
        lines.append(f"  A new training starts. To go on with the one that wrote them: --ckpt_path={source}")
    return "\n".join(lines)


def _translate(weights: Weights, network: DetectionNetwork) -> Weights:
    """The weights under the names of the network."""
    public = without_prefix(weights.tensors, (public_weights.FIRST, public_weights.LAST))
    if (size := public_weights.size_of(public)) is not None:
        if not isinstance(network, YOLOv9) or network.size != size:
            raise ValueError(
                f"{weights.origin} holds weights of YOLOv9-{size}: add --config configs/yolov9_s.yaml and "
                f"--model.network.size={size}"
            )
        names = weights.class_names
        if names is None and len(public[public_weights.LAST]) == len(public_weights.COCO):
            names = public_weights.COCO
        return replace(weights, tensors=public_weights.translate(public), class_names=names)
    tensors = without_prefix(weights.tensors, network.state_dict())
    if isinstance(network, YOLOv9):
        return replace(weights, tensors=tensors)  # its levels go by their strides
    return replace(weights, tensors=_levels_renumbered(tensors, weights.strides, network))


def _levels_renumbered(
    tensors: Mapping[str, Tensor], strides: Sequence[int] | None, network: DetectionNetwork
) -> dict[str, Tensor]:
    """Give each level the number that its stride has in the network."""
    wanted = list(network.strides)
    if strides is None:  # a plain state dict: the coarsest levels are taken to be the same
        count = 1 + max((int(m[2]) for name in tensors if (m := LEVEL.match(name))), default=-1)
        strides = [wanted[-1] >> step for step in reversed(range(count))]
    renumbered = {}
    for name, value in tensors.items():
        if match := LEVEL.match(name):
            first = match[1] in COARSER
            level = int(match[2]) + first
            stride = strides[level] if level < len(strides) else None
            number = wanted.index(stride) - first if stride in wanted else -1
            place = str(number) if number >= 0 else f"stride_{stride}"
            name = f"{match[1]}.{place}.{name[match.end() :]}"
        renumbered[name] = value
    return renumbered


def _copy(name: str, value: Tensor, weights: Weights, class_names: Sequence[str]) -> int:
    """Fill a tensor of the network; returns how many of its numbers were there."""
    given = weights.tensors.get(name)
    if given is None or given.shape[1:] != value.shape[1:] or given.ndim != value.ndim:
        return 0
    names = weights.class_names
    if CLASS_LAYER.search(name) and names is not None and len(names) == len(given):
        rows = _common(names, class_names)
        value[[new for _, new in rows]] = given[[old for old, _ in rows]].to(value.dtype)
        return value[0].numel() * len(rows)
    if given.shape != value.shape:
        return 0
    value.copy_(given)
    return value.numel()


def _common(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Indices of the classes of the same name, whatever their case."""
    places = {name.casefold(): index for index, name in enumerate(old)}
    return [(places[name.casefold()], i) for i, name in enumerate(new) if name.casefold() in places]


def _about_classes(old: Sequence[str] | None, new: Sequence[str]) -> list[str]:
    if old is None:
        return ["  The file names no classes: their rows are taken in its order if there are as many."]
    kept = [new[i] for _, i in _common(old, new)]
    if not kept:
        return ["  No class of this name is among its classes: class rows start fresh."]
    more = ", ..." * (len(kept) > 10)
    return [f"  {len(kept)} of {len(new)} classes kept by name: {', '.join(kept[:10])}{more}"]


def _places(names: Iterable[str]) -> str:
    """Where tensors are, in a few words."""
    places = list(dict.fromkeys(".".join(name.split(".")[:3]) for name in names))
    return ", ".join(places[:4]) + ", ..." * (len(places) > 4)


def _examples(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:3])

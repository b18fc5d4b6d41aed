"""Options that suit a data set, each with its reason, as a YAML that train.py takes after the recipe."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pinpoint.doctor.objects import Objects, percentiles

STEP = 32
"""Sides of the input are multiples of it, the coarsest stride."""

LONGEST = 1536
"""Longest side of the input in pixels: memory and time grow with the area."""

SMALL = 8
"""Side in input pixels that nine of ten objects should reach."""

ONE_POINT = 10
"""Side in pixels below which an object covers about one point of stride 8."""

COARSE = 8
"""The coarsest level should see the longest objects as at most so many of its strides."""

REG_MAX = 13
"""The network's own; less would save nothing that can be measured."""

CROWDED = 0.2
"""Share of objects whose points a neighbour would claim too, from which widening does harm."""

MANY = 50
"""Objects an image beyond which a mosaic adds nothing but cut objects."""

RARE = 0.1
"""A class in less than this share of the images is shown more often."""

MOST_REPEATS = 3
"""Factor beyond which no image is repeated: the same few would be learned by heart."""

BACKGROUND = 0.2
"""Largest share of images without objects that is worth its time."""

UNEVEN = 20
"""Ratio of the most frequent class to the rarest, in objects, from which weights are advised."""

WEIGHTS = (0.5, 2.0)
"""Range of advised class weights."""

PADDING = 0.15
"""Share of the input lost to grey bars from which batches by aspect ratio pay."""

DETECTIONS = 500
"""Detections an image that are kept by default."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One option.

    Attributes:
        key: path of the option in the configuration.
        value: what it should be.
        reason: why, with the data's numbers.
    """

    key: tuple[str, ...]
    value: Any
    reason: str


def advise(
    train: Objects, class_names: Sequence[str], image_size: tuple[int, int], network: Collection[str]
) -> list[Advice]:
    """Options for a training set that has objects; none for one without.

    Args:
        train: its objects, at the recipe's input.
        class_names: name of each class index.
        image_size: (H, W) of the recipe's input.
        network: options of the recipe's network, `model.network.strides` and so on; it is advised no others.
    """
    if not len(train.boxes):
        return []
    mean = float(train.per_image.mean())
    size, size_reason = _image_size(train, image_size)
    train = train.at(size)
    data = ("data", "init_args")
    strides, strides_reason = _strides(train)
    advice = [
        Advice((*data, "image_size"), list(size), size_reason),
        Advice((*data, "augment", "tile"), *_tile(train)),
        Advice((*data, "augment", "mosaic"), *_mosaic(train)),
        *_sampling(train, class_names, size),
        Advice(("model", "network", "strides"), strides, strides_reason),
        Advice(("model", "network", "reg_max"), *_reg_max(train, strides[-1])),
        Advice(
            ("model", "network", "expected_objects"),
            max(round(mean, 1), float(f"{mean:.2g}")),
            f"{len(train.boxes)} objects in {len(train.sizes)} images; class scores start from it.",
        ),
        Advice(("model", "assigner", "min_side"), *_min_side(train, strides)),
        Advice(("model", "loss", "class_weights"), *_class_weights(train, class_names)),
    ]
    most = int(train.per_image.max())
    if most > DETECTIONS:
        limit = math.ceil(1.2 * most / 100) * 100
        reason = f"one image holds {most} objects, more than the {DETECTIONS} detections kept by default."
        advice.append(Advice(("model", "postprocess", "max_detections"), limit, reason))
    return [one for one in advice if one.key[:2] != ("model", "network") or ".".join(one.key) in network]


def as_yaml(advice: Sequence[Advice], command: str) -> str:
    """Options as YAML, with their reasons as comments.

    Args:
        advice: the options.
        command: the command line that reads it.
    """
    lines = [
        "# The doctor's advice; every option may be changed or removed. After the recipe:",
        f"#   {command}",
    ]
    above: tuple[str, ...] = ()
    # Options of one section must stand together: sections in the order of their first option.
    first = {item.key[: depth + 1]: i for i, item in reversed(list(enumerate(advice))) for depth in range(9)}
    for item in sorted(advice, key=lambda item: [first[item.key[: i + 1]] for i in range(len(item.key))]):
        *sections, name = item.key
        for depth, section in enumerate(sections):
            if item.key[: depth + 1] != above[: depth + 1]:
                lines.append(f"{'  ' * depth}{section}:")
        indent = "  " * len(sections)
        lines += textwrap.wrap(
            item.reason, 100, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
        lines.append(f"{indent}{name}: {json.dumps(item.value, ensure_ascii=False)}")
        above = item.key
    return "\n".join(lines) + "\n"


def _image_size(train: Objects, recipe: tuple[int, int]) -> tuple[tuple[int, int], str]:
    """The recipe's scale, larger where objects are too small for it, on a canvas of the images' shape."""
    height, width = np.median(train.sizes, axis=0)
    scale = float(np.median(train.scale))
    small = percentiles(train.input_sides, [10])[0]
    larger = min(max(SMALL / small, 1), max(1 / scale, 1), max(LONGEST / (scale * max(height, width)), 1))
    size = tuple(max(round(side * scale * larger / STEP), 1) * STEP for side in (height, width))
    shape = f"images of {width:g}x{height:g} px"
    at_recipe = f"a tenth of the objects is below {small:.1f} px at the recipe's {recipe[1]}x{recipe[0]}"
    if larger > 1.05:
        area = size[0] * size[1] / (recipe[0] * recipe[1])
        after = f"{small * larger:.1f} px here, with {area:.1f} times the pixels"
        reason = f"{shape}; {at_recipe}, {after}."
    elif size == recipe:
        reason = f"that of the recipe: {shape}; {at_recipe}."
    else:
        wasted = 1 - float((train.sizes.prod(axis=1) * train.scale**2).mean()) / (recipe[0] * recipe[1])
        reason = (
            f"{shape}, at the recipe's scale but without its grey bars ({wasted:.0%} of it); {at_recipe}."
        )
    return (size[0], size[1]), reason


def _tile(train: Objects) -> tuple[float, str]:
    scale, small = float(np.median(train.scale)), percentiles(train.input_sides, [10])[0]
    original = percentiles(train.sides, [10])[0]
    if small < 0.95 * SMALL and scale < 0.8:
        return 0.5, (
            f"scaled to fit, images shrink to {scale:.0%} and a tenth of the objects to less than "
            f"{small:.1f} px (originally {original:.1f}): half of the samples show parts at original scale."
        )
    return 0.0, f"scaled to fit, nine of ten objects still have {small:.1f} px or more: no need of tiles."


def _mosaic(train: Objects) -> tuple[float, str]:
    objects = float(np.median(train.per_image))
    if objects > MANY:
        return 0.25, f"half of the images hold {objects:g} objects or more: a mosaic adds few, and cuts some."
    return (
        0.5,
        f"half of the images hold {objects:g} objects or fewer: a mosaic of four varies what is together.",
    )


def _sampling(train: Objects, class_names: Sequence[str], size: tuple[int, int]) -> list[Advice]:
    sampling = ("data", "init_args", "sampling")
    shares = train.images_per_class(len(class_names)) / len(train.sizes)
    present = np.flatnonzero(shares)
    rarest = int(present[shares[present].argmin()])
    share, name = float(shares[rarest]), class_names[rarest]
    if share < RARE:
        threshold = float(f"{min(RARE, MOST_REPEATS**2 * share):.2g}")
        factor = math.sqrt(threshold / share)
        reason = f"'{name}' is on {share:.1%} of the images only; those come {factor:.1f} times an epoch."
        repeat = Advice((*sampling, "repeat_threshold"), threshold, reason)
    else:
        reason = f"even '{name}', the rarest class, is on {share:.0%} of the images."
        repeat = Advice((*sampling, "repeat_threshold"), None, reason)
    empty = float((train.per_image == 0).mean())
    background = BACKGROUND if empty > BACKGROUND else None
    padding = 1 - float((train.sizes.prod(axis=1) * train.scale**2).mean()) / (size[0] * size[1])
    return [
        repeat,
        Advice(
            (*sampling, "background"),
            background,
            f"{empty:.1%} of the images are without objects"
            + (f"; {BACKGROUND:.0%} do." if background else ": they take little time."),
        ),
        Advice(
            (*sampling, "rectangular"),
            padding > PADDING,
            f"{padding:.0%} of the input would be grey bars: images differ in shape."
            if padding > PADDING
            else f"{padding:.0%} of the input is grey bars.",
        ),
    ]


def _class_weights(train: Objects, class_names: Sequence[str]) -> tuple[list[float] | None, str]:
    """By the root of the inverse frequency, where showing images more often cannot help."""
    counts = train.per_class(len(class_names))
    present = counts[counts > 0]
    uneven = float(present.max() / present.min())
    reason = f"the most frequent class has {uneven:.0f} times the objects of the rarest"
    if uneven <= UNEVEN:
        return None, f"{reason}."
    shares = train.images_per_class(len(class_names)) / len(train.sizes)
    if shares[counts > 0].min() < RARE:
        return None, f"{reason}, which sampling.repeat_threshold evens out in part."
    raw = np.sqrt(1 / np.maximum(counts, 1))
    weights = (raw * counts.sum() / (raw * counts).sum()).clip(*WEIGHTS)
    return weights.round(2).tolist(), f"{reason}, on the same images: roots of the inverse frequencies."


def _strides(train: Objects) -> tuple[list[int], str]:
    below = float((train.input_sides < ONE_POINT).mean())
    longest = percentiles(train.input_lengths, [99.9])[0]
    finest = 4 if below > 0.1 else 8
    coarsest = max(4 * finest, 32 if longest > COARSE * 16 else 16)
    strides = [stride for stride in (4, 8, 16, 32) if finest <= stride <= coarsest]
    return strides, (
        f"{below:.0%} of the objects are below {ONE_POINT} px, where stride 8 has about one point for them; "
        f"the longest (99.9th percentile: {longest:.0f} px) are {longest / coarsest:.1f} of the coarsest."
    )


def _reg_max(train: Objects, coarsest: int) -> tuple[int, str]:
    longest = percentiles(train.input_lengths, [99.9])[0]
    needed = 0.75 * longest / coarsest
    return max(math.ceil(needed), REG_MAX), (
        f"points of the inner half of the longest objects ({longest:.0f} px) are up to {needed:.1f} strides "
        f"of {coarsest} px from a side; {REG_MAX} is the network's own."
    )


def _min_side(train: Objects, strides: Sequence[int]) -> tuple[float, str]:
    _, nearest = train.neighbours()
    floor = strides[1]
    small = float((train.input_sides < floor).mean())
    claimed = float(((train.input_sides < floor) & (nearest < floor / 2)).mean())
    if claimed > CROWDED:
        return float(strides[0]), (
            f"{claimed:.0%} of the objects are below {floor} px with a neighbour within {floor / 2:g} px: "
            "widened to the second stride they would claim the same points."
        )
    return float(floor), (
        f"the second stride, so that each of the {small:.0%} of objects below it has points of its own; only "
        f"{claimed:.0%} have a neighbour within {floor / 2:g} px."
    )

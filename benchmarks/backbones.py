"""Which families of timm give a feature pyramid: works, or the one message that refuses it.

    python benchmarks/backbones.py

Of each family of model definitions its smallest model, at strides 8, 16 and 32 of an image of 448 x 320 px,
without weights or arithmetic, which takes two minutes. The tests try those that are unlike each other.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import datamodules  # noqa: F401  # sets how torch's threads wait, before torch

# isort: split
import torch
from timm import create_model, list_models, list_modules

from detector.networks.backbone import Backbone

SMALL = ("atto", "nano", "pico", "femto", "tiny", "xxs", "_xs", "050", "_s0", "_b0", "_0", "18", "small")
"""Parts of the names of small models."""

LARGEST = 60e6
"""Parameters of the smallest model above which a family is left out."""


def smallest(family: str) -> str | None:
    """Name of a small model of a family; None if it has none of its own."""
    names = sorted(list_models(module=family), key=lambda n: (not any(s in n for s in SMALL), len(n)))
    return names[0] if names else None


def tried(name: str) -> str:
    """What comes of a backbone: "works", "refused: ..." or what is wrong."""
    with torch.device("meta"):
        if sum(p.numel() for p in create_model(name).parameters()) > LARGEST:
            return "not tried, too large"
        try:
            maps = Backbone(name, (8, 16, 32)).eval()(torch.empty(2, 3, 448, 320))
        except ValueError as error:
            clear = name in str(error) and "choose" in str(error) and "\n" not in str(error)
            return f"refused: {error}" if clear else f"WRONG: {error}"
    shapes = [tuple(one.shape[-2:]) for one in maps]
    return "works" if shapes == [(56, 40), (28, 20), (14, 10)] else f"WRONG: maps of {shapes}"


def main() -> None:
    """Print a line a family; exit code 1 if one neither works nor is refused."""
    counts: dict[str, int] = {}
    for family in list_modules():
        if (name := smallest(family)) is None:
            continue
        said = tried(name)
        counts[said.partition(":")[0]] = counts.get(said.partition(":")[0], 0) + 1
        print(f"{family:28} {name:36} {said}", flush=True)
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    sys.exit("WRONG" in counts)


if __name__ == "__main__":
    main()

"""What is compared: variants, as the command line names them."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Variant:
    """What is compared.

    Attributes:
        name: names its folder.
        options: train.py's options without their dashes, such as "model.loss.box=ciou".
    """

    name: str
    options: tuple[str, ...]


def read_variants(
    losses: Sequence[str], varied: Sequence[Sequence[str]], named: Sequence[str]
) -> list[Variant]:
    """Read the variants from the command line, in the order given here.

    Args:
        losses: box losses, each a variant.
        varied: a key and its values, each value a variant.
        named: "NAME: KEY=VALUE KEY=VALUE", each a variant.

    Raises:
        ValueError: if fewer than two variants are given, two have one name, or one cannot be read.
    """
    variants = [Variant(name, (f"model.loss.box={name}",)) for name in losses]
    for key, *values in varied:
        if not values:
            raise ValueError(f"--vary {key} needs values: --vary model.loss.gain_box 5 7.5 10")
        variants += [Variant(f"{key.rpartition('.')[2]}={value}", (f"{key}={value}",)) for value in values]
    for text in named:
        name, colon, options = text.partition(":")
        if not colon or not all("=" in option for option in shlex.split(options)):
            raise ValueError(
                f"cannot read the variant {text!r}: write 'NAME: KEY=VALUE KEY=VALUE', for example "
                "'strong: model.loss.box=ciou model.loss.gain_box=11.5'"
            )
        given = (option.removeprefix("--") for option in shlex.split(options))
        variants.append(Variant(name.strip(), tuple(given)))
    names = [variant.name for variant in variants]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"give at least two variants of different names, got {', '.join(names) or 'none'}")
    for name in names:
        if not re.fullmatch(r"[\w.+=-][\w.+= -]*", name):
            raise ValueError(f"{name!r} cannot name a folder: use --variants 'NAME: ...' with a plain name")
    return variants

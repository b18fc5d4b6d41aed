"""Names of classes as pictures can show them: literally, and only with letters that there are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font

LONGEST_NAME = 28
"""Letters of a name beyond which it is cut: a long one would leave no room for the picture."""


def printable(names: Sequence[str]) -> list[str]:
    """Names as matplotlib draws them letter by letter.

    Dollars would begin a formula, and a legend leaves out what begins with an underscore. A name with letters
    that the font lacks is shown by its number, as `class 3`; numbers count from 0 in the order of the table.

    Args:
        names: of the classes, in order.
    """
    return [_printable(name, f"class {index}") for index, name in enumerate(names)]


def _printable(name: str, otherwise: str) -> str:
    name = " ".join(name.split())
    if any(ord(letter) not in _letters() for letter in name):
        return otherwise
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 1]}…"
    return (f" {name}" if name.startswith("_") else name).replace("$", r"\$")


@cache
def _letters() -> frozenset[int]:
    """Code points of the font that figures are drawn with."""
    return frozenset(get_font(findfont(FontProperties())).get_charmap())

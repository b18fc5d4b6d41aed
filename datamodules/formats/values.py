"""Values as tools write them, in JSON, XML and text: read if there is one way to, else refused by name."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from reprlib import Repr
from typing import Any

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""A decimal number. Python's own conversion also takes "1_0", "nan" and the digits of other alphabets."""

UNKNOWN = {"", "none", "null", "unspecified", "unknown"}
"""Texts that say of a value that nobody knows it, in lower case."""

FLAGS = {
    **dict.fromkeys((*UNKNOWN, "0", "false", "no", "n", "f"), False),
    **dict.fromkeys(("1", "true", "yes", "y", "t"), True),
}
"""Meaning of a flag's text, in lower case. VOC's own files say Unspecified of what nobody looked at."""

IGNORE_FLAGS = ("iscrowd", "ignore", "difficult")
"""Names of the flags of an object that say not to score it: COCO's and VOC's own, which converters mix."""

LARGEST_ID = 2**63

_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 60, 60


def shown(value: object) -> str:
    """A value for a message: short, whatever it holds (YAML's references can make a small file's endless)."""
    return _SHORT.repr(value)


def number(value: object, name: str) -> float:
    """A finite number, or a text of one.

    Args:
        value: as read from a file.
        name: what it is, for the message.

    Raises:
        ValueError: if it is anything else.
    """
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {shown(value)}, not a number")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ValueError(f"{name} is {shown(value)}, not a finite number")
    return result


def whole(value: object, name: str) -> int:
    """A whole number of at most 64 bits, or a text of one; 1.0 is one.

    Raises:
        ValueError: if it is anything else.
    """
    if type(value) is int and abs(value) < LARGEST_ID:
        return value
    # Not by way of float: ids may have more than its 53 bits.
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,19}\s*", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        result = number(value, name)
        if not result.is_integer():
            raise ValueError(f"{name} is {shown(value)}, not a whole number")
        value = int(result)
    if abs(value) >= LARGEST_ID:
        raise ValueError(f"{name} is {shown(value)}, which has more than 64 bits")
    return value


def unknown(value: object) -> bool:
    """Whether a value is there only to say that nobody knows it."""
    return value is None or (isinstance(value, str) and value.strip().lower() in UNKNOWN)


def side(value: object, name: str) -> int | None:
    """Height or width of an image in pixels; None where it is missing, null, 0 or a text for that.

    Raises:
        ValueError: if it is anything else.
    """
    if unknown(value):
        return None
    result = whole(value, name)
    if result < 0:
        raise ValueError(f"{name} is {result}")
    return result or None


def flag(value: object, name: str) -> bool:
    """Yes or no: 0, 1, true, false, as such or as text; null, nothing and "Unspecified" are no.

    Raises:
        ValueError: if it is anything else.
    """
    if value is None:
        return False
    meant = value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in FLAGS:
            return FLAGS[word]
        meant = float(word) if NUMBER.fullmatch(word) else value
    if isinstance(meant, bool | int | float) and meant in (0, 1):
        return bool(meant)
    raise ValueError(f"{name} is {shown(value)}: it must be 0 or 1")


def text(value: object, name: str) -> str:
    """A text that is not blank, without blanks at its ends; a number becomes one.

    Raises:
        ValueError: if it is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise ValueError(f"{name} is {shown(value)}, not a text")
    return str(value).strip()


def numbers(value: object, names: Sequence[str], name: str) -> list[float]:
    """A number for each name: a list, or a text of numbers between commas or blanks.

    Raises:
        ValueError: if it is anything else.
    """
    if isinstance(value, str):
        value = columns(value.strip().removeprefix("[").removesuffix("]"))
    if not isinstance(value, list | tuple) or len(value) != len(names):
        raise ValueError(f"{name} is {shown(value)}, not {len(names)} numbers")
    return [number(item, part) for item, part in zip(value, names, strict=True)]


def columns(row: str) -> list[str]:
    """Fields of a row: between commas if it has any, perhaps with one at its end, else between blanks."""
    row = row.strip()
    return [field.strip() for field in row.removesuffix(",").split(",")] if "," in row else row.split()


def entry(row: Any, key: str) -> object:  # noqa: ANN401  # whatever JSON holds
    """What a row of JSON says under a key that must be there.

    Raises:
        ValueError: if there is none.
    """
    if not isinstance(row, dict):
        raise ValueError(f"it is {shown(row)}, not an object")
    if key not in row:
        raise ValueError(f"no entry '{key}'")
    return row[key]

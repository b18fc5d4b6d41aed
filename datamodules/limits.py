"""Bounds of options that a stranger's recipe or checkpoint may set."""

from __future__ import annotations

MOST_CLASSES = 10_000


def require_between(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value beyond any use, before memory or processes are asked for in its name.

    Args:
        name: of the option.
        value: its value.
        low: least value that is allowed.
        high: largest one.

    Raises:
        ValueError: the value is out of the range.
    """
    if not low <= value <= high:
        raise ValueError(f"{name} must be {low:g} to {high:g}, got {value}")

"""Parameters of losses that are checked before they turn a gradient round."""

import math


def in_range(name: str, value: float, low: float, high: float = math.inf, above: bool = False) -> float:
    """Return a parameter that is in its range.

    Args:
        name: of the parameter.
        value: its value, finite.
        low: least value.
        high: largest value.
        above: whether `low` itself is out of the range.

    Raises:
        ValueError: it is not in its range, or no number.
    """
    if math.isinf(value) or not (low < value if above else low <= value) or not value <= high:
        most = "" if math.isinf(high) else f" and at most {high:g}"
        raise ValueError(f"{name} is {value}, but must be {'above' if above else 'at least'} {low:g}{most}")
    return value

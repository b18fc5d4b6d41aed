"""A count for what takes long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from lightning.pytorch.utilities import rank_zero_only

Item = TypeVar("Item")

_show = rank_zero_only(print)


def announced(items: Iterable[Item], count: int, what: str) -> Iterator[Item]:
    """Pass the items on, and say every second how many there were, once it has taken two.

    Args:
        items: `count` of them.
        count: their number.
        what: what is done with them, such as "checking images".
    """
    shown, next_time = False, time.monotonic() + 2
    for k, item in enumerate(items, start=1):
        yield item
        if time.monotonic() > next_time or (shown and k == count):
            shown, next_time = True, time.monotonic() + 1
            end = "\n" if k == count else ""
            _show(f"\r{what}: {k} of {count}", end=end, file=sys.stderr, flush=True)

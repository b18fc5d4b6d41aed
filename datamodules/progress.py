"""A line on stderr for what takes long: how far it is, how fast, and how long it still takes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

Item = TypeVar("Item")


class Progress(tqdm):  # type: ignore[misc]
    """tqdm's line: on a terminal anew five times a second, elsewhere every 15 s."""

    monitor_interval = 0  # no thread, beside which worker processes would be forked

    def __init__(self, *args: Any, **options: Any) -> None:
        seconds = 0.2 if sys.stderr.isatty() else 15
        super().__init__(*args, mininterval=seconds, miniters=1, dynamic_ncols=True, **options)


def progress_bar(items: Iterable[Item], count: int, what: str) -> Iterable[Item]:
    """Pass the items on; on rank 0, show how many there were, on a terminal after two seconds.

    Args:
        items: `count` of them.
        count: their number.
        what: what is done with them, such as "checking images".
    """
    shown: Iterable[Item] = Progress(items, desc=what, total=count, delay=2, disable=rank_zero_only.rank != 0)  # type: ignore[attr-defined]
    return shown


def byte_progress(what: str, done: int, total: int) -> Progress:
    """A context in which `update(count)` counts bytes.

    Args:
        what: what is going on.
        done: bytes that were there before.
        total: bytes in the end.
    """
    return Progress(desc=what, initial=done, total=total, unit="B", unit_scale=True)

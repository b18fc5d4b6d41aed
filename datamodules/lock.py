"""A lock between processes that ends with its holder, however that ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def locked(target: Path, on_wait: Callable[[], object]) -> Iterator[None]:
    """Hold the lock of a file or folder; the lock is a hidden file beside it, which stays.

    Args:
        target: what is locked; its parent folder must exist.
        on_wait: called once if another process holds the lock.
    """
    with target.with_name(f".{target.name}.lock").open("w") as file:
        waiting = False
        while not _try_lock(file):
            if not waiting:
                on_wait()
            waiting = True
            time.sleep(0.2)
        yield


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[str]) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[str]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

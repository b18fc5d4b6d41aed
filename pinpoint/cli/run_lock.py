"""One training a run folder: two would write each other's checkpoints and curves."""

from __future__ import annotations

import errno
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

NAME = ".running"
"""Of the locked file, which says whose the run is and stays when its process is gone, unlocked."""


@contextmanager
def sole_user(folder: Path | None) -> Iterator[None]:
    """Train in a run folder that no other process trains in.

    The lock is one of POSIX, which ends with this process, however it ends: workers that are forked from it,
    and outlive it for seconds after a kill, do not keep it. On Windows there is none.

    Args:
        folder: is made; None for no folder, or in a process that writes nothing.

    Raises:
        ValueError: another process trains there.
    """
    if folder is None or sys.platform == "win32":
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / NAME).open("a+b", buffering=0)
    except OSError as error:
        _warn(folder, error)
        yield
        return
    with file:  # until the end: closing any other handle of this file here would end the lock, too
        try:
            _lock(file)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                _warn(folder, error)
            else:
                file.seek(0)
                whose = file.read().decode(errors="replace").strip() or "another process"
                raise ValueError(
                    f"{whose} is training in {folder}: wait for its end, stop it, or train in another, in "
                    "which --new_version=true goes on with a checkpoint"
                ) from None
        else:
            with suppress(OSError):  # a disk that is full
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield


def _lock(file: IO[bytes]) -> None:
    import fcntl  # not on Windows

    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _warn(folder: Path, error: OSError) -> None:
    warnings.warn(
        f"{folder} cannot be locked ({error.strerror}): a second training in it would not be noticed",
        stacklevel=3,
    )

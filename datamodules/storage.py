"""What processes need that share a disk: locks that end with their holder, and room."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

STRANGERS = 10
"""Names of a folder that are tried before others are said to have taken them all."""


@contextmanager
def locked(target: Path, on_wait: Callable[[], object]) -> Iterator[None]:
    """Hold the lock of a file or folder; the lock is a hidden file beside it, which stays.

    Args:
        target: what is locked; its parent folder must exist.
        on_wait: called once if another process holds the lock.
    """
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        on_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


if sys.platform == "win32":
    import msvcrt

    def try_lock(file: IO[Any]) -> bool:
        """Take the lock of an open file alone; False if another process has it."""
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def share_lock(file: IO[Any]) -> None:
        """Do nothing: Windows keeps open files from being removed."""

else:
    import fcntl

    def try_lock(file: IO[Any]) -> bool:
        """Take the lock of an open file alone; False if another process has it, or shares it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def share_lock(file: IO[Any]) -> None:
        """Take part in the lock of an open file, with all others that share it, until it is closed."""
        fcntl.flock(file, fcntl.LOCK_SH)


def own_folder(parent: Path, name: str) -> Path:
    """A folder that this user alone can write to and read, within one where everybody may make some.

    Who made a folder there in our name first may have put links or files into it: it is passed over, and
    `NAME-1`, `NAME-2` and so on are tried, by all processes in the same order. What is ours nobody else can
    exchange, as such places have the sticky bit.

    Args:
        parent: the shared folder, such as /dev/shm.
        name: of the folder.

    Raises:
        OSError: none can be had.
    """
    for number in range(STRANGERS):
        folder = parent / (f"{name}-{number}" if number else name)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()  # not stat, which follows links
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            folder.chmod(0o700)
            return folder
    raise OSError(f"others have made {name} and {STRANGERS - 1} folders like it in {parent}")


def require_space(folder: Path, needed: int) -> None:
    """Fail now, not when the disk is full.

    Args:
        folder: a folder on the disk.
        needed: bytes.

    Raises:
        OSError: if fewer bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"it needs {needed / 1e9:.2f} GB, and the disk has {free / 1e9:.2f} GB left")

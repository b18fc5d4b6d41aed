"""Checkpoint files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its target, to the disk, and only then in the place of the one before.

    A file that cannot be written costs a warning, not the run: the one before stays as it is. Only the first
    rank writes, and the others could not be told of an exception.

    Attributes:
        failure: why the last checkpoint was not written; None if it was.
    """

    def __init__(self) -> None:
        self.failure: OSError | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Write a checkpoint, or warn.

        Args:
            checkpoint: what `torch.save` takes.
            path: a local file, or an address such as s3://, which goes Lightning's way.
            storage_options: none are known.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        try:
            write_whole(checkpoint, Path(path))
            self.failure = None
        except OSError as error:
            self.failure = error
            kept = "the one before is kept" if Path(path).is_file() else "there is none yet"
            rank_zero_warn(f"{path} cannot be written ({error.strerror or error}): {kept}")


def write_whole(content: dict[str, Any], path: Path) -> None:
    """Write a file of `torch.save`, so that a kill or a full disk at any time leaves the one before.

    Args:
        content: what `torch.save` takes.
        path: the file; its folder is made.

    Raises:
        OSError: it cannot be written; what was there is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")  # beside it: a rename works within a file system alone
    try:
        with unfinished.open("wb") as file:
            try:
                torch.save(content, file)
            except RuntimeError as error:  # torch hides the system's own error behind one of its writer
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # a rename is on the disk when its folder is
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

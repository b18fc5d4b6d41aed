"""Files that are there whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def draft_of(path: Path, ending: str = "") -> Path:
    """Where a file is written before it gets its name, which may be as long as names can be."""
    digest = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return path.with_name(f".{digest}.part{ending}")


def write_whole(path: Path, content: bytes | str | Iterable[str]) -> None:
    """Write a file beside its place, then move it there: a reader or a crash never sees a part of it.

    Args:
        path: file to write; its folder is made.
        content: bytes, a text, or the parts of a text.

    Raises:
        OSError: it cannot be written, with its name; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    try:
        if isinstance(content, bytes):
            draft.write_bytes(content)
        else:
            # File names may hold any byte, of which Python makes letters that no encoding has.
            with draft.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.writelines([content] if isinstance(content, str) else content)
        os.replace(draft, path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        # A full disk names no file at all, and nobody knows the draft.
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(draft)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise

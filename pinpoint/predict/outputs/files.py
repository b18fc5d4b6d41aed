"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: Path, content: bytes | str | Iterable[str]) -> None:
    """Write a file beside its place, then move it there: a reader or a crash never sees a part of it.

    Args:
        path: file to write; its folder is made.
        content: bytes, a text, or the parts of a text.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    try:
        if isinstance(content, bytes):
            draft.write_bytes(content)
        else:
            # File names may hold any byte, of which Python makes letters that no encoding has.
            with draft.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.writelines([content] if isinstance(content, str) else content)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise

"""A check sum at the end of an exported file: a flipped bit in its weights would go unnoticed otherwise.

The end of an ONNX file is one more entry of its metadata, that of an OpenVINO file a comment, so that every
other reader takes the files as before. A torch.export file has check sums of its own, see `detector.intact`.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

NAME = b"pinpoint.sha256"
DIGITS = 64
"""Hexadecimal ones of SHA-256."""

ENTRY = b"\x0a" + bytes([len(NAME)]) + NAME + b"\x12" + bytes([DIGITS])
"""How a pair of ONNX's metadata begins in protobuf: field 1 is the key, field 2 a text of as many letters."""

SEALS = {
    ".onnx": (b"\x72" + bytes([len(ENTRY) + DIGITS]) + ENTRY, b""),  # field 14 of the model: one more pair
    ".xml": (b"<!-- " + NAME + b" ", b" -->\n"),
}
"""What stands before and after the digits, by the ending of the file."""


def seal(path: Path) -> None:
    """Append the check sum of a file, and of OpenVINO's weights beside it.

    Args:
        path: .onnx or .xml, as its runtime's own writer left it.
    """
    before, after = SEALS[path.suffix.lower()]
    digits = _digits(path.read_bytes(), path)
    with path.open("ab") as file:
        file.write(before + digits + after)


def require_unchanged(path: Path) -> None:
    """Compare a file with its check sum; one without, as of another tool, passes.

    Raises:
        ValueError: it has changed since it was written.
    """
    before, after = SEALS[path.suffix.lower()]
    content = path.read_bytes()
    sealed = re.search(re.escape(before) + rb"([0-9a-f]{%d})" % DIGITS + re.escape(after) + rb"\Z", content)
    if sealed and sealed[1] != _digits(content[: sealed.start()], path):
        raise ValueError(
            f"{path} has changed since export.py wrote it, or the weights beside it: fetch or export it "
            f"again; if another tool changed it on purpose, take the entry {NAME.decode()} out of it"
        )


def _digits(content: bytes, path: Path) -> bytes:
    weights = path.with_suffix(".bin").read_bytes() if path.suffix.lower() == ".xml" else b""
    return sha256(content + weights).hexdigest().encode()

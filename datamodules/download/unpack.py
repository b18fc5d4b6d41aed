"""Zip archives that nobody vouches for, unpacked safely.

`zipfile` checks the CRC-32 of every file, and gives no more of it than its header says.
"""

from __future__ import annotations

import errno
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

from datamodules.problems import DataError
from datamodules.progress import Progress, byte_progress
from datamodules.storage import require_space

MAX_RATIO = 20
"""An archive that grows more when unpacked is a bomb: photographs do not grow, text grows four times."""

MAX_FILES = 1_000_000

SAFE_NAME = re.compile(r"[\w.+() -]*[\w)-]")
"""A part of a path that means the same on every system: no `..`, colon, backslash, or dot at the end."""

DEVICE_NAME = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""What Windows takes for a device, in any folder."""

CHUNK = 1 << 16
BLOCK = 4096
"""Bytes that a small file takes on most disks."""


def extract(archive: Path, folder: Path) -> None:
    """Unpack an archive as a folder, which appears whole or not at all.

    Only plain files with harmless names are written, with the rights that new files have. A top folder that
    holds everything is left out, of whatever name, and so is what macOS adds.

    Args:
        archive: the zip archive.
        folder: folder to make; may be there if it is empty.

    Raises:
        DataError: if the archive is damaged, encrypted or empty, is a bomb, or holds an unsafe path, a
            link or a device.
        OSError: if the disk is full or cannot be written.
    """
    unfinished = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    try:
        with _damage_reported(archive), zipfile.ZipFile(archive) as file:
            members = _members(archive, file.infolist())
            total = sum(info.file_size for info in members.values())
            require_space(folder.parent, total + BLOCK * len(members))
            with byte_progress(f"unpacking {archive.name}", 0, total) as progress:
                for path, info in members.items():
                    with file.open(info) as source:
                        _write(source, unfinished / path, info.file_size, progress)
        if folder.is_dir():
            folder.rmdir()
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def _damage_reported(archive: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, OSError) as error:
        # "Invalid" is a place in the archive outside of it; the system's other errors are the disk's.
        if isinstance(error, DataError) or (isinstance(error, OSError) and error.errno != errno.EINVAL):
            raise
        reason = str(error) or "it ends early"
        raise DataError(f"{archive} is damaged ({reason}): delete it and run again") from error


def _members(archive: Path, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The files to unpack, by their path without a top folder that holds them all."""

    def refuse(reason: str) -> NoReturn:
        raise DataError(
            f"{archive} is not unpacked, because {reason}: delete it and get it from a source that you trust"
        )

    files: list[tuple[list[str], zipfile.ZipInfo]] = []
    for info in infos:
        parts = info.filename.removesuffix("/").split("/")
        if not all(SAFE_NAME.fullmatch(part) and not DEVICE_NAME.fullmatch(part) for part in parts):
            refuse(f"the path {info.filename!r} in it is unsafe")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            refuse(f"{info.filename!r} in it is a link or a device")
        if info.flag_bits & 1:
            refuse(f"{info.filename!r} in it is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            refuse(f"{info.filename!r} in it is not deflated")  # zipfile reads other kinds without a bound
        if not info.is_dir() and parts[0] != "__MACOSX":
            files.append((parts, info))
    if not files:
        refuse("there are no files in it")
    total, packed = sum(info.file_size for _, info in files), archive.stat().st_size
    if total > MAX_RATIO * packed or len(files) > MAX_FILES:
        refuse(f"its {packed} bytes would become {total} bytes in {len(files)} files")
    tops = {parts[0] for parts, _ in files}
    skip = 1 if len(tops) == 1 and all(len(parts) > 1 for parts, _ in files) else 0
    members = {"/".join(parts[skip:]): info for parts, info in files}
    if len({path.casefold() for path in members}) < len(files):
        refuse("two files in it have the same path")
    return members


def _write(source: IO[bytes], path: Path, size: int, progress: Progress) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        while chunk := source.read(CHUNK):
            file.write(chunk)
            progress.update(len(chunk))
        if file.tell() != size:
            raise zipfile.BadZipFile(f"{path.name} has {file.tell()} bytes, not {size} as its header says")

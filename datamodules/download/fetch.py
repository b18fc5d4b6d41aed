"""Data sets from the internet: an archive is fetched, checked and unpacked, once.

`torch.hub.download_url_to_file` and `torchvision.datasets.utils` start again after an interruption, and
`http_get` of huggingface_hub, which is internal, goes on even if the file has changed since. So this is the
standard library's urllib.
Source: RFC 9110, sections 13.1.5 (If-Range), 14 (Range) and 15.5.17 (status 416).
"""

from __future__ import annotations

import hashlib
import re
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from datamodules.download.unpack import extract
from datamodules.problems import DataError
from datamodules.progress import byte_progress
from datamodules.storage import locked, require_space

WAITS = (1, 2, 4, 8, 16)
"""Seconds before each new try, as long as tries bring nothing new."""

TIMEOUT = 30.0
"""Seconds without an answer, or without a byte, after which a connection counts as broken."""

CHUNK = 1 << 16

TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
"""Statuses of servers that may do better in a moment."""


class Unavailable(Exception):
    """A file cannot be had from its address; the message says why."""


class _Broken(Exception):
    """A download stopped in a way that another try may mend."""


class _Unreachable(_Broken):
    """There is no connection to the server."""


def provide(url: str, folder: Path, layout: str) -> None:
    """Fetch an archive and unpack it as a folder, unless that is there.

    The folder appears whole or not at all. The archive is deleted once it is unpacked; one that somebody
    put beside the folder is used instead, and kept. Its SHA-256 stays beside the folder, and an archive
    that comes later must have the same. Of several processes, also of machines that share the disk, one
    does the work while the others wait.

    Args:
        url: address of the zip archive.
        folder: folder to make; the archive lies beside it, under its own name.
        layout: what the folder holds, for those who have to fill it by hand.

    Raises:
        DataError: if the archive cannot be had, differs from the one before, is damaged or unsafe, or if
            the disk is full or cannot be written.
    """
    if _is_filled(folder):
        return
    archive = folder.with_name(url.rpartition("/")[2])
    by_hand = f"put it at {archive}, or unpack it as {folder}, which then holds {layout}"
    with _alone(url, folder, by_hand):
        if _is_filled(folder):
            return
        found = archive.exists()
        if not found:
            fetch(url, archive)
        digest = _check_digest(archive)
        extract(archive, folder)
        _keep_digest(archive, digest)
        if not found:
            archive.unlink()


def provide_file(url: str, file: Path, notice: str) -> Path:
    """Fetch a zip archive that stays packed, as torch's files of weights are, unless it is there.

    What `provide` says of digests and processes holds here too.

    Args:
        url: address of the file.
        file: where it shall be.
        notice: what to say of it when it has come, for example its licence.

    Returns:
        `file`.

    Raises:
        DataError: if the file cannot be had, or differs from the one before, or the disk is full.
    """
    with _alone(url, file, f"put it at {file}"):
        found = file.exists()
        if not found:
            fetch(url, file)
        _keep_digest(file, _check_digest(file))
        if not found:
            _say(notice)
    return file


@contextmanager
def _alone(url: str, target: Path, by_hand: str) -> Iterator[None]:
    """Make a file or folder while other processes wait; what stops it is reported with what to do."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target, lambda: _say(f"another process fetches {target}: waiting for it")):
            yield
    except Unavailable as error:
        raise DataError(
            f"{url} could not be fetched ({error}): fetch it by other means and {by_hand}"
        ) from error
    except OSError as error:
        raise DataError(
            f"{target} could not be made ({error}): make room or choose another folder; what has been "
            "fetched stays, and the next run goes on from there"
        ) from error


def fetch(url: str, archive: Path) -> None:
    """Download a zip archive, going on where an earlier call was interrupted.

    What has come lies in `NAME.part`, and the server's mark of the file's version in `NAME.part.etag`: only
    bytes of the same version are added to a part.

    Args:
        url: address of the archive.
        archive: file to write; appears once it is complete.

    Raises:
        Unavailable: if the address is wrong, the server out of reach, what it sends not a complete zip
            archive, or the connection broken again and again without progress.
        OSError: if the disk is full or cannot be written.
    """
    part, version = _beside(archive, ".part"), _beside(archive, ".part.etag")
    most, tries, failures = _size(part), 0, 0
    try:
        while True:
            try:
                _continue(url, part, version)
                break
            except _Broken as error:
                # Progress is what no try had before: where each starts again and breaks, there is none.
                failures = 1 if _size(part) > most else failures + 1
                most, tries = max(most, _size(part)), tries + 1
                if failures > len(WAITS) or (tries == 1 and isinstance(error, _Unreachable)):
                    raise Unavailable(str(error)) from error
                wait = WAITS[failures - 1]
                _say(f"{archive.name}: {error}; next try in {wait} s")
                time.sleep(wait)
    except KeyboardInterrupt:
        _say(f"{part} keeps what has come: the next run goes on from there")
        raise
    if not zipfile.is_zipfile(part):  # a log-in page of the network, or less of the file than there is
        with part.open("rb") as file:
            start = file.read(16)
        part.unlink()
        raise Unavailable(f"what came is not a complete zip archive; it begins with {start!r}")
    part.replace(archive)
    version.unlink(missing_ok=True)


def _continue(url: str, part: Path, version: Path) -> None:
    """Download what a part lacks; all of the file, if it has changed."""
    done, known = _size(part), version.read_text() if version.exists() else ""
    headers = {"User-Agent": "pinpoint"}  # some servers refuse urllib's own
    if done and known:
        headers |= {"Range": f"bytes={done}-", "If-Range": known}
    with _open(url, headers) as response:
        if isinstance(response, HTTPError):
            if response.headers.get("Content-Range") == f"bytes */{done}":
                return  # killed after the last byte
            part.unlink(missing_ok=True)
            raise _Broken("the file has become shorter")
        found = _version(response.headers)
        if response.status == 206:
            start, total = _content_range(response.headers)
            if (start, found) != (done, known):
                part.unlink(missing_ok=True)
                raise _Broken("the server sent another part than it was asked for")
        else:
            done, total = 0, _content_length(response.headers)
        require_space(part.parent, 2 * total - done)  # unpacked images take as much again
        with part.open("ab" if done else "wb") as file, byte_progress(part.stem, done, total) as progress:
            version.write_text(found)  # after the old part was emptied, before the new one begins
            for chunk in _chunks(response):
                file.write(chunk)
                progress.update(len(chunk))
    if _size(part) != total:
        raise _Broken(f"the connection broke after {_size(part)} of {total} bytes")


def _open(url: str, headers: dict[str, str]) -> HTTPResponse | HTTPError:
    """The answer to a request, an `HTTPError` for status 416 alone.

    urllib follows redirects, and repeats the headers to the address that it is sent to.
    """
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
        return response
    except HTTPError as error:
        if error.code == 416:
            return error
        error.close()
        answer = f"the server answers {error.code} {error.reason}"
        raise (_Broken if error.code in TRANSIENT else Unavailable)(answer) from error
    except URLError as error:
        raise _Unreachable(f"no connection: {error.reason}") from error
    except (ValueError, InvalidURL) as error:
        raise Unavailable(str(error)) from error
    except (OSError, HTTPException) as error:
        raise _Broken(f"no answer: {error}") from error


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    try:
        # Not `read`: it waits for a whole chunk, and loses the beginning of one when the connection breaks.
        while chunk := response.read1(CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _Broken(f"the connection broke ({error})") from error


def _version(headers: Message) -> str:
    """A mark that changes with every byte of the file (a "strong validator"); empty if there is none."""
    tag: str = headers.get("ETag", "")
    return headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag


def _content_length(headers: Message) -> int:
    length: str = headers.get("Content-Length", "")
    if not length.isdecimal():
        raise Unavailable("the server does not say how long the file is")
    return int(length)


def _content_range(headers: Message) -> tuple[int, int]:
    """Position of the first byte sent, and length of the whole file; -1 if the header is malformed."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
    return (int(match[1]), int(match[2])) if match else (-1, -1)


def _check_digest(archive: Path) -> str:
    """SHA-256 of an archive, compared with that of the one before, if there was one."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    note = _beside(archive, ".sha256")
    known = note.read_text().partition(" ")[0] if note.exists() else digest
    if known != digest:
        raise DataError(
            f"{archive} has the SHA-256 {digest}, but the one before had {known}: if its publisher changed "
            f"it, delete {note} (scores may not compare with earlier ones), otherwise delete {archive.name}, "
            "and run again"
        )
    return digest


def _keep_digest(archive: Path, digest: str) -> None:
    _beside(archive, ".sha256").write_text(f"{digest}  {archive.name}\n")  # as sha256sum does


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _beside(archive: Path, suffix: str) -> Path:
    return archive.with_name(archive.name + suffix)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)

"""An archive of a small data set, and what a download of it leaves."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from loopback import Site

from datamodules.download.fetch import provide
from datamodules.problems import DataError

ROOT = Path(__file__).parents[1]
LAYOUT = "images/*.jpg"
NOISE = np.random.default_rng(0).bytes(300_000)
FILES = {"images/a.jpg": NOISE, "annotations/a.txt": b"1,2,3,4,1,4,0,0\n"}


def zipped(files: dict[str, bytes], top: str = "set/") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(top + name, content)
    return buffer.getvalue()


ARCHIVE = zipped(FILES)
HALF = len(ARCHIVE) // 2


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def fails(site: Site, folder: Path) -> str:
    """Provide what cannot be provided; returns the message."""
    with pytest.raises(DataError) as caught:
        provide(site.url, folder, LAYOUT)
    assert not folder.exists()
    assert not [path for path in folder.parent.iterdir() if path.is_dir()]
    return str(caught.value)

"""Archives that are evil, or only unusual."""

import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from archives import ARCHIVE, FILES, NOISE, content, names, zipped

from datamodules.download import unpack
from datamodules.download.unpack import extract
from datamodules.problems import DataError
from datamodules.progress import Progress

# Archives that are evil, or only unusual


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "set.zip"


def refused(archive: Path, tmp_path: Path) -> str:
    before = names(tmp_path)
    with pytest.raises(DataError) as caught:
        extract(archive, tmp_path / "set")
    assert names(tmp_path) == before
    assert str(archive) in str(caught.value)
    assert "delete it" in str(caught.value)
    return str(caught.value)


PATHS = ["../x", "a/../../x", "..", "/x", "C:/x", "C:x", "..\\x", "a//x", "x.", "x ", "./x"]
CONTROLS = ["a\nb", "a\x1b[2J"]
DEVICES = ["nul", "a/COM1.jpg"]


@pytest.mark.parametrize("name", PATHS + CONTROLS + DEVICES)
def test_unsafe_paths(archive, tmp_path, name):
    archive.write_bytes(zipped({"images/a.jpg": b"", name: b"evil"}, top=""))
    assert "is unsafe" in refused(archive, tmp_path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices(archive, tmp_path, kind):
    info = zipfile.ZipInfo("images/a.jpg")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(info, "/etc/passwd")
    assert "link or a device" in refused(archive, tmp_path)


def test_rights_are_not_taken_over(archive, tmp_path):
    info = zipfile.ZipInfo("images/a.jpg")
    info.external_attr = (stat.S_IFREG | 0o7777) << 16
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(info, "x")
        file.writestr("b", "x")
    extract(archive, tmp_path / "set")
    assert not (tmp_path / "set" / "images" / "a.jpg").stat().st_mode & 0o7111


def test_bomb(archive, tmp_path):
    archive.write_bytes(zipped({"images/a.jpg": bytes(10**7)}))
    assert "would become 10000000 bytes" in refused(archive, tmp_path)


def test_too_many_files(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "MAX_FILES", 1)
    archive.write_bytes(ARCHIVE)
    assert "in 2 files" in refused(archive, tmp_path)


def with_header(content: bytes, local: int, central: int, form: str, value: int) -> bytes:
    """Change a field of the only file's two headers, at its offset in each."""
    data = bytearray(content)
    for signature, offset in ((b"PK\3\4", local), (b"PK\1\2", central)):
        struct.pack_into(form, data, data.index(signature) + offset, value)
    return bytes(data)


@pytest.mark.parametrize("claimed", [1000, 2 * 10**6])
def test_a_header_that_lies_about_the_size(archive, tmp_path, monkeypatch, claimed):
    # 1 MB of zeros that says it has 1 kB, or 2 MB: never more than it says is written, and it is found out.
    monkeypatch.setattr(unpack, "MAX_RATIO", 10**6)
    archive.write_bytes(with_header(zipped({"a": bytes(10**6)}), 22, 24, "<I", claimed))
    written = []
    monkeypatch.setattr(Progress, "update", lambda self, count: written.append(count))
    assert "is damaged" in refused(archive, tmp_path)
    assert sum(written) <= min(claimed, 10**6)


def test_encrypted(archive, tmp_path):
    archive.write_bytes(with_header(zipped({"a": b"x"}), 6, 8, "<H", 1))
    assert "is encrypted" in refused(archive, tmp_path)


def test_unusual_packing(archive, tmp_path):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a", "x")
    assert "is not deflated" in refused(archive, tmp_path)


def test_paths_that_only_differ_in_case(archive, tmp_path):
    archive.write_bytes(zipped({"a.jpg": b"1", "A.jpg": b"2"}))
    assert "same path" in refused(archive, tmp_path)


def test_a_file_that_is_a_folder_too(archive, tmp_path):
    archive.write_bytes(zipped({"a": b"1", "a/b": b"2"}))
    with pytest.raises(OSError, match="a"):
        extract(archive, tmp_path / "set")
    assert names(tmp_path) == ["set.zip"]


def test_nothing_in_it(archive, tmp_path):
    archive.write_bytes(zipped({}))
    assert "no files" in refused(archive, tmp_path)


def test_damaged_content(archive, tmp_path):
    # One byte of a stored file: only its checksum shows it.
    archive.write_bytes(ARCHIVE.replace(NOISE[1000:1010], bytes(10)))
    assert "is damaged (Bad CRC-32" in refused(archive, tmp_path)


@pytest.mark.parametrize("top", ["", "set/", "VisDrone2019 (1)/", "images/"])
def test_a_top_folder_of_any_name_or_none(archive, tmp_path, top):
    archive.write_bytes(zipped(FILES, top))
    extract(archive, tmp_path / "set")
    assert content(tmp_path / "set") == FILES


def test_a_single_file_is_no_top_folder(archive, tmp_path):
    archive.write_bytes(zipped({"a.jpg": NOISE}, top=""))
    extract(archive, tmp_path / "set")
    assert content(tmp_path / "set") == {"a.jpg": NOISE}


def test_what_macos_adds_is_left_out(archive, tmp_path):
    archive.write_bytes(zipped({f"set/{name}": data for name, data in FILES.items()}, top=""))
    with zipfile.ZipFile(archive, "a") as file:
        file.mkdir("set/empty")
        file.writestr("__MACOSX/set/._a.jpg", "x")
    extract(archive, tmp_path / "set")
    assert content(tmp_path / "set") == FILES


def test_fuzzed_archives(archive, tmp_path):
    # Each either unpacks, or gives one message; nothing lands outside the folder.
    rng = np.random.default_rng(0)
    original = np.frombuffer(zipped({"images/a.jpg": NOISE[:200], "b.txt": b"1,2" * 50}), np.uint8)
    failed = 0
    (tmp_path / "out").mkdir()
    for _ in range(300):
        data = original.copy()
        data[rng.integers(0, len(data), rng.integers(1, 6))] = rng.integers(0, 256)
        archive.write_bytes(data.tobytes())
        try:
            extract(archive, tmp_path / "out" / "set")
        except DataError:
            failed += 1
        else:
            unpack.shutil.rmtree(tmp_path / "out" / "set")
        assert names(tmp_path) == ["out", "set.zip"]
        assert names(tmp_path / "out") == []
    assert 100 < failed < 300

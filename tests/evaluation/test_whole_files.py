"""Files that are there whole or not at all."""

import errno
import re
from pathlib import Path

import pytest
from full_disk import full_disk

from evaluation.files import write_whole


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def parts():
        yield "half"
        raise OSError(errno.ENOSPC, "full")

    path = tmp_path / "a.txt"
    write_whole(path, "before")
    with pytest.raises(OSError, match=re.escape(f"[Errno {errno.ENOSPC}] full: '{path}'")):
        write_whole(path, parts())
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("content", ["a text", b"bytes", ["parts of ", "a text"]])
def test_a_full_disk_is_said_with_the_name_of_the_file(tmp_path: Path, content) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "before")
    with pytest.raises(OSError, match=re.escape(f"'{path}'")), full_disk():
        write_whole(path, content)
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_is_not_to_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    (tmp_path / "a.txt" / "in it").touch()
    with pytest.raises(OSError, match=re.escape(f"'{tmp_path / 'a.txt'}'")):  # not that of the draft
        write_whole(tmp_path / "a.txt", "text")
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_errors_of_other_files_keep_their_names(tmp_path: Path) -> None:
    def parts():
        yield (tmp_path / "gone").read_text()

    with pytest.raises(FileNotFoundError, match="gone"):
        write_whole(tmp_path / "a.txt", parts())

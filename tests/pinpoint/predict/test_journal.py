"""What is done stays done, whatever happened between."""

from pathlib import Path

import numpy as np
import pytest

from pinpoint.predict.found import HIDDEN, Found
from pinpoint.predict.journal import NAME, Journal

ARGUMENTS = {"threshold": [0.1, 0.25], "tile": None}


def one(path: str, frame: int | None = None, tracks: list[int] | None = None) -> Found:
    numbers = None if tracks is None else np.array(tracks)
    boxes = np.array([[0.1, 0.2, 1 / 3, 4e5], [1, 2, 3, 4]], np.float32)
    scores = np.array([0.7, 0.1], np.float32)
    return Found(path, Path(path).stem, (7, 9), boxes, scores, np.array([1, 0]), numbers, frame)


def test_numbers_survive_to_the_last_bit(tmp_path: Path) -> None:
    with Journal(tmp_path, ARGUMENTS) as journal:
        journal.add(one("a.jpg", tracks=[5, HIDDEN]))
        (read,) = journal.everything()
        (shown,) = journal
    for name in ("boxes", "scores", "labels", "tracks"):
        expected = getattr(one("a.jpg", tracks=[5, HIDDEN]), name)
        np.testing.assert_array_equal(getattr(read, name), expected)
        assert getattr(read, name).dtype == expected.dtype
        np.testing.assert_array_equal(getattr(shown, name), expected[:1])
    assert (read.path, read.name, read.size, read.frame) == ("a.jpg", "a", (7, 9), None)


def test_a_later_call_knows_what_is_done(tmp_path: Path) -> None:
    with Journal(tmp_path, ARGUMENTS) as journal:
        journal.add(one("a.jpg"))
        journal.add(one("clip.mp4", frame=0))
        journal.end("clip.mp4", "clip")
        journal.add(one("long.mp4", frame=0))  # killed here
    with (tmp_path / NAME).open("a") as file:
        file.write('{"path": "b.jpg", "name": "b", "si')
    with Journal(tmp_path, ARGUMENTS) as journal:
        assert journal.done == {"a.jpg": "a", "clip.mp4": "clip"}
        journal.add(one("b.jpg"))
        assert [found.path for found in journal] == ["a.jpg", "clip.mp4", "b.jpg"]
    assert len((tmp_path / NAME).read_text().splitlines()) == 5  # head, three, end of the video


def test_what_was_said_of_a_video_is_said_again(tmp_path: Path) -> None:
    with Journal(tmp_path, ARGUMENTS) as journal:
        journal.end("clip.mp4", "clip", "clip.mp4 ends early")
        journal.end("whole.mp4", "whole")
    with Journal(tmp_path, ARGUMENTS) as journal:
        assert journal.short == {"clip.mp4": "clip.mp4 ends early"}


def test_what_lacks_something_is_looked_at_again(tmp_path: Path) -> None:
    with Journal(tmp_path, ARGUMENTS) as journal:
        journal.add(one("clip.mp4", frame=0))
        journal.end("clip.mp4", "clip")
    with Journal(
        tmp_path, ARGUMENTS, lacks=lambda path, name: (path, name) == ("clip.mp4", "clip")
    ) as journal:
        assert not journal.done
        assert not list(journal)


def test_other_arguments_are_told(tmp_path: Path) -> None:
    with Journal(tmp_path, ARGUMENTS) as journal:
        journal.add(one("a.jpg"))
    other = ARGUMENTS | {"tile": 640}
    with pytest.raises(ValueError, match="tile 640, before none"):
        Journal(tmp_path, other)
    with Journal(tmp_path, ARGUMENTS) as journal:  # nothing was lost
        assert journal.done
    forgotten: list[str] = []
    with Journal(tmp_path, other, forget=forgotten.append) as journal:
        assert not journal.done
    assert forgotten == ["a"]


def test_a_file_of_that_name_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("my notes\n")
    with pytest.raises(ValueError, match="not of ours"):
        Journal(tmp_path, ARGUMENTS)
    assert (tmp_path / NAME).read_text() == "my notes\n"


def test_two_processes_do_not_write_to_one_folder(tmp_path: Path) -> None:
    with Journal(tmp_path, ARGUMENTS), pytest.raises(ValueError, match="another process"):
        Journal(tmp_path, ARGUMENTS)
    with Journal(tmp_path, ARGUMENTS):
        pass

"""What inputs stand for, and what their results are called."""

from pathlib import Path

import pytest

from pinpoint.predict.sources import Item, find_files, frame_name, name_items


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in (
        "a.jpg",
        "b.PNG",
        "clip.mp4",
        "notes.md",
        "._a.jpg",
        "deep/c.tif",
        "deep/a.jpg",
        "deep/d.mkv",
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


def items(*inputs: object, recursive: bool = False) -> list[Item]:
    return name_items(find_files([str(one) for one in inputs], recursive), {})


def names(*inputs: object, recursive: bool = False) -> list[str]:
    return [item.name for item in items(*inputs, recursive=recursive)]


def test_a_folder_with_and_without_its_subfolders(photos: Path) -> None:
    assert names(photos) == ["a", "b", "clip"]
    assert names(photos, recursive=True) == ["a", "b", "clip", "deep/a", "deep/c", "deep/d"]
    videos = [item.is_video for item in items(photos)]
    assert videos == [False, False, True]


def test_a_pattern(photos: Path) -> None:
    assert names(photos / "*.[jm]p*") == ["a", "clip"]
    assert names(photos / "**" / "*.jpg") == ["a", "deep/a"]


def test_a_name_with_brackets_is_no_pattern(photos: Path) -> None:
    (photos / "[1].jpg").touch()
    assert names(photos / "[1].jpg") == ["[1]"]


def test_a_list(photos: Path) -> None:
    listed = photos / "list.txt"
    listed.write_text(f"deep/c.tif\n\n{photos / 'a.jpg'}\ngone.jpg\n")
    assert [path.name for path in find_files([str(listed)])] == ["c.tif", "a.jpg", "gone.jpg"]
    (photos / "broken.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ValueError, match="one path a line"):
        find_files([str(photos / "broken.txt")])


def test_each_file_once_and_each_name_once(photos: Path) -> None:
    (photos / "a.png").touch()
    found = names(photos, photos / "a.jpg", photos / "deep" / "a.jpg")
    assert found == ["a", "a_png", "b", "clip", "deep/a"]
    assert len(set(names(photos, photos / "deep"))) == 7


def test_files_that_are_done_keep_their_names(photos: Path) -> None:
    done = {str(photos / "deep" / "a.jpg"): "a", str(photos / "b.PNG"): "b", "/elsewhere/clip.avi": "clip"}
    found = name_items(find_files([str(photos), str(photos / "deep" / "a.jpg")]), done)
    assert [item.name for item in found] == ["photos/a", "b", "clip_mp4", "a"]


def test_an_image_is_not_called_as_a_frame_is(photos: Path) -> None:
    for name in ("clip_000001.png", "clip_12.png", "other_000001.png"):
        (photos / name).touch()
    assert names(photos) == ["a", "b", "clip", "clip_000001_png", "clip_12", "other_000001"]
    assert names(photos / "clip_000001.png", photos / "clip.mp4") == ["clip_000001", "clip_mp4"]
    done = {str(photos / "clip_000001.png"): "clip_000001"}
    (item,) = name_items(find_files([str(photos / "clip.mp4")]), done)
    assert frame_name(item.name, 1) == "clip_mp4_000001"


def test_nothing_of_the_results_is_looked_at(photos: Path) -> None:
    results = photos / "deep"
    found = find_files([str(photos)], recursive=True, output=results)
    assert [path.name for path in found] == ["a.jpg", "b.PNG", "clip.mp4"]
    assert len(find_files([str(results)], output=results)) == 3  # asked for by name


def test_a_decoded_copy_is_no_image_of_its_own(photos: Path) -> None:
    (photos / "a.npy").touch()
    (photos / "other.npy").touch()
    assert names(photos) == ["a", "b", "clip", "other"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gone", "there is no file or folder"),
        ("notes.md", "no image, video, folder or .txt list by its name"),
        ("empty", "holds no images or videos; --recursive looks"),
        ("*.bmp", "holds no images or videos"),
    ],
)
def test_inputs_without_anything_in_them(photos: Path, given: str, message: str) -> None:
    (photos / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        find_files([str(photos / given)])

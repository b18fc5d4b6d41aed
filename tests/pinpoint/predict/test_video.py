"""Videos written and read back; those that are cut short."""

from collections import deque
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.problems import DataError
from pinpoint.predict.video import VideoFile, VideoWriter

pytest.importorskip("av")


def frame(t: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Grey that grows with time, a bright square that moves."""
    image = np.full((height, width, 3), 40 + 5 * t, np.uint8)
    image[10:20, 2 * t : 2 * t + 10] = 250
    return image


def write(path: Path, count: int = 20, height: int = 48, width: int = 64) -> Path:
    with VideoWriter(path, Fraction(10)) as video:
        for t in range(count):
            video.add(frame(t, height, width))
    return path


def test_frames_come_back(tmp_path: Path) -> None:
    video = VideoFile(write(tmp_path / "deep" / "clip.mp4"))
    assert (video.rate, video.expected) == (10, 20)
    read = list(video)
    assert len(read) == 20
    for t, image in enumerate(read):
        assert image.shape == (48, 64, 3)
        assert np.abs(image.astype(int) - frame(t)).mean() < 4
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["clip.mp4"]


def test_odd_sides_are_filled_up(tmp_path: Path) -> None:
    read = list(VideoFile(write(tmp_path / "clip.mp4", 3, 47, 63)))
    assert read[0].shape == (48, 64, 3)


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_what_a_phone_took_is_upright(tmp_path: Path, degrees: int) -> None:
    import av

    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(degrees)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame(1), format="rgb24")))
        container.mux(stream.encode())
    (read,) = VideoFile(tmp_path / "clip.mp4")
    assert read.shape == ((64, 48, 3) if abs(degrees) == 90 else (48, 64, 3))
    shown = cv2.VideoCapture(str(tmp_path / "clip.mp4")).read()[1]  # OpenCV turns by itself
    assert np.abs(read[..., ::-1].astype(int) - shown).mean() < 4
    with VideoWriter(tmp_path / "drawn.mp4", Fraction(10)) as video:
        video.add(read)
    (again,) = VideoFile(tmp_path / "drawn.mp4")
    assert np.abs(again.astype(int) - read).mean() < 4


def test_a_video_that_ends_early_gives_what_is_there(tmp_path: Path) -> None:
    import av

    whole = tmp_path / "whole.mp4"
    # The index at the front, as for streaming: a file cut short can still be opened.
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 1
        for t in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame(t % 20), format="rgb24")))
        container.mux(stream.encode())
    data = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    read: deque[np.ndarray] = deque()
    with pytest.raises(DataError, match=r"cut\.mp4 ends early: after \d+ of about 40 frames"):
        read.extend(VideoFile(tmp_path / "cut.mp4"))  # a deque keeps what came before the error
    assert 5 < len(read) < 35


def test_a_rate_that_varies_is_no_early_end(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for t, milliseconds in enumerate((0, 33, 66, 1000, 1033, 9000)):
            picture = av.VideoFrame.from_ndarray(frame(t), format="rgb24")
            picture.pts, picture.time_base = milliseconds, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    video = VideoFile(tmp_path / "clip.mkv")
    assert video.expected > 6
    assert len(list(video)) == 6


@pytest.mark.parametrize("content", [b"", b"no video at all" * 99, None])
def test_what_is_no_video(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="not exist" if content is None else "not a readable video"):
        VideoFile(path)


def test_a_video_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _interrupt(tmp_path / "clip.mp4")
    assert not list(tmp_path.iterdir())


def _interrupt(path: Path) -> None:
    with VideoWriter(path, Fraction(10)) as video:
        video.add(frame(0))
        raise KeyboardInterrupt

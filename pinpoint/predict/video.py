"""Videos, read and written frame by frame by PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.problems import DataError
from detector.exported import need
from evaluation.files import draft_of

CODECS = ("libx264", "mpeg4")
"""Encoders, the better one first; which there are depends on how FFmpeg was built."""

SHORT = 0.97
"""Share of the frames promised below which a video is said to end early: some formats give estimates."""


class VideoFile:
    """A video to be read.

    Args:
        path: the file.

    Attributes:
        rate: frames a second.
        expected: number of frames that the file promises; 0 if it does not say.

    Raises:
        DataError: it cannot be opened, or has no pictures in it.
        ValueError: PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.av = path, need("av", "video")
        try:
            self.container = self.av.open(str(path))
            self.stream = self.container.streams.video[0]
        except (self.av.error.FFmpegError, IndexError, OSError):
            missing = "is not a readable video" if path.exists() else "does not exist"
            raise DataError(f"{path} {missing}: restore or convert it") from None
        self.stream.thread_type = "AUTO"
        self.rate = Fraction(self.stream.average_rate or 25)
        self.seconds = float(self.container.duration or 0) / self.av.time_base
        self.expected = int(self.stream.frames or round(self.seconds * self.rate))

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Frames (H, W, 3) RGB, upright: turned as the file says, in steps of 90 degrees.

        Raises:
            DataError: after the last whole frame, if the file promises more.
        """
        count, end = 0, 0.0
        try:
            for frame in self.container.decode(self.stream):
                end = float(frame.time or 0)
                turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                yield np.ascontiguousarray(turned)
                count += 1
        except self.av.error.FFmpegError:
            self.expected = max(self.expected, count + 1)
        finally:
            self.container.close()
        if not count:
            raise DataError(f"{self.path} has no picture that can be decoded: restore or convert it")
        # Where the rate varies, and no number of frames is given, the time tells.
        whole = not self.stream.frames and end + 1 / self.rate >= SHORT * self.seconds
        if count < SHORT * self.expected and not whole:
            raise DataError(
                f"{self.path} ends early: after {count} of about {self.expected} frames, which were looked at"
            )


class VideoWriter:
    """Writes an MP4 file, which gets its name when it is complete.

    Args:
        path: the file; its folder is made.
        rate: frames a second.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.path, self.rate, self.av = path, rate, need("av", "video")
        self.draft = draft_of(path, ".mp4")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.container: Any = self.av.open(str(self.draft), "w", format="mp4")
        self.stream: Any = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self.stream is not None:
                self.container.mux(self.stream.encode())
            self.container.close()
            if error is None and self.stream is not None:
                os.replace(self.draft, self.path)
        except self.av.error.FFmpegError as failure:
            if error is None:
                raise OSError(getattr(failure, "errno", None), f"{self.path}: {failure}") from None
        finally:
            self.draft.unlink(missing_ok=True)

    def add(self, image: NDArray[np.uint8]) -> None:
        """Write a frame (H, W, 3) RGB; all of one size."""
        # Colours are stored for blocks of 2 x 2 pixels.
        image = cv2.copyMakeBorder(image, 0, image.shape[0] % 2, 0, image.shape[1] % 2, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
        try:
            if self.stream is None:
                self.stream = self._stream(image.shape[1], image.shape[0])
            self.container.mux(self.stream.encode(self.av.VideoFrame.from_ndarray(image, format="rgb24")))
        except self.av.error.FFmpegError as failure:
            raise OSError(getattr(failure, "errno", None), f"{self.path}: {failure}") from None

    def _stream(self, width: int, height: int) -> Any:  # noqa: ANN401  # of PyAV
        codec = next(name for name in CODECS if name in self.av.codecs_available)
        options = {"crf": "20", "preset": "veryfast"} if codec == "libx264" else {"qscale": "3"}
        stream = self.container.add_stream(codec, rate=self.rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        return stream

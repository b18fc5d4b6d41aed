"""What was found in an image or a frame, on its way to the files of all formats.

n detections of an image.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNTRACKED, HIDDEN = -1, -2
"""In the place of a track's number: it has none; or it is only kept for the tracker, and not shown."""


@dataclass(frozen=True, slots=True)
class Found:
    """The detections of one image, or of one frame of a video.

    Attributes:
        path: file that was looked at.
        name: what its results are called, with folders between slashes and without an ending.
        size: (height, width) in pixels.
        boxes: (n, 4) float32 xyxy pixels.
        scores: (n,) float32 in (0, 1].
        labels: (n,) int64 class indices.
        tracks: (n,) int64 number of the track, `UNTRACKED`, or `HIDDEN`; None where nothing is tracked.
        frame: number of the frame, from 0; None for an image.
    """

    path: str
    name: str
    size: tuple[int, int]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    tracks: NDArray[np.int64] | None = None
    frame: int | None = None

    def visible(self) -> Found:
        """The same without what is not shown."""
        if self.tracks is None:
            return self
        kept = self.tracks != HIDDEN
        rows = self.boxes[kept], self.scores[kept], self.labels[kept], self.tracks[kept]
        return replace(self, boxes=rows[0], scores=rows[1], labels=rows[2], tracks=rows[3])

    @property
    def file_name(self) -> str:
        """The image's place among the inputs, or its path if its results are called otherwise."""
        if self.frame is not None:
            return f"{self.name}.jpg"
        path = Path(self.path)
        return self.name + path.suffix if Path(self.name).name == path.stem else self.path

    @property
    def xywh(self) -> NDArray[np.float64]:
        """Left, upper edge, width and height of each box: (n, 4), pixels."""
        corners = self.boxes.astype(np.float64)
        return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)

    def words(self, class_names: tuple[str, ...]) -> list[str]:
        """What stands at each box in a picture: track, class, score."""
        numbers = [""] * len(self.scores) if self.tracks is None else map(_number, self.tracks.tolist())
        rows = zip(numbers, self.labels.tolist(), self.scores.tolist(), strict=True)
        return [f"{number}{class_names[label]} {score:.2f}" for number, label, score in rows]

    def to_json(self) -> str:
        """As one line; numbers in full precision."""
        fields: dict[str, Any] = {
            "path": self.path,
            "name": self.name,
            "size": self.size,
            "frame": self.frame,
            "boxes": self.boxes.tolist(),
            "scores": self.scores.tolist(),
            "labels": self.labels.tolist(),
            "tracks": None if self.tracks is None else self.tracks.tolist(),
        }
        return json.dumps({key: value for key, value in fields.items() if value is not None})

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Found:
        """Back from the object that `to_json` writes."""
        tracks = fields.get("tracks")
        return cls(
            path=fields["path"],
            name=fields["name"],
            size=(fields["size"][0], fields["size"][1]),
            boxes=np.array(fields["boxes"], dtype=np.float32).reshape(-1, 4),
            scores=np.array(fields["scores"], dtype=np.float32),
            labels=np.array(fields["labels"], dtype=np.int64),
            tracks=None if tracks is None else np.array(tracks, dtype=np.int64),
            frame=fields.get("frame"),
        )


def _number(track: int) -> str:
    return f"#{track} " if track >= 0 else ""

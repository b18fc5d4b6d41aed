"""What was found in a part of a large image, so that an interrupted one is gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

import torch

from detector.postprocess import Detections
from evaluation.files import write_whole
from pinpoint.predict.found import Found
from pinpoint.predict.sources import Item

NAME = "unfinished.jsonl"
"""Of the file, within the folder of the results; it is there only while an image is unfinished."""


class Pieces:
    """The views of one image that are done, one a line; gone when the image is.

    Args:
        folder: existing folder of the results.
        item: the image.
        size: its (height, width) in pixels; an image that has changed begins anew.

    Attributes:
        found: what the first views found in an earlier call.
    """

    def __init__(self, folder: Path, item: Item, size: tuple[int, int]) -> None:
        self.path, self.item, self.size = folder / NAME, item, size
        self.found: list[Detections] = []

    def __enter__(self) -> Pieces:
        before = self._before() if self.path.exists() else []
        self.found = [
            Detections(
                torch.from_numpy(one.boxes), torch.from_numpy(one.scores), torch.from_numpy(one.labels)
            )
            for one in before
        ]
        write_whole(self.path, (one.to_json() + "\n" for one in before))
        self.file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        if error is None:
            self.path.unlink()

    def add(self, number: int, found: Detections) -> None:
        """Note what a view found."""
        rows = found.boxes.numpy(), found.scores.numpy(), found.labels.numpy()
        line = Found(str(self.item.path), self.item.name, self.size, *rows, frame=number).to_json()
        self.file.write(line + "\n")
        self.file.flush()

    def _before(self) -> list[Found]:
        before: list[Found] = []
        for line in self.path.read_text("utf-8").splitlines(keepends=True):
            try:
                one = Found.from_json(json.loads(line))
            except json.JSONDecodeError:
                break  # the last, cut short
            if (one.path, one.size, one.frame) != (str(self.item.path), self.size, len(before)):
                break
            before.append(one)
        return before

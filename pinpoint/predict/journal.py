"""What is done, a line for each image and frame: later calls go on from it, all formats come from it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from datamodules.storage import try_lock
from pinpoint.predict.found import Found

NAME = "detections.jsonl"
"""Of the journal, within the folder of the results."""


class Journal:
    """The lines of one folder of results; the first says with which arguments they were made.

    A line is written whole or, after a crash, dropped: so are the frames of a video that did not end.

    Args:
        folder: existing folder of the results.
        arguments: what the results depend on.
        forget: to start over, takes the name of each image and frame that is done; None to go on.
        lacks: whether a file that is done, by its path and name, has to be looked at again all the same.

    Attributes:
        done: files that are done, with what their results are called.
        short: of videos that are done, and end early, what to say of them.

    Raises:
        ValueError: the folder's results were made with other arguments, or another process is writing them.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Mapping[str, Any],
        forget: Callable[[str], None] | None = None,
        lacks: Callable[[str, str], bool] = lambda path, name: False,
    ) -> None:
        self.path, self.lacks = folder / NAME, lacks
        self.done: dict[str, str] = {}
        self.short: dict[str, str] = {}
        self.lock = (folder / f".{NAME}.lock").open("w")
        if not try_lock(self.lock):
            self.lock.close()
            raise ValueError(f"another process writes to {folder}: wait for it, or choose another --output")
        try:
            if self.path.exists():
                if forget is None:
                    self._compare(arguments)
                else:
                    for name in filter(None, (fields.get("name") for fields in _lines(self.path))):
                        forget(name)
            self._rewrite({"arguments": dict(arguments)}, keep=forget is None)
            self.file = self.path.open("a", encoding="utf-8")
        except BaseException:
            self.lock.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        self.lock.close()

    def add(self, found: Found) -> None:
        """Note an image, which is then done, or a frame."""
        self._write(found.to_json())
        if found.frame is None:
            self.done[found.path] = found.name

    def end(self, video: str, name: str, short: str | None = None) -> None:
        """Note that a video is done, and if it ends early, what to say of it."""
        self._write(json.dumps({"end": video, "name": name} | ({"short": short} if short else {})))
        self.done[video] = name
        if short:
            self.short[video] = short

    def __iter__(self) -> Iterator[Found]:
        """All that is done, in its order, without what is not shown."""
        for fields in _lines(self.path):
            if "path" in fields:
                yield Found.from_json(fields).visible()

    def everything(self) -> Iterator[Found]:
        """All that is done, in its order."""
        return (Found.from_json(fields) for fields in _lines(self.path) if "path" in fields)

    def _write(self, line: str) -> None:
        self.file.write(line + "\n")
        self.file.flush()

    def _compare(self, arguments: Mapping[str, Any]) -> None:
        before = next(_lines(self.path), {}).get("arguments")
        wanted = json.loads(json.dumps(arguments))
        if before is None:
            raise ValueError(f"{self.path} is not of ours: choose another --output, or --restart")
        changed = [
            f"{name} {_shown(wanted.get(name))}, before {_shown(before.get(name))}"
            for name in wanted | before
            if wanted.get(name) != before.get(name)
        ]
        if changed:
            raise ValueError(
                f"{self.path.parent} holds results of other arguments ({'; '.join(changed)}): choose another "
                "--output, or start over with --restart"
            )

    def _rewrite(self, header: dict[str, Any], keep: bool) -> None:
        """Write the file anew with what is complete alone, and learn what that is."""
        keep = keep and self.path.exists()
        for fields in _lines(self.path) if keep else ():
            path = fields.get("end") or ("frame" not in fields and fields.get("path"))
            if path and not self.lacks(path, fields["name"]):
                self.done[path] = fields["name"]
                if "short" in fields:
                    self.short[path] = fields["short"]
        draft = self.path.with_name(f".{NAME}.part")
        with draft.open("w", encoding="utf-8") as file:
            file.write(json.dumps(header) + "\n")
            for fields in _lines(self.path) if keep else ():
                if fields.get("path", fields.get("end")) in self.done:
                    file.write(json.dumps(fields) + "\n")
        os.replace(draft, self.path)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file's whole lines."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                fields = json.loads(line)
            except json.JSONDecodeError:
                return  # the last, cut short
            if not line.endswith("\n") or not isinstance(fields, dict):
                return
            yield fields


def _shown(value: object) -> str:
    return "none" if value is None else str(value)

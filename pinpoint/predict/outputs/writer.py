"""All formats that were asked for, in one folder."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from datamodules.images.windows import Source, open_image
from datamodules.problems import DataError
from evaluation.files import write_whole
from pinpoint.predict.found import Found
from pinpoint.predict.journal import Journal
from pinpoint.predict.outputs import geojson
from pinpoint.predict.outputs.each import EACH
from pinpoint.predict.outputs.pictures import picture
from pinpoint.predict.outputs.together import TOGETHER

PICTURES = "pictures/{}.jpg"
VIDEOS = "videos/{}.mp4"


class Writer:
    """Writes what was found.

    Args:
        folder: existing folder of the results.
        save: words of --save.
        class_names: name of each class index.
    """

    def __init__(self, folder: Path, save: Sequence[str], class_names: Sequence[str]) -> None:
        self.folder, self.save, self.class_names = folder, save, class_names

    def video_path(self, name: str) -> Path | None:
        """Where a drawn video goes; None if none is wanted."""
        return self.folder / VIDEOS.format(name) if "video" in self.save else None

    def write(self, found: Found, source: Source | None = None, missing_only: bool = False) -> None:
        """Write the files that an image, or a frame, has of its own.

        Args:
            found: what was found in it.
            source: the image; opened if it is needed and not given. Frames have no picture.
            missing_only: leave alone what is there.

        Raises:
            DataError: the image cannot be read any more, or its name is too long for a file of its own.
            OSError: a file cannot be written.
        """
        try:
            self._write(found, source, missing_only)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise DataError(f"{found.path}: its name is too long for files named after it") from None

    def _write(self, found: Found, source: Source | None, missing_only: bool) -> None:
        for word, (pattern, text) in EACH.items():
            path = self.folder / pattern.format(found.name)
            if word in self.save and not (missing_only and path.exists()):
                write_whole(path, text(found, self.class_names, path))
        path = self.folder / PICTURES.format(found.name)
        if "pictures" in self.save and found.frame is None and not (missing_only and path.exists()):
            opened = source or open_image(found.path, bands=None)
            write_whole(path, picture(found, opened, self.class_names))
            if source is None:
                opened.close()

    def forget(self, name: str) -> None:
        """Remove all that an image, a frame or a video has of its own, in whatever format."""
        for pattern in (PICTURES, VIDEOS, *(pattern for pattern, _ in EACH.values())):
            (self.folder / pattern.format(name)).unlink(missing_ok=True)

    def forget_lists(self) -> None:
        """Remove the files of all images together."""
        for name in (*TOGETHER, geojson.FILE):
            (self.folder / name).unlink(missing_ok=True)

    def finish(self, journal: Journal) -> tuple[list[str], dict[str, int]]:
        """Write the files of all images together, and what images of an earlier call lack.

        Returns:
            What to say of images that a format cannot take, and the number of detections by class name.

        Raises:
            OSError: a file cannot be written.
        """
        problems: list[str] = []
        counts = dict.fromkeys(self.class_names, 0)
        for found in journal:
            for label in found.labels.tolist():
                counts[self.class_names[label]] += 1
            try:
                self.write(found, missing_only=True)
            except DataError as error:
                problems.append(str(error))
        for name, (word, parts) in TOGETHER.items():
            if word in self.save:
                write_whole(self.folder / name, parts(journal, self.class_names))
        if "geojson" in self.save:
            parts_ = geojson.write(journal, self.class_names, problems)
            write_whole(self.folder / geojson.FILE, parts_)
        return problems, counts

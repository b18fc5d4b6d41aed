"""Looks at all images and videos, notes what is done, and skips what cannot be read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from datamodules.files import reason
from datamodules.images.windows import Decoded, Raster, open_image
from datamodules.problems import DataError
from datamodules.progress import Progress
from detector.inference import Model
from detector.postprocess import Detections
from detector.tiling.views import Tiling
from pinpoint.predict.found import Found
from pinpoint.predict.journal import Journal
from pinpoint.predict.outputs.pictures import draw
from pinpoint.predict.outputs.writer import Writer
from pinpoint.predict.pieces import Pieces
from pinpoint.predict.sources import Item, frame_name
from pinpoint.predict.tracking import LOW, Tracker
from pinpoint.predict.video import VideoFile, VideoWriter

READERS, AHEAD = 2, 4
"""Threads that decode images while others are looked at, and images that may be waiting."""

PIXELS = 2**26
"""Of images that are in memory together to be looked at, unless one alone has more."""

Opened = tuple[Item, Decoded | Raster | DataError]
"""An image, open; or why it cannot be."""


@dataclass(frozen=True, slots=True)
class Look:
    """How images are looked at.

    Attributes:
        thresholds: (C,) score from which each class is shown.
        tiling: how each image is cut into views.
        batch_size: views that are looked at together.
        track: number the objects that stay the same from image to image.
    """

    thresholds: Tensor
    tiling: Tiling
    batch_size: int
    track: bool

    @property
    def least(self) -> Tensor:
        """(C,) score from which a detection is kept."""
        return self.thresholds * LOW if self.track else self.thresholds

    def tracker(self) -> Tracker | None:
        """One for a new sequence, if any."""
        return Tracker(self.thresholds.numpy().astype(np.float64)) if self.track else None


@dataclass
class Runner:
    """Looks at what is not done yet.

    Attributes:
        model: the detector.
        look: how it looks.
        journal: what is done.
        writer: writes what was found.
        problems: what to say of each file that could not be read, or not to its end.
        tracker: of the images, which are one sequence.
    """

    model: Model
    look: Look
    journal: Journal
    writer: Writer
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tracker = self.look.tracker()
        if self.look.tiling.plain:
            self.model = self.model.above(self.look.least)

    def run(self, items: Sequence[Item]) -> None:
        """Look at all of them but those that are done.

        Raises:
            OSError: a result cannot be written.
        """
        images = [item for item in items if not item.is_video]
        left = [item for item in images if str(item.path) not in self.journal.done]
        if left:
            self._catch_up()
            done = len(images) - len(left)
            with Progress(desc="predicting", total=len(images), initial=done, delay=2, unit="image") as bar:
                for chunk in self._chunks(self._opened(left)):
                    self._images(chunk)
                    bar.update(len(chunk))
        for item in items:
            if item.is_video and str(item.path) not in self.journal.done:
                self._video(item)

    def _catch_up(self) -> None:
        """Show the tracker what an earlier call found."""
        if self.tracker is not None:
            for found in self.journal.everything():
                if found.frame is None:
                    self.tracker.update(found.boxes, found.scores, found.labels)

    def _opened(self, items: Sequence[Item]) -> Iterator[Opened]:
        """Images in their order, or why they cannot be opened; the next ones are being read meanwhile."""
        waiting: deque[tuple[Item, Future[Decoded | Raster | DataError]]] = deque()
        with ThreadPoolExecutor(READERS) as pool:
            try:
                for item in items:
                    waiting.append((item, pool.submit(_open, item.path, self.model.facts.bands)))
                    if len(waiting) > AHEAD:
                        first, future = waiting.popleft()
                        yield first, future.result()
                while waiting:
                    first, future = waiting.popleft()
                    yield first, future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _chunks(self, opened: Iterator[Opened]) -> Iterator[list[Opened]]:
        """A few images at a time: a batch, or what memory can hold."""
        chunk: list[Opened] = []
        pixels = 0
        for one in opened:
            chunk.append(one)
            pixels += one[1].size[0] * one[1].size[1] if isinstance(one[1], Decoded) else 0
            if len(chunk) == self.look.batch_size or pixels >= PIXELS:
                yield chunk
                chunk, pixels = [], 0
        if chunk:
            yield chunk

    def _images(self, chunk: Sequence[Opened]) -> None:
        """Look at a few images; those that are wholly in memory together."""
        whole = [(item, source) for item, source in chunk if isinstance(source, Decoded)]
        found = dict(zip((item for item, _ in whole), self._together([s for _, s in whole]), strict=True))
        for item, source in chunk:
            try:
                if isinstance(source, DataError):
                    raise source
                detections = self._in_pieces(item, source) if isinstance(source, Raster) else found[item]
                self._note(self._found(item, source.size, detections, self.tracker), source)
            except DataError as error:
                self.problems.append(str(error))
            finally:
                if not isinstance(source, DataError):
                    source.close()

    def _together(self, sources: Sequence[Decoded]) -> Iterator[Detections]:
        """What is found in each of some images."""
        views = [self.model.views(source.size, self.look.tiling) for source in sources]
        jobs = ((source, view) for source, own in zip(sources, views, strict=True) for view in own)
        looks = self.model.look(jobs, self.look.batch_size)
        for source, own in zip(sources, views, strict=True):
            yield self.model.merge(own, list(islice(looks, len(own))), source.size, self.look.tiling)

    def _in_pieces(self, item: Item, source: Raster) -> Detections:
        """What is found in a large image, view by view; what an interrupted call found is taken over."""
        views = self.model.views(source.size, self.look.tiling)
        with ExitStack() as stack:
            bar = stack.enter_context(
                Progress(desc=f"views of {item.path.name}", total=len(views), leave=False, delay=2)
            )
            pieces = stack.enter_context(Pieces(self.writer.folder, item, source.size))
            found = pieces.found[: len(views)]
            bar.update(len(found))
            for one in self.model.look(
                ((source, view) for view in views[len(found) :]), self.look.batch_size
            ):
                pieces.add(len(found), one)
                found.append(one)
                bar.update(1)
            return self.model.merge(views, found, source.size, self.look.tiling)

    def _video(self, item: Item) -> None:
        """Look at a video from its beginning."""
        try:
            video = VideoFile(item.path)
        except DataError as error:
            self.problems.append(str(error))
            return
        tracker, number, short = self.look.tracker(), 0, list[str]()
        frames = _until_it_ends(video, short)
        path = self.writer.video_path(item.name)
        with ExitStack() as stack:
            drawn = None if path is None else stack.enter_context(VideoWriter(path, video.rate))
            bar = stack.enter_context(
                Progress(desc=item.path.name, total=video.expected or None, delay=2, unit="frame")
            )
            while chunk := list(islice(frames, self.look.batch_size)):
                for source, detections in zip(chunk, self._together(chunk), strict=True):
                    found = self._found(item, source.size, detections, tracker, number)
                    self._note(found, source)
                    if drawn is not None:
                        drawn.add(draw(found.visible(), source.pixels, self.model.facts.class_names))
                    number += 1
                    bar.update(1)
        if number:
            self.journal.end(str(item.path), item.name, *short)
        else:
            self.problems += short

    def _found(
        self,
        item: Item,
        size: tuple[int, int],
        detections: Detections,
        tracker: Tracker | None,
        frame: int | None = None,
    ) -> Found:
        """What of the detections is kept, with numbers of their tracks."""
        kept = detections.scores >= self.look.least[detections.labels]
        boxes, scores = detections.boxes[kept].numpy(), detections.scores[kept].numpy()
        labels = detections.labels[kept].numpy()
        tracks = None if tracker is None else tracker.update(boxes, scores, labels)
        name = item.name if frame is None else frame_name(item.name, frame)
        return Found(str(item.path), name, size, boxes, scores, labels, tracks, frame)

    def _note(self, found: Found, source: Decoded | Raster) -> None:
        """Write its own files, then that it is done."""
        self.writer.write(found.visible(), source)
        self.journal.add(found)


def _until_it_ends(video: VideoFile, short: list[str]) -> Iterator[Decoded]:
    """The frames that there are; `short` takes what to say where these are not all."""
    try:
        yield from map(Decoded, video)
    except DataError as error:
        short.append(str(error))


def _open(path: Path, bands: int) -> Decoded | Raster | DataError:
    try:
        return open_image(str(path), bands)
    except DataError as error:
        return error
    except OSError as error:
        return DataError(f"{path} cannot be read ({reason(error)})")

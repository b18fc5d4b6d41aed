"""What predict.py does: finds its inputs, looks at what is not done, and writes all formats."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from detector.exported import need
from detector.inference import Model, load
from detector.postprocess import Suppression
from detector.tiling.views import Merge, Tiling
from detector.weights import HUB_CONFIG, HUB_WEIGHTS
from pinpoint.predict import pieces
from pinpoint.predict.journal import Journal
from pinpoint.predict.outputs import geojson
from pinpoint.predict.outputs.writer import Writer
from pinpoint.predict.runner import Look, Runner
from pinpoint.predict.sources import find_files, is_video, name_items

INTERRUPTED = 130
"""Exit code, as shells have it after Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to look at, how, and what to write.

    Attributes:
        inputs: see `pinpoint.predict.sources.find_files`.
        checkpoint: of train.py, file of export.py, or a shared model.
        output: folder of the results.
        save: formats to write.
        threshold: score from which classes are shown that are not in `thresholds`; the model's own if None.
        thresholds: the same by class name.
        recursive: look into the subfolders of folders.
        track: number objects that stay the same from frame to frame.
        batch_size: views that are looked at together.
        device: see `detector.load`.
        restart: forget what is done.
        tile, overlap, whole, scales, flip, merge: see `Tiling`.
        suppression, class_agnostic: see `Model.suppressing`.
    """

    inputs: Sequence[str]
    checkpoint: str
    output: Path
    save: Sequence[str]
    threshold: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    recursive: bool = False
    track: bool = False
    batch_size: int = 4
    device: str = "auto"
    restart: bool = False
    tile: Sequence[int] | None = None
    overlap: float = 0.2
    whole: bool = False
    scales: Sequence[float] = (1.0,)
    flip: bool = False
    merge: Merge = "nmm"
    suppression: Suppression | None = None
    class_agnostic: bool | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"--batch_size must be at least 1, got {self.batch_size}")


def predict(wish: Wish) -> int:
    """Look at everything, write what was found, say how much it is, and name what could not be read.

    Returns:
        The exit code: 1 if something could not be read, 130 after Ctrl-C.

    Raises:
        ValueError: something that a user can mend.
    """
    files = find_files(wish.inputs, wish.recursive, wish.output)
    if "geojson" in wish.save:
        geojson.require()
    if any(map(is_video, files)):
        need("av", "video")
    tiling = Tiling(wish.tile, wish.overlap, wish.whole, wish.scales, wish.flip, wish.merge)
    model = load(wish.checkpoint, wish.device).suppressing(wish.suppression, wish.class_agnostic)
    names = model.facts.class_names
    look = Look(_thresholds(model, wish), tiling, wish.batch_size, wish.track)
    writer = Writer(wish.output, wish.save, names)

    def lacks(path: str, name: str) -> bool:
        """Whether a drawn video is wanted and not there: of its pictures the journal knows nothing."""
        drawn = writer.video_path(name) if is_video(Path(path)) and Path(path) in files else None
        return drawn is not None and not drawn.exists()

    done: dict[str, str] = {}
    try:
        wish.output.mkdir(parents=True, exist_ok=True)
        forget = writer.forget if wish.restart else None
        with Journal(wish.output, _arguments(wish, look), forget, lacks) as journal:
            if wish.restart:
                (wish.output / pieces.NAME).unlink(missing_ok=True)
                writer.forget_lists()
            done = journal.done
            before = _count(files, done)
            runner = Runner(model, look, journal, writer)
            runner.run(name_items(files, done))
            problems, counts = writer.finish(journal)
    except KeyboardInterrupt:
        print(f"\n{_count(files, done)} of {len(files)} are done: the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
        kept = (
            f"; {_count(files, done)} of {len(files)} are done, and the same command goes on" if done else ""
        )
        raise ValueError(f"{wish.output} cannot be written to ({reason}){kept}") from error
    short = [journal.short[str(path)] for path in files if str(path) in journal.short]
    problems = runner.problems + short + problems
    many = ", ".join(f"{count} {name}" for name, count in counts.items())
    earlier = f", {before} of them before" if before else ""
    print(f"{_count(files, done)} of {len(files)} images and videos are done{earlier}: {many}")
    print(f"{', '.join(wish.save)} in {wish.output}")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _count(files: Iterable[Path], done: Mapping[str, str]) -> int:
    return sum(str(path) in done for path in files)


def _thresholds(model: Model, wish: Wish) -> Tensor:
    """(C,) score from which each class is shown."""
    least = model.thresholds(wish.thresholds)
    for index, name in enumerate(model.facts.class_names):
        if wish.threshold is not None and name not in wish.thresholds:
            least[index] = wish.threshold
    return least


def _arguments(wish: Wish, look: Look) -> dict[str, Any]:
    """What the results depend on, beside the images; compared when a call goes on with another's."""
    file = Path(wish.checkpoint)
    local = file.exists()
    return {
        "checkpoint": str(file.resolve()) if local else wish.checkpoint,
        "written": [part.stat().st_mtime_ns for part in _parts(file)] if local else None,
        "threshold": [round(score, 6) for score in look.thresholds.tolist()],
        "track": wish.track,
        **asdict(look.tiling),
        "suppression": wish.suppression,
        "class_agnostic": wish.class_agnostic,
    }


def _parts(model: Path) -> list[Path]:
    """The files that a model is made of: several for a shared folder, and for OpenVINO."""
    if model.is_dir():
        return [model / HUB_WEIGHTS, model / HUB_CONFIG]
    weights = [model.with_suffix(".bin")] if model.suffix.lower() == ".xml" else []
    return [model, *weights]

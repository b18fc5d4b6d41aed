"""One cell of a comparison: trains as train.py does, scores the last epoch and leaves result.json.

    python -m pinpoint.comparison.cell FOLDER [train.py's options]

`pinpoint.comparison.runner` starts it; a cell that was interrupted goes on from its last checkpoint. The
cell's scores are those that evaluate.py gives for its last.ckpt: the averaged weights of the last epoch. The
best epoch would be chosen by the very images that score it, which flatters every variant, and the noisier
ones most.
"""

import hashlib
import os
import platform
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from detector.checkpoint import load_checkpoint
from evaluation.bootstrap import image_weights, resampled_scores
from evaluation.report.text import write_metrics
from pinpoint.cli.detection import DetectionCLI
from pinpoint.cli.errors import user_errors
from pinpoint.comparison.differences import CURVES

RESULT = "result.json"
"""Name of the file that makes a cell a finished one."""


def run_cell(folder: Path, arguments: Sequence[str]) -> None:
    """Train, or go on, and write the result.

    Each attempt has a run folder of its own, `attempt_0` and so on, with checkpoints and TensorBoard events.

    Args:
        folder: of the cell.
        arguments: train.py's options; those of the logger are added.
    """
    start = time.monotonic()
    attempts, checkpoint = _attempts(folder), _last_checkpoint(folder)
    cli = DetectionCLI(
        [
            *arguments,
            "--trainer.logger=TensorBoardLogger",
            f"--trainer.logger.save_dir={folder}",
            "--trainer.logger.name=",
            f"--trainer.logger.version=attempt_{len(attempts)}",
        ]
    )
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=checkpoint)
    where = f"--trainer.accelerator={cli.config.trainer.accelerator}"
    result = score(load_checkpoint(str(_last_checkpoint(folder))), where)
    result |= {
        "curves": read_curves(_attempts(folder)),
        "seconds": time.monotonic() - start,
        "attempts": len(_attempts(folder)),
        "machine": {
            "torch": torch.__version__,
            "device": _device_name(cli.trainer.strategy.root_device),
            "threads": torch.get_num_threads(),
        },
    }
    unfinished = folder / f".{RESULT}"
    write_metrics(unfinished, result)
    unfinished.replace(folder / RESULT)


def score(checkpoint: dict[str, Any], *options: str) -> dict[str, Any]:
    """Score a checkpoint on the validation images, in this process alone.

    Args:
        checkpoint: see `load_checkpoint`.
        options: where to, as for evaluate.py.

    Returns:
        `scores`, those of evaluate.py; `resampled`, see `evaluation.bootstrap.resampled_scores`; `images`,
        their number; `image_set`, a check sum of their names.
    """
    cli = DetectionCLI.from_checkpoint(checkpoint, ["--trainer.devices=1", *options])
    cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    results = cli.model.scores.gather()
    assert results is not None, "a cell is a single process"
    images = len(results.image_ids)
    resampled = resampled_scores(
        results, len(cli.model.class_names), image_weights(images), cli.model.postprocess.max_detections
    )
    names = sorted(image.info.file_name for image in cli.datamodule.evaluated.images)
    return {
        "scores": cli.model.scores.compute(),
        "resampled": resampled,
        "images": images,
        "image_set": hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest(),
    }


def read_curves(attempts: Sequence[Path]) -> dict[str, tuple[list[int], list[float]]]:
    """Read the training curves of a cell from TensorBoard's events.

    Args:
        attempts: run folders, in order; a later one replaces what an earlier one logged from its first step.

    Returns:
        Steps and values by logged name.
    """
    curves: dict[str, dict[int, float]] = {name: {} for name in CURVES}
    for attempt in attempts:
        events = EventAccumulator(str(attempt), size_guidance={"scalars": 0})
        events.Reload()
        for name in curves.keys() & set(events.Tags()["scalars"]):
            points = {point.step: point.value for point in events.Scalars(name)}
            kept = {step: value for step, value in curves[name].items() if step < min(points)}
            curves[name] = kept | points
    return {name: (list(points), list(points.values())) for name, points in curves.items()}


def _attempts(folder: Path) -> list[Path]:
    return sorted(folder.glob("attempt_*"), key=lambda path: int(path.name.removeprefix("attempt_")))


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole: where temporary files are on another disk, a kill may cut one."""
    for attempt in reversed(_attempts(folder)):
        path = attempt / "checkpoints" / "last.ckpt"
        if path.is_file():
            try:
                load_checkpoint(str(path))
            except ValueError:
                continue
            return path
    return None


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def _end_with_parent() -> None:
    """End when the parent closes our standard input, as it does when it ends, however it ends."""
    os.read(0, 1)
    os._exit(1)


def main() -> None:
    """Run the cell that the command line names."""
    folder, *arguments = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with user_errors():
        run_cell(Path(folder), arguments)


if __name__ == "__main__":
    main()

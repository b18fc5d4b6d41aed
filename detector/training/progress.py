"""What a run says while it goes: a line an epoch wherever the output goes, and a bar on a terminal."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer, TQDMProgressBar
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from datamodules.batch import Batch
from losses.detection import TERMS

SCORES = ("AP", "AP50", "AP_small")


class EpochLines(Callback):
    """Prints a line an epoch, and keeps it as a row of `results.csv` in the run folder.

    Losses are means over the epoch, scores those of its validation (blank where there was none), AP a share
    in [0, 1]; images a second count training alone; the time left is that of the whole run.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.scores: dict[str, float] = {}
        self.steps = self.images = 0
        self.begun = self.training_seconds = self.elapsed = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the run; drop the rows of what is trained again after its checkpoint."""
        self._validate_the_last(trainer)
        self.clock = RunClock(trainer, self.elapsed)
        self.begun = time.monotonic() - self.training_seconds
        self.sums = {term: total.to(pl_module.device) for term, total in self.sums.items()}
        folder = trainer.log_dir  # asks all ranks
        if trainer.is_global_zero and trainer.global_step and trainer.loggers and folder is not None:
            trim_rows(Path(folder) / "results.csv", trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """What the epoch's line is made of so far."""
        elapsed = self.clock.elapsed if hasattr(self, "clock") else 0.0
        own = {
            name: getattr(self, name) for name in ("sums", "scores", "steps", "images", "training_seconds")
        }
        return own | {"elapsed": elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the line."""
        for name, value in state_dict.items():
            setattr(self, name, value)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start over."""
        self.sums, self.scores, self.steps, self.images = {}, {}, 0, 0
        self.begun, self.training_seconds = time.monotonic(), 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Add up the losses, where they are: nothing waits for the device."""
        for term in TERMS:
            value = trainer.callback_metrics.get(f"train/{term}")
            if value is not None:
                self.sums[term] = self.sums[term] + value if term in self.sums else value.clone()
        self.steps += 1
        self.images += len(batch) * trainer.world_size
        self.training_seconds = time.monotonic() - self.begun
        self._validate_the_last(trainer)

    @staticmethod
    def _validate_the_last(trainer: Trainer) -> None:
        """Have the end of a run validated, whatever the interval, also where max_steps end it in an epoch."""
        stops = 0 < trainer.max_steps <= trainer.global_step
        trainer.should_stop |= stops
        ends = stops or trainer.current_epoch + 1 == trainer.max_epochs
        if ends and trainer.check_val_every_n_epoch is not None:
            trainer.check_val_every_n_epoch = 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the scores for the epoch's line."""
        if not trainer.sanity_checking:
            logged, named = trainer.callback_metrics, {"AP": "map"}
            values = {name: logged.get(f"val/{named.get(name, name)}") for name in SCORES}
            self.scores = {name: float(value) for name, value in values.items() if value is not None}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say and write how the epoch went."""
        folder = trainer.log_dir  # asks all ranks
        if not trainer.is_global_zero or not self.steps:
            return
        row: dict[str, float] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row |= {f"train/{term}": float(total) / self.steps for term, total in self.sums.items()}
        row |= {f"val/{name}": value for name, value in self.scores.items()}
        rate = self.images / max(self.training_seconds, 1e-9)
        row |= {"images_per_second": rate, "seconds": self.clock.elapsed}
        self._print(trainer, self._line(trainer, row, rate))
        dry = trainer.fast_dev_run  # type: ignore[attr-defined]
        if trainer.loggers and folder is not None and not dry:
            append_row(Path(folder) / "results.csv", row)

    def _line(self, trainer: Trainer, row: Mapping[str, float], rate: float) -> str:
        last = f"/{trainer.max_epochs - 1}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        terms = " ".join(
            f"{term.removeprefix('loss_')} {row[f'train/{term}']:.3f}" for term in TERMS if term in self.sums
        )
        scores = " ".join(
            f"{name} {'-' if math.isnan(value) else f'{value:.3f}'}" for name, value in self.scores.items()
        )
        parts = [
            f"epoch {trainer.current_epoch}{last}",
            terms,
            scores,
            f"{rate:.0f} images/s",
            self.clock.left,
        ]
        return ": ".join((parts[0], ", ".join(filter(None, parts[1:]))))

    @staticmethod
    def _print(trainer: Trainer, line: str) -> None:
        bar = trainer.progress_bar_callback
        if isinstance(bar, RunBar) and bar.is_enabled:
            bar.print(line)
        else:
            print(line, flush=True)


class RunBar(TQDMProgressBar):
    """The bar of an epoch with its losses, the last AP and the time left of the run; none off a terminal."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10 if sys.stdout.isatty() else 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the run."""
        super().on_train_start(trainer, pl_module)
        self.clock = RunClock(trainer)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Losses, the last AP, and the time left."""
        logged = trainer.callback_metrics
        names = {"box": "train/loss_box", "cls": "train/loss_cls", "dfl": "train/loss_dfl", "AP": "val/map"}
        shown: dict[str, int | str | float | dict[str, float]] = {
            short: f"{float(logged[name]):.3f}" for short, name in names.items() if name in logged
        }
        if hasattr(self, "clock"):
            shown["run"] = self.clock.left
        return shown


class RunClock:
    """How long a run has taken, and how long it still takes.

    Args:
        trainer: whose training starts now.
        before: seconds that it took before an interruption.
    """

    def __init__(self, trainer: Trainer, before: float = 0.0) -> None:
        self.trainer, self.first_step, self.before = trainer, trainer.global_step, before
        self.start = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of the run."""
        return self.before + time.monotonic() - self.start

    @property
    def left(self) -> str:
        """The time left in words; blank as long as nothing is known."""
        total, done = self.trainer.estimated_stepping_batches, self.trainer.global_step - self.first_step
        guesses = []
        if math.isfinite(total) and done > 0:
            seconds = self.elapsed - self.before
            guesses.append(seconds * max(total - self.trainer.global_step, 0) / done)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Timer) and (remaining := callback.time_remaining()) is not None:
                guesses.append(remaining)
        return f"{duration(max(min(guesses), 0))} left" if guesses else ""


def duration(seconds: float) -> str:
    """Seconds in words: `42 s`, `13 min`, `2 h 05 min`, `3 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 60 * 24:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Add a row to a CSV, in the columns that it has; a run that goes on continues its file.

    Args:
        path: the file; made, with a head, if it is not there.
        row: value of each column; columns that a later row brings are added to the whole file.
    """
    rows = _rows(path)
    columns = list(dict.fromkeys([*(name for old in rows for name in old), *row]))
    kept = [old for old in rows if int(old["epoch"]) < row["epoch"]]  # a resumed epoch is written anew
    shown = {name: f"{value:.6g}" for name, value in row.items()}
    _write_rows(path, columns, [*kept, shown])


def trim_rows(path: Path, step: int) -> None:
    """Take off the rows that were written after a step, which the run trains again.

    Args:
        path: the file; left alone if it is not there.
        step: the last one that counts.
    """
    rows = _rows(path)
    kept = [row for row in rows if int(row["step"]) <= step]
    if len(kept) < len(rows):
        _write_rows(path, list(rows[0]), kept)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    unfinished.replace(path)

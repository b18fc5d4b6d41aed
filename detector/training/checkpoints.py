"""Checkpoints of a run: the best one, and the last one, from which it goes on."""

from __future__ import annotations

import time
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from datamodules.batch import Batch
from detector.training.agreement import agree
from detector.training.files import WholeFiles
from detector.training.signals import SIGNALS, Stopped

RETRY = 60.0
"""Seconds after which a checkpoint that could not be written is tried again."""


class BestCheckpoint(ModelCheckpoint):
    """Keeps best.ckpt, the epoch of the best score, over a whole run however often it is interrupted.

    Args:
        monitor: the logged score.
        mode: "max" if more is better, else "min".
        filename: of the file, without its ending.
    """

    def __init__(self, monitor: str = "val/map", mode: str = "max", filename: str = "best") -> None:
        super().__init__(monitor=monitor, mode=mode, filename=filename, enable_version_counter=False)
        self._validated = False

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the best score so far, wherever its file is now; nothing if it is gone.

        The run folder may have been moved, or the run may go on in another one.
        """
        path, score = Path(state_dict["best_model_path"]), state_dict["best_model_score"]
        here = Path(str(self.dirpath), path.name)
        found = here if here.is_file() else path
        if score is None or not found.is_file():
            return
        self.best_model_path = self.kth_best_model_path = str(found)
        self.best_model_score = self.kth_value = self.current_score = score
        self.best_k_models = {str(found): score}

    def _should_save_on_train_epoch_end(self, trainer: Trainer) -> bool:
        # At an epoch's end where there is one, whose checkpoint goes on with the next epoch.
        interval = trainer.val_check_interval  # a share of an epoch, or a whole number of batches
        every_epoch = isinstance(interval, float) and interval == 1.0
        return every_epoch and trainer.check_val_every_n_epoch is not None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start over: the epoch has no score."""
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what is the best, if it is not left to the epoch's end."""
        self._validated = not trainer.sanity_checking
        super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the epoch if it was validated and is the best."""
        if self._validated:
            super().on_train_epoch_end(trainer, pl_module)

    def _update_best_and_save(
        self, current: Tensor, trainer: Trainer, monitor_candidates: dict[str, Tensor]
    ) -> None:
        before = (self.best_k_models.copy(), self.best_model_path, self.best_model_score)
        before_kth = (self.kth_best_model_path, self.kth_value, self.current_score)
        super()._update_best_and_save(current, trainer, monitor_candidates)
        if failed(trainer):
            self.best_k_models, self.best_model_path, self.best_model_score = before
            self.kth_best_model_path, self.kth_value, self.current_score = before_kth


class LastCheckpoint(ModelCheckpoint):
    """Keeps last.ckpt: of every epoch's end, within an epoch every few minutes, and of where a run stopped.

    What it holds is the state after a whole number of steps, when all of them is logged. A signal, see
    `Signals`, stops the run at such a place.

    Args:
        minutes: time between two checkpoints within an epoch.
    """

    def __init__(self, minutes: float = 10.0) -> None:
        super().__init__(filename="last", enable_version_counter=False)
        if not minutes > 0:
            raise ValueError(f"LastCheckpoint.minutes must be above 0, got {minutes}")
        self.minutes = minutes
        self._next = float("inf")
        self._whole = -1
        self._position = 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Nothing: a run that goes on knows where its last.ckpt is."""
        return {}

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back from Lightning, which would end the training at another place."""
        SIGNALS.install()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hold signals back: from now on there are steps to lose."""
        SIGNALS.hold()
        self._next = time.monotonic() + 60 * self.minutes
        self._position = _position(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the epoch before, now that all of it is logged."""
        stop, _ = agree(trainer, SIGNALS.received or 0, False)
        self._save(trainer)
        _stop(stop)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Save the steps before if it is time to, or the run must stop."""
        if batch_idx % trainer.accumulate_grad_batches:
            return
        self._whole = _changes(pl_module)
        stop, due = agree(trainer, SIGNALS.received or 0, time.monotonic() >= self._next)
        if stop or due:
            self._save(trainer)
        _stop(stop)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before a validation, and the run that goes on begins with it.

        Several ranks always save: within a validation they cannot, as each has batches of its own. Where
        gradients wait for those of further batches, the run stops after their step.
        """
        if trainer.sanity_checking or _step_half_done(trainer):
            return
        stop, _ = agree(trainer, SIGNALS.received or 0, False)
        if stop or trainer.world_size > 1:
            self._save(trainer)
        _stop(stop)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop within a validation, which the run that goes on makes again; `RankWatch` ends other ranks."""
        if SIGNALS.received and not trainer.sanity_checking and not _step_half_done(trainer):
            if trainer.world_size == 1:
                self._save(trainer)
            _stop(SIGNALS.received)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: a checkpoint of an epoch is one of its end."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Nothing: the step is not logged yet."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last epoch, which no other follows; the end of the training changes the weights."""
        steps, epochs = _position(trainer)
        limits = ((epochs, trainer.max_epochs), (steps, trainer.max_steps))
        if trainer.should_stop or any(limit not in (None, -1) and n >= limit for n, limit in limits):
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let signals through again."""
        SIGNALS.release()
        _stop(SIGNALS.received or 0)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save what was trained before an error, if no step is half done."""
        SIGNALS.release()
        if isinstance(exception, Stopped) or trainer.world_size > 1 or self._whole < 0:
            return
        epoch = trainer.fit_loop.epoch_progress.current
        within = epoch.processed < epoch.started  # type: ignore[attr-defined]
        whole = trainer.validating or self._whole == _changes(pl_module)
        if within and whole and not _step_half_done(trainer):
            self._save(trainer)
            rank_zero_info(f"The {trainer.global_step} steps before the error are in {self._path}")

    @property
    def _path(self) -> str:
        return self.format_checkpoint_name({})

    def _save(self, trainer: Trainer) -> None:
        position = _position(trainer)
        if trainer.fast_dev_run or position in (self._position, (0, 0)):  # type: ignore[attr-defined]
            return
        for logger in trainer.loggers:  # what was logged before the checkpoint must outlive a kill, too
            logger.save()
        self._save_checkpoint(trainer, self._path)
        self._position = position
        wait = RETRY if failed(trainer) else 60 * self.minutes
        self._next = time.monotonic() + wait


def _position(trainer: Trainer) -> tuple[int, int]:
    """Steps and epochs that are done."""
    return trainer.global_step, trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]


def _step_half_done(trainer: Trainer) -> bool:
    """Whether there are gradients, which no checkpoint holds, that wait for those of further batches."""
    batches = trainer.fit_loop.epoch_loop.batch_progress
    waiting = batches.current.processed % trainer.accumulate_grad_batches  # type: ignore[attr-defined]
    return bool(waiting) and not batches.is_last_batch


def failed(trainer: Trainer) -> bool:
    """Whether the last checkpoint could not be written, the same on all ranks."""
    files = trainer.strategy.checkpoint_io
    found: bool = trainer.strategy.broadcast(isinstance(files, WholeFiles) and files.failure is not None)
    return found


def _stop(signum: int) -> None:
    if signum:
        raise Stopped(signum)


@torch.no_grad()
def _changes(pl_module: LightningModule) -> int:
    """How often anything of the module was written to; a count that a half-done step has moved."""
    return sum(tensor._version for tensor in chain(pl_module.parameters(), pl_module.buffers()))

"""Steps whose loss or gradients are not numbers: left out, named, and kept to be looked at.

On a GPU nothing waits for the device: what is decided there stays there, and the host reads it later.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from torch.optim import Optimizer

from datamodules.batch import Batch
from detector.intact import not_finite
from detector.training.files import write_whole

LAG = 2
"""Steps after which the host of a GPU looks at a step; the device has long finished it."""

FOLDER = "not_finite"
"""Folder of a run that keeps the batches."""


def spoil(loss: Tensor) -> Tensor:
    """The same loss; if it is not finite, none of its gradients is, so that all ranks see it in their sum.

    Args:
        loss: (), a scalar with its graph.
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)


def require_finite(checkpoint: Mapping[str, Any]) -> None:
    """Refuse to save weights that are not numbers, over ones that are.

    Args:
        checkpoint: about to be saved.

    Raises:
        ValueError: names a weight.
    """
    for part in ("state_dict", "current_model_state"):
        if spoiled := not_finite(checkpoint.get(part, {})):
            raise ValueError(
                f"the weights are no numbers any more, {spoiled} and perhaps others, and are not saved: "
                "go on from the checkpoint before with a lower --model.optimizer.lr, or with "
                "--trainer.precision=32-true"
            )


def clip(
    pl_module: LightningModule,
    optimizer: Optimizer,
    gradient_clip_val: float | None,
    gradient_clip_algorithm: str | None,
) -> None:
    """Clip gradients, by the norm that `NonFiniteSteps` has computed where it has.

    Args:
        pl_module: the module, whose `gradient_norm` it is.
        optimizer: of the gradients.
        gradient_clip_val: largest norm or value; None for no clipping.
        gradient_clip_algorithm: "norm" or "value"; None for the norm.
    """
    norm: Any = pl_module.gradient_norm
    pl_module.gradient_norm = None  # type: ignore[assignment]
    if norm is None or not gradient_clip_val or gradient_clip_algorithm == "value":
        pl_module.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        return
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    torch.nn.utils.clip_grads_with_norm_(weights, float(gradient_clip_val), norm)


@dataclass
class _Step:
    """What is needed to tell of a step: values on the host, or on their way there."""

    step: int
    epoch: int
    batch_index: int
    batch: Batch
    names: list[str]
    values: Tensor
    arrived: torch.cuda.Event | None
    taken: bool


class NonFiniteSteps(Callback):
    """Leaves out steps whose loss or gradients hold NaN or infinity, on all ranks alike.

    Weights, optimizer and the statistics of norms stay as they were. The batch is kept in the run folder's
    `not_finite`; `python -m pinpoint.cli.replay FILE` computes its loss again. In half precision with a
    gradient scaler, which leaves out steps by itself until it has found its scale, losses alone are watched.
    Optimizers that cannot leave out a step on a GPU by themselves take one with gradients of zero.

    Args:
        action: "skip" goes on without the step, "stop" ends the run at the first one.
        most: steps in a row after which the run ends.
    """

    def __init__(self, action: Literal["skip", "stop"] = "skip", most: int = 5) -> None:
        if most < 1:
            raise ValueError(f"NonFiniteSteps.most must be at least 1, got {most}")
        self.action, self.most = action, most
        self.in_a_row = 0
        self._folder: str | None = None
        self._bad: Tensor | None = None
        self._waiting: deque[_Step] = deque()
        self._statistics: list[Tensor] = []
        self._kept: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the statistics that a forward pass changes."""
        self._folder = trainer.log_dir if trainer.loggers else None  # asks all ranks
        named = pl_module.named_buffers()
        self._statistics = [b for name, b in named if name.endswith(("running_mean", "running_var"))]
        self._kept = [torch.empty_like(statistic) for statistic in self._statistics]
        self._waiting.clear()

    @torch.no_grad()
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Keep the statistics of norms."""
        if batch_idx % trainer.accumulate_grad_batches == 0 and self._statistics:
            torch._foreach_copy_(self._kept, self._statistics)
        self._bad = None

    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Decide on the device whether the step is left out."""
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            self._bad = ~trainer.callback_metrics["train/loss"].isfinite()
        else:
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
            self._bad = ~norm.isfinite()
            pl_module.gradient_norm = norm.masked_fill(self._bad, 0)  # clipping needs it, too
            if all(group.get("fused") for group in optimizer.param_groups):
                optimizer.found_inf, optimizer.grad_scale = self._bad.float(), None  # type: ignore[attr-defined]
            elif gradients[0].is_cuda:
                for gradient in gradients:
                    gradient.masked_fill_(self._bad, 0)
            elif bool(self._bad):
                optimizer.zero_grad()
        if self._statistics:
            now, before = (torch.cat([s.flatten() for s in own]) for own in (self._statistics, self._kept))
            whole = torch.where(self._bad, before, now).split([s.numel() for s in self._statistics])
            torch._foreach_copy_(self._statistics, list(whole))

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Look at the steps that are surely over.

        Raises:
            ValueError: one of them, or the last of a few in a row, ends the run.
        """
        terms = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
        bad = torch.zeros((), dtype=torch.bool, device=pl_module.device) if self._bad is None else self._bad
        values = torch.stack([bad.float(), *(value.detach().float() for value in terms.values())])
        arrived = None
        if values.is_cuda:
            host = torch.empty(values.shape, pin_memory=True).copy_(values, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
            values = host
        names = [name.removeprefix("train/") for name in terms]
        self._waiting.append(
            _Step(
                trainer.global_step,
                trainer.current_epoch,
                batch_idx,
                batch,
                names,
                values,
                arrived,
                self._bad is not None,
            )
        )
        while len(self._waiting) > (LAG if arrived else 0):
            step = self._waiting.popleft()
            if step.arrived is not None:
                step.arrived.synchronize()
            self._look_at(step, trainer, pl_module)

    def _look_at(self, step: _Step, trainer: Trainer, pl_module: LightningModule) -> None:
        bad, *values = step.values.tolist()
        terms = [name for name, value in zip(step.names, values, strict=True) if not math.isfinite(value)]
        if not bad and not terms:
            self.in_a_row = 0 if step.taken else self.in_a_row
            return
        self.in_a_row += bool(bad)
        ours = bool(terms) or trainer.world_size == 1
        images = ", ".join(info.file_name for info in step.batch.infos)
        what = " and ".join(terms) or "the gradient"
        if not bool(step.batch.images.isfinite().all()):
            what = f"pixels, and so {what},"
        said = f"step {step.step} (epoch {step.epoch}, batch {step.batch_index}): {what} not finite"
        said += f", of {images}" if ours else " on another rank"
        if ours and (file := self._keep(step, trainer, pl_module)):
            said += f"; python -m pinpoint.cli.replay {file} computes it again"
        if self.action == "stop":
            raise ValueError(said)
        if self.in_a_row >= self.most:
            raise ValueError(f"{self.in_a_row} steps in a row could not be taken, the last one {said}")
        rank_zero_warn(f"left out {said}")

    def _keep(self, step: _Step, trainer: Trainer, pl_module: LightningModule) -> Path | None:
        """Write a batch, with the weights and the configuration that its loss came from."""
        if self._folder is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return None
        content: dict[str, Any] = {"state_dict": pl_module.state_dict(), "class_names": pl_module.class_names}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, SaveConfigCallback):
                callback.on_save_checkpoint(trainer, pl_module, content)
        batch = step.batch
        parts = ("images", "boxes", "labels", "image_index", "ignore_boxes", "ignore_index")
        content["batch"] = {name: getattr(batch, name).cpu() for name in parts}
        content["batch"]["files"] = [info.file_name for info in batch.infos]
        rank = f"_rank_{trainer.global_rank}" if trainer.world_size > 1 else ""
        path = Path(self._folder) / FOLDER / f"step_{step.step}{rank}.pt"
        write_whole(content, path)
        return path

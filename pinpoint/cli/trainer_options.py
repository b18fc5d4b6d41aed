"""Options of Lightning's trainer that would not do here what they say: refused before anything is read."""

from __future__ import annotations

from typing import Any

DIVIDING = ("fsdp", "deepspeed", "modelparallel")
"""How Lightning's names of strategies begin under which no rank has all weights."""

UNFIT = {
    "BackboneFinetuning": "averaged weights and a schedule for all steps: hold the backbone back with "
    "--model.backbone_lr=0.1, or freeze it with --model.freeze=backbone",
    "BatchSizeFinder": "batches of uneven numbers of objects: use --data.batch_size=auto",
    "EMAWeightAveraging": "the EMA callback, which averages weights already",
    "GradientAccumulationScheduler": "a schedule for all steps: use --trainer.accumulate_grad_batches=4",
    "LearningRateFinder": "a schedule of warm-up and cosine: compare rates with compare.py --vary "
    "model.optimizer.lr 0.002 0.004 0.008",
    "ModelPruning": "averaged weights: take a smaller network, or int8 by export.py",
    "StochasticWeightAveraging": "the EMA callback, which averages weights already",
    "Timer": "a command line that has it already: --trainer.max_time=00:02:00:00",
    "WeightAveraging": "the EMA callback, which averages weights already",
}
"""Callbacks of Lightning that cannot work here, and what to do instead."""


def check_trainer(trainer: Any) -> None:  # noqa: ANN401  # a namespace of jsonargparse
    """Refuse what does not go with our samplers, schedule and averaged weights.

    Args:
        trainer: section of the configuration.

    Raises:
        ValueError: says what to do instead.
    """
    strategy = str(getattr(trainer.strategy, "class_path", trainer.strategy)).rpartition(".")[2]
    if strategy.lower().startswith(DIVIDING):
        raise ValueError(
            f"--trainer.strategy={strategy} divides the weights among the ranks, and their average needs "
            "them whole: use ddp"
        )
    if "spawn" in f"{strategy} {getattr(trainer.strategy, 'init_args', '')}":
        raise ValueError(
            f"--trainer.strategy={strategy} sends the training to new processes as a pickle, which the "
            "command line's callables are not: use ddp, or ddp_fork on CPUs"
        )
    for callback in trainer.callbacks or []:
        name = callback.class_path.rpartition(".")[2]
        if remedy := UNFIT.get(name):
            raise ValueError(f"{name} does not go with {remedy}")
    if trainer.use_distributed_sampler:
        raise ValueError(
            "--trainer.use_distributed_sampler=true divides the images a second time, as our samplers know "
            "their rank: leave it out"
        )
    if trainer.overfit_batches:
        raise ValueError(
            "--trainer.overfit_batches puts others in the place of our samplers, which know their rank and "
            "position: train on a few images with --data.fraction=0.01"
        )
    for name in ("max_epochs", "max_steps", "limit_train_batches"):
        if trainer[name] == 0:
            raise ValueError(f"--trainer.{name}=0 trains nothing: to score a checkpoint, evaluate it")
    if (trainer.gradient_clip_val or 0) < 0:
        raise ValueError(
            f"--trainer.gradient_clip_val is {trainer.gradient_clip_val:g}: it must not be negative, and 0 "
            "is for no clipping"
        )
    if trainer.check_val_every_n_epoch is not None and trainer.check_val_every_n_epoch < 1:
        raise ValueError(
            f"--trainer.check_val_every_n_epoch is {trainer.check_val_every_n_epoch}: it must be at least 1; "
            "--trainer.limit_val_batches=0 is for no validation"
        )

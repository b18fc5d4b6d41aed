"""A run that goes on: from which checkpoints it can, where its files go, and by which command."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from detector.module import Detector
from detector.parameters import parameter_groups

STATE = ("loops", "optimizer_states", "lr_schedulers", "global_step")
"""What a checkpoint holds beside the weights of a training that can go on."""

MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")
"""What optimizers call those of their states that are like their weights."""

FREE = ("pretrained", "expected_objects", "init_from")
"""Options that matter at the start of a training alone."""


def run_folder(checkpoint: Path) -> Path | None:
    """The run folder that a checkpoint lies in; None if it was moved out of one."""
    place = checkpoint.absolute().parent
    return place.parent if place.name == "checkpoints" else None


def log_into(loggers: Sequence[Any], folder: Path) -> None:
    """Let the loggers of a configuration that write files go on in a run folder, unless they name a version.

    Args:
        loggers: `trainer.logger` of the configuration, as a list; changed in place.
        folder: of the run.
    """
    version = folder.name.removeprefix("version_")
    for logger in loggers:
        options = getattr(logger, "init_args", {})
        if logger_name(logger) in ("TensorBoardLogger", "CSVLogger") and options.get("version") is None:
            options["save_dir"], options["name"] = str(folder.parent.parent), folder.parent.name
            numbered = version.isdigit() and folder.name.startswith("version_")
            options["version"] = int(version) if numbered else folder.name


def logger_name(logger: Any) -> str:  # noqa: ANN401  # a namespace of jsonargparse, or true or false
    """Class of a logger of the configuration, without its package."""
    return str(getattr(logger, "class_path", "")).rpartition(".")[2]


def drop_later(loggers: Sequence[Logger], folder: Path, step: int) -> None:
    """Take out of the curves of a run what was logged after the checkpoint, as it is trained again.

    Args:
        loggers: of the trainer, before anything is logged.
        folder: of the run.
        step: steps of the checkpoint.
    """
    for logger in loggers:
        if logger.log_dir is None or Path(logger.log_dir).absolute() != folder:
            continue
        if isinstance(logger, TensorBoardLogger):
            logger._kwargs["purge_step"] = step  # TensorBoard hides all from this step on that came before
        elif isinstance(logger, CSVLogger):
            rows = list(_rows(folder / "metrics.csv"))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it deletes the file, whose rows it is given back
                _ = logger.experiment
            for row in rows:
                if row["step"] < step:
                    logger.log_metrics(dict(row), int(row["step"]))
            logger.save()


def _rows(path: Path) -> Iterator[dict[str, float]]:
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                yield {name: float(value) for name, value in row.items() if value}


def require_state(
    path: str, checkpoint: Mapping[str, Any], model: Detector, loops: Mapping[str, Any]
) -> None:
    """Refuse a checkpoint without the whole state of a training.

    Args:
        path: its file.
        checkpoint: its content, of this run's network and optimizer.
        model: of this run.
        loops: state of the trainer's loops, to which the checkpoint's must be alike.

    Raises:
        ValueError: says which part is not what a training saves.
    """
    groups = parameter_groups(model.network)
    weights = [weight for group in groups for weight in group["params"]]
    expected: dict[str, Any] = {
        "loops": {"fit_loop": loops},
        "lr_schedulers": [{"base_lrs": [0.1] * len(groups), "last_epoch": 0}],
        "callbacks": {},
        "global_step": 0,
        "pytorch-lightning_version": "",
    }
    for part, wanted in expected.items():
        if not _alike(wanted, checkpoint.get(part)):
            raise ValueError(f"{path} is damaged: its {part} is not what a training saves")
    for state in checkpoint["optimizer_states"]:
        for number, moments in state["state"].items():
            shape = weights[number].shape if number in range(len(weights)) else None
            # Optimizers that keep sums of rows and columns have states of other shapes.
            alike = [moments[name] for name in MOMENTS if name in moments]
            held = [m.shape for m in alike if isinstance(m, torch.Tensor)]
            if any(one != shape for one in held):
                raise ValueError(f"{path} is damaged: its optimizer_states do not fit its weights")


def require_epochs(path: str, checkpoint: Mapping[str, Any], most: int | None) -> None:
    """Refuse to go on for fewer epochs than are done.

    Args:
        path: the checkpoint's file.
        checkpoint: its content, see `require_state`.
        most: epochs of this run; None or -1 for no limit.

    Raises:
        ValueError: says how many are done.
    """
    done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"]
    if most is not None and 0 <= most < done:
        raise ValueError(f"{path} has done {done} epochs, more than --trainer.max_epochs={most}: give more")


def _alike(wanted: Any, found: Any) -> bool:  # noqa: ANN401  # nests of plain values
    """Whether what is found has all that is wanted, of the same kinds."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            name in found and _alike(value, found[name]) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        same = isinstance(found, list) and len(found) == len(wanted)
        return same and all(map(_alike, wanted, found))
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        return type(found) is int and found >= 0
    return isinstance(found, type(wanted))


def require_same(
    path: str,
    checkpoint: Mapping[str, Any],
    model: Detector,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
) -> None:
    """Refuse to go on with other classes, another network or another optimizer; say what else is another.

    Args:
        path: the checkpoint's file.
        checkpoint: its content.
        model: of this run.
        before: the checkpoint's configuration.
        now: this run's.

    Raises:
        ValueError: it cannot go on; names the options that differ.
    """
    anew = f"or start a new training from its weights with --model.init_from={path}"
    if missing := [name for name in STATE if name not in checkpoint]:
        raise ValueError(
            f"{path} holds weights, but not the state of a training ({', '.join(missing)}): give the "
            f"last.ckpt of a run, {anew}"
        )
    model.require_classes(checkpoint)
    changed = _differences(before.get("model", {}), now["model"])
    changed = {name: values for name, values in changed.items() if name.split(".")[-1] not in FREE}
    network = [name for name in changed if name.startswith("network")]
    weights = {name: value.shape for name, value in model.state_dict().items()}
    for part in ("state_dict", "current_model_state"):
        states = checkpoint.get(part, checkpoint["state_dict"])
        if network or {name: value.shape for name, value in states.items()} != weights:
            named = _named(changed, network or [name for name in changed if name.startswith("loss")])
            named = named or "another network, or one of another version of Pinpoint"
            raise ValueError(f"{path} was trained with {named}: give the same, {anew}")
    chosen = [name for name in changed if name in ("optimizer", "freeze")]
    if chosen or not _same_groups(checkpoint["optimizer_states"], model):
        named = _named(changed, chosen) or "another optimizer"
        raise ValueError(f"{path} was trained with {named}: give the same, {anew}")
    kept = [name for name in changed if name.startswith("optimizer.") or name == "backbone_lr"]
    if kept:
        rank_zero_warn(f"a run keeps its optimizer: {path} goes on with {_named(changed, kept)}")
    others = {f"model.{name}": values for name, values in changed.items() if name not in kept}
    others |= {f"data.{n}": v for n, v in _differences(before.get("data", {}), now["data"]).items()}
    if others:
        named = ", ".join(f"--{name}={new} (before: {old})" for name, (old, new) in others.items())
        rank_zero_info(f"{path} goes on with {named}")


def _same_groups(states: Any, model: Detector) -> bool:  # noqa: ANN401  # whatever a file holds
    groups = [len(group["params"]) for group in parameter_groups(model.network)]
    wanted = [{"state": {}, "param_groups": [{"params": [0] * count, "lr": 0.1} for count in groups]}]
    return _alike(wanted, states)


def _named(changed: Mapping[str, tuple[Any, Any]], names: Sequence[str]) -> str:
    return ", ".join(f"--model.{name}={changed[name][0]} (this run has {changed[name][1]})" for name in names)


def _differences(before: Any, now: Any) -> dict[str, tuple[Any, Any]]:  # noqa: ANN401  # sections of YAML
    """Options that both name with different values, `network.strides` and so on."""
    old, new = dict(_leaves(before)), dict(_leaves(now))
    return {name: (old[name], new[name]) for name in old.keys() & new.keys() if old[name] != new[name]}


def _leaves(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    for key, value in section.items():
        if key == "class_path":
            yield prefix.rstrip("."), str(value).rpartition(".")[2]
        elif key == "init_args":
            yield from _leaves(value or {}, prefix)
        elif isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value

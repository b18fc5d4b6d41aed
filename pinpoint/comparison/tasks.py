"""The cells of a comparison: their folders, their configurations, their results."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pinpoint.cli.detection import DetectionCLI
from pinpoint.comparison.cell import RESULT
from pinpoint.comparison.differences import Cell
from pinpoint.comparison.variants import Variant

OURS = ("seed_everything", "ckpt_path", "new_version", "trainer.logger", "trainer.devices")
"""Options that a comparison sets itself."""


@dataclass(frozen=True, slots=True)
class Task:
    """A cell to be trained.

    Attributes:
        variant: name of the variant.
        seed: of the training.
        folder: of the cell.
        arguments: train.py's command line.
    """

    variant: str
    seed: int
    folder: Path
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.variant}, seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether the cell has its result."""
        return (self.folder / RESULT).is_file()


def plan(
    variants: Sequence[Variant], seeds: Sequence[int], arguments: Sequence[str], output: Path
) -> list[Task]:
    """Check all configurations and record them, before the first cell starts.

    Args:
        variants: what is compared.
        seeds: of the trainings.
        arguments: train.py's options that all cells share.
        output: folder of the comparison.

    Returns:
        The cells, seed by seed, so that a comparison cut short has whole pairs.

    Raises:
        ValueError: if a cell was begun with another configuration, or an option is not the caller's.
    """
    given = [*arguments, *(f"--{option}" for variant in variants for option in variant.options)]
    for key in OURS:
        if any(argument.startswith(f"--{key}") for argument in given):
            raise ValueError(f"--{key} is set by the comparison itself: --seeds, --jobs, --output")
    tasks = []
    for seed in dict.fromkeys(seeds):
        for variant in variants:
            options = [
                *(f"--{o}" for o in variant.options),
                f"--seed_everything={seed}",
                "--trainer.devices=1",
            ]
            folder = output / "cells" / variant.name / f"seed_{seed}"
            tasks.append(Task(variant.name, seed, folder, (*arguments, *options)))
    for task in tasks:
        _record(task)
    return tasks


def read_cell(task: Task) -> Cell:
    """Read the result of a finished cell."""
    result = json.loads((task.folder / RESULT).read_text("utf-8"))
    numbers = {name: float("nan") if value is None else value for name, value in result["scores"].items()}
    return Cell(
        variant=task.variant,
        seed=task.seed,
        scores=numbers,
        resampled={name: np.array(v, dtype=np.float64) for name, v in result["resampled"].items()},
        images=result["images"],
        image_set=result.get("image_set", ""),
        curves={name: (np.array(s), np.array(v)) for name, (s, v) in result["curves"].items()},
        seconds=result["seconds"],
        attempts=result["attempts"],
    )


def machines(tasks: Sequence[Task]) -> str:
    """Where finished cells were trained; differing threads or versions change the last digits."""
    kinds = {
        "{device}, {threads} threads, torch {torch}".format(
            **json.loads((task.folder / RESULT).read_text())["machine"]
        )
        for task in tasks
    }
    return "; ".join(sorted(kinds))


class _Configuration(DetectionCLI):
    """Parses and checks the options, and builds nothing."""

    def _set_seed(self) -> None:
        """Leave the generators alone."""

    def instantiate_classes(self) -> None:
        """Build nothing."""


def _record(task: Task) -> None:
    """Write a cell's configuration, or compare it with the one that is written."""
    cli = _Configuration(list(task.arguments))
    config = _flat(yaml.safe_load(cli.parser.dump(cli.config, skip_none=False)))
    if config.get("data.init_args.batch_size") == "auto":
        raise ValueError(
            "--data.batch_size=auto would measure each cell's memory, and cells of other batches do not "
            "compare: give a number, such as train.py chooses with auto"
        )
    config = {key: value for key, value in config.items() if not key.startswith("trainer.logger")}
    own = any(str(value).endswith("LastCheckpoint") for value in config.values())
    if not own and not any(value == "last" for key, value in config.items() if key.endswith("filename")):
        raise ValueError(
            "the configuration keeps no last.ckpt, from which cells are resumed and scored: add "
            "LastCheckpoint, as in configs/default.yaml, to trainer.callbacks"
        )
    path = task.folder / "config.json"
    if not any(task.folder.glob("attempt_*")):
        task.folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(".config.json")
        unfinished.write_text(json.dumps(config, indent=1))
        unfinished.replace(path)
        return
    recorded = json.loads(path.read_text())
    missing = object()
    changed = [key for key in config | recorded if config.get(key, missing) != recorded.get(key, missing)]
    if changed:
        lines = [
            f"{key}: {recorded.get(key, 'not set')} there, {config.get(key, 'not set')} now"
            for key in changed
        ]
        raise ValueError(
            f"{task.folder} holds a cell of another configuration:\n  " + "\n  ".join(lines[:8]) + "\n"
            "choose another --output, or delete that folder to train the cell anew"
        )


def _flat(tree: object, prefix: str = "") -> dict[str, Any]:
    """Leaves of nested mappings and lists by their dotted path."""
    if isinstance(tree, dict | list) and tree:
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {
            k: v
            for key, value in items
            for k, v in _flat(value, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return {prefix: tree}

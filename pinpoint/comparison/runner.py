"""Runs the cells of a comparison, each variant with each seed, one process a cell, and none twice.

    OUTPUT/cells/VARIANT/seed_0/   config.json   its whole configuration: a cell of another is refused
                                   attempt_0/    run folder; another one after each interruption
                                   log.txt       what the training printed
                                   result.json   scores; written last and whole, so it marks a finished cell

A cell's process ends with ours, however that ends, so that no cell is ever trained by two.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from pinpoint.cli.detection import DetectionCLI
from pinpoint.comparison.cell import RESULT
from pinpoint.comparison.differences import Cell

ROOT = Path(__file__).parents[2]
OURS = ("seed_everything", "ckpt_path", "trainer.logger", "trainer.devices")
"""Options that a comparison sets itself."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What is compared.

    Attributes:
        name: names its folder.
        options: train.py's options without their dashes, such as "model.loss.box=ciou".
    """

    name: str
    options: tuple[str, ...]


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


def read_variants(
    losses: Sequence[str], varied: Sequence[Sequence[str]], named: Sequence[str]
) -> list[Variant]:
    """Read the variants from the command line, in the order given here.

    Args:
        losses: box losses, each a variant.
        varied: a key and its values, each value a variant.
        named: "NAME: KEY=VALUE KEY=VALUE", each a variant.

    Raises:
        ValueError: if fewer than two variants are given, two have one name, or one cannot be read.
    """
    variants = [Variant(name, (f"model.loss.box={name}",)) for name in losses]
    for key, *values in varied:
        if not values:
            raise ValueError(f"--vary {key} needs values: --vary model.loss.gain_box 5 7.5 10")
        variants += [Variant(f"{key.rpartition('.')[2]}={value}", (f"{key}={value}",)) for value in values]
    for text in named:
        name, colon, options = text.partition(":")
        if not colon or not all("=" in option for option in shlex.split(options)):
            raise ValueError(
                f"cannot read the variant {text!r}: write 'NAME: KEY=VALUE KEY=VALUE', for example "
                "'strong: model.loss.box=ciou model.loss.gain_box=11.5'"
            )
        variants.append(Variant(name.strip(), tuple(shlex.split(options))))
    names = [variant.name for variant in variants]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"give at least two variants of different names, got {', '.join(names) or 'none'}")
    for name in names:
        if not re.fullmatch(r"[\w.+=-][\w.+= -]*", name):
            raise ValueError(f"{name!r} cannot name a folder: use --variants 'NAME: ...' with a plain name")
    return variants


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


def run(tasks: Sequence[Task], jobs: int | None, lock: int) -> list[Task]:
    """Run the cells that are not finished, several at a time, and tell how far they are.

    On GPUs each process sees one; on the CPU all share the cores.

    Args:
        tasks: the cells.
        jobs: processes at a time; None for one a GPU, or one on the CPU.
        lock: descriptor that each process holds, see `locked`.

    Returns:
        The cells that failed.

    Raises:
        ValueError: if `jobs` is below 1.
    """
    gpus = _gpus(tasks[0])
    jobs = len(gpus) or 1 if jobs is None else jobs
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    waiting, failed = [task for task in tasks if not task.finished], []
    running: dict[int, tuple[Task, subprocess.Popen[bytes], float]] = {}
    seconds: list[float] = []
    done = len(tasks) - len(waiting)
    print(f"{len(tasks)} cells: {done} finished, {len(waiting)} to train, {jobs} at a time", flush=True)
    try:
        while waiting or running:
            for slot in range(jobs):
                if slot not in running and waiting:
                    task = waiting.pop(0)
                    process = _start(task, gpus[slot % len(gpus)] if gpus else None, jobs, lock)
                    running[slot] = task, process, time.monotonic()
            time.sleep(0.2)
            for slot, (task, process, start) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[slot]
                if not task.finished:
                    failed.append(task)
                    print(f"{task.name} failed; {task.folder / 'log.txt'} ends:\n{_tail(task)}", flush=True)
                    continue
                seconds.append(time.monotonic() - start)
                left = sum(seconds) / len(seconds) * (len(waiting) + len(running)) / jobs
                finished = f"[{done + len(seconds)}/{len(tasks)}] {_summary(task)}"
                print(finished + (f"; {_time_left(left)}" if left else ""), flush=True)
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on from here")
    finally:
        # All are killed before one is waited for: a second Ctrl-C would end the waiting.
        for _, process, _ in running.values():
            process.kill()
        for _, process, _ in running.values():
            process.wait()
    return failed


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


@contextmanager
def locked(folder: Path, patience: float = 20.0) -> Iterator[int]:
    """Hold a folder's lock, so that one comparison at a time works there.

    The processes of a comparison that was killed hold it until they have ended, within seconds.

    Args:
        folder: made if it is not there.
        patience: seconds to wait for it.

    Yields:
        A descriptor; the lock lasts as long as any process holds it.

    Raises:
        ValueError: if another process keeps the lock, or on Windows, whose processes cannot share one.
    """
    try:
        import fcntl
    except ImportError as error:
        raise ValueError(
            "comparisons run on Linux and macOS: Windows has no locks that cells share"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ValueError(
                        f"another comparison works in {folder}: wait for it, or use --output"
                    ) from None
                time.sleep(0.2)
        yield file.fileno()


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
    config = {key: value for key, value in config.items() if not key.startswith("trainer.logger")}
    if not any(value == "last" for key, value in config.items() if key.endswith("filename")):
        raise ValueError(
            "the configuration keeps no last.ckpt, from which cells are resumed and scored: add the "
            "ModelCheckpoint with `filename: last` of configs/default.yaml to trainer.callbacks"
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


def _start(task: Task, gpu: str | None, jobs: int, lock: int) -> subprocess.Popen[bytes]:
    """Start a cell's process; its standard input is the pipe whose end tells it that we ended."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    # The cells share the cores: threads of several that fight for one cost far more than they bring.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // jobs)))
    with (task.folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            _command(task),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(lock,),
        )


def _command(task: Task) -> list[str]:
    return [sys.executable, "-m", "pinpoint.comparison.cell", str(task.folder), *task.arguments]


def _gpus(task: Task) -> list[str]:
    """Names of the GPUs that the cells may use, none for the CPU."""
    config = json.loads((task.folder / "config.json").read_text())
    if config["trainer.accelerator"] not in ("auto", "gpu", "cuda"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return [gpu for gpu in visible.split(",") if gpu][:count] if visible else [str(k) for k in range(count)]


def _summary(task: Task) -> str:
    cell = read_cell(task)
    ap, ap50 = 100 * cell.scores["AP"], 100 * cell.scores["AP50"]
    return f"{task.name}: AP {ap:.1f}, AP50 {ap50:.1f} after {cell.seconds:.0f} s"


def _time_left(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min left" if seconds >= 60 else f"about {seconds:.0f} s left"


def _tail(task: Task, lines: int = 12) -> str:
    text = (task.folder / "log.txt").read_text("utf-8", errors="replace")
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])

"""Runs the cells of a comparison, each variant with each seed, one process a cell, and none twice.

    OUTPUT/cells/VARIANT/seed_0/   config.json   its whole configuration: a cell of another is refused
                                   attempt_0/    run folder; another one after each interruption
                                   log.txt       what the training printed
                                   result.json   scores; written last and whole, so it marks a finished cell

A cell's process ends with ours, however that ends, so that no cell is ever trained by two.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from pinpoint.comparison.tasks import Task, read_cell

ROOT = Path(__file__).parents[2]


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
    ap, ap50 = cell.scores["AP"], cell.scores["AP50"]
    return f"{task.name}: AP {ap:.3f}, AP50 {ap50:.3f} after {cell.seconds:.0f} s"


def _time_left(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min left" if seconds >= 60 else f"about {seconds:.0f} s left"


def _tail(task: Task, lines: int = 12) -> str:
    text = (task.folder / "log.txt").read_text("utf-8", errors="replace")
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])

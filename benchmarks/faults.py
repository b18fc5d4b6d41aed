"""Breaks trainings off at random moments and holds what they come to against one that nobody disturbed.

    python benchmarks/faults.py kills --workers 0 2 4 --runs 4 --kills 3
    python benchmarks/faults.py kills --workers 0 2 --ranks 2 --runs 2 --epochs 16
    python benchmarks/faults.py signals --workers 0 2
    python benchmarks/faults.py long --epochs 60
    python benchmarks/faults.py cost

Networks and images are tiny, with mosaic and canvases of varying size. One rank is forked from a process that
has imported everything; two are started as `--trainer.devices=2` starts them, which takes longer than three
epochs: give them more, or all kills come before the first step.
"""

from __future__ import annotations

import argparse
import csv
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402
from lightning.pytorch import Trainer  # noqa: E402
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402

import pinpoint.cli.detection  # noqa: E402, F401  # before the forks
from pinpoint.cli.errors import user_errors  # noqa: E402
from pinpoint.cli.train import main as train  # noqa: E402

logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells each curve that it purges

CLOCKS = ("images_per_second", "seconds")
"""Columns of results.csv that no two runs share."""


@dataclass(frozen=True)
class Training:
    """A tiny training.

    Attributes:
        folder: for its runs; made.
        data: folder of the generated scenes.
        workers: processes that read.
        ranks: processes that train.
        epochs: number of them.
        more: further options.
    """

    folder: Path
    data: Path
    workers: int = 0
    ranks: int = 1
    epochs: int = 3
    more: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        """Options of train.py."""
        return [
            "--data=ScenesDataModule",
            f"--data.root={self.data}",
            "--data.train_count=16",
            "--data.val_count=4",
            "--data.scene_size=[96,96]",
            "--data.image_size=[96,96]",
            f"--data.batch_size={2 // self.ranks}",
            f"--data.num_workers={self.workers}",
            "--data.augment.mosaic=0.5",
            "--data.augment.close_mosaic=1",
            "--data.sampling.multi_scale=[0.6,1.3]",
            "--model.network.backbone=mobilenetv4_conv_small_050",
            "--model.network.channels=16",
            "--model.optimizer.lr=0.02",
            f"--trainer.max_epochs={self.epochs}",
            "--trainer.accelerator=cpu",
            f"--trainer.devices={self.ranks}",
            f"--trainer.strategy={'ddp' if self.ranks > 1 else 'auto'}",
            "--trainer.log_every_n_steps=1",
            f"--trainer.logger.init_args.save_dir={self.folder}",
            "--trainer.logger.init_args.name=run",
            "--trainer.callbacks+=LastCheckpoint",
            "--trainer.callbacks.minutes=0.01",
            *self.more,
        ]

    @property
    def last(self) -> Path | None:
        """The newest last.ckpt, None if there is none."""
        return max(self.folder.glob("run/*/checkpoints/last.ckpt"), key=os.path.getmtime, default=None)

    @property
    def run(self) -> Path:
        """The run folder, where there is a checkpoint."""
        assert self.last, self.log.read_text()
        return self.last.parents[1]

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / "log.txt"

    def start(self) -> int:
        """Start it, or go on from its last checkpoint, in a process group of its own; returns the process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        options = [*self.options, *([f"--ckpt_path={self.last}"] if self.last else [])]
        if self.ranks > 1:
            with self.log.open("ab") as log:
                script = [sys.executable, str(ROOT / "train.py"), *options]
                return subprocess.Popen(script, stdout=log, stderr=log, start_new_session=True).pid
        process = os.fork()
        if process == 0:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where we run in the background
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.argv = ["train.py", *options]
            code: object = 1
            try:
                with user_errors():
                    train(options)
                code = 0
            except SystemExit as stop:
                code = stop.code
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code if isinstance(code, int) else 1)
        return process


def wait(process: int, seconds: float) -> int | None:
    """The exit code of a process, minus the signal that ended it; None if it goes on for longer."""
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)


def end(process: int, group: bool) -> None:
    """Kill a process, or its whole group, and wait for it."""
    (os.killpg if group else os.kill)(process, signal.SIGKILL)
    os.waitpid(process, 0)


def differences(whole: Path, broken: Path) -> list[str]:
    """What is not the same to the bit in two run folders: weights, averages, optimizer, logs."""
    found = []
    for name in ("last", "best"):
        ours, theirs = (
            torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
            for folder in (whole, broken)
        )
        keys = (
            "state_dict",
            "current_model_state",
            "optimizer_states",
            "lr_schedulers",
            "global_step",
            "epoch",
        )
        found += [f"{name}.ckpt {key}" for key in keys if not same(ours[key], theirs[key])]
    if rows(whole) != rows(broken):
        found.append("results.csv")
    curves, others = scalars(whole), scalars(broken)
    for tag in sorted(curves.keys() | others.keys()):
        expected, shown = curves.get(tag, []), others.get(tag, [])
        if shown != expected:
            found.append(f"{tag} shown twice" if list(dict.fromkeys(shown)) == expected else tag)
    return found


def same(a: object, b: object) -> bool:
    """Whether two nests of tensors are the same to the bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def rows(folder: Path) -> list[dict[str, str]]:
    """results.csv without the clocks."""
    with (folder / "results.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in CLOCKS} for row in csv.DictReader(file)]


def scalars(folder: Path) -> dict[str, list[tuple[int, str]]]:
    """TensorBoard's curves as it shows them: step and value, by name."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(event.step, repr(event.value)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def pairs(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, float, Training, Training]]:
    """Undisturbed trainings, each beside a new one to disturb.

    Yields:
        How many workers and ranks they have, seconds that the undisturbed one took, it, the new one.
    """
    for ranks, workers in product(args.ranks, args.workers):
        whole = Training(folder / f"whole-{workers}-{ranks}", folder / "data", workers, ranks, args.epochs)
        begin = time.monotonic()
        finish(whole)
        seconds = time.monotonic() - begin
        for number in range(args.runs):
            broken = replace(whole, folder=folder / f"run-{workers}-{ranks}-{number}")
            yield f"{workers} workers, {ranks} ranks", seconds, whole, broken


def finish(training: Training) -> None:
    """Let a training come to its end."""
    assert wait(training.start(), 600) == 0, training.log.read_text()


def kills(args: argparse.Namespace, folder: Path) -> int:
    """Kill trainings at random moments and let them go on; returns how many came to something else."""
    choose, bad, done = random.Random(args.seed), 0, 0
    for what, seconds, whole, broken in pairs(args, folder):
        when: list[str] = []
        while len(when) < args.kills:
            process, moment = broken.start(), choose.uniform(0.05, 0.6) * seconds
            code = wait(process, moment)
            if code is not None:
                assert code == 0, broken.log.read_text()
                break
            end(process, group=choose.random() < 0.5)
            steps = torch.load(broken.last, weights_only=True)["global_step"] if broken.last else 0
            when.append(f"{moment:.1f} s (step {steps} saved)")
        else:
            finish(broken)
        found = differences(whole.run, broken.run)
        bad, done = bad + bool(found), done + len(when)
        print(f"{what}, killed after {', '.join(when)}: ", end="")
        print(f"DIFFERENT: {found}" if found else "equal to the bit", flush=True)
    print(f"{done} kills, {bad} runs came to something else; an undisturbed run takes {seconds:.1f} s")
    return bad


def signals(args: argparse.Namespace, folder: Path) -> int:
    """Ask trainings to stop at random moments and let them go on; returns how many did something else."""
    choose, bad, taken = random.Random(args.seed), 0, []
    for what, seconds, whole, broken in pairs(args, folder):
        found = []
        for _ in range(args.kills):
            process, name = broken.start(), choose.choice(("SIGTERM", "SIGINT", "SIGUSR1"))
            if wait(process, choose.uniform(0.05, 0.5) * seconds) is not None:
                break
            group = choose.random() < 0.5
            (os.killpg if group else os.kill)(process, getattr(signal, name))
            asked = time.monotonic()
            code, expected = wait(process, 60), 128 + getattr(signal, name)
            taken.append(time.monotonic() - asked)
            if code is None:
                end(process, group=True)
            print(f"{what}, {name} to {'the group' if group else 'one process'}: {code}, {taken[-1]:.1f} s")
            if code not in (expected, 128 - expected):
                found.append(f"exit code {code}, not {expected}")
        finish(broken)
        found += differences(whole.run, broken.run)
        found += ["a traceback"] * ("Traceback" in broken.log.read_text())
        bad += bool(found)
        print(f"then on to the end: {found or 'equal to the bit'}", flush=True)
    print(f"{len(taken)} signals, gone in {min(taken):.1f} to {max(taken):.1f} s; {bad} runs with faults")
    return bad


def long(args: argparse.Namespace, folder: Path) -> int:
    """Train for many epochs and watch memory, open files and /dev/shm; returns whether they grow."""
    seldom = ("--trainer.check_val_every_n_epoch=5",)
    run = Training(folder / "long", folder / "data", 2, 1, args.epochs, seldom)
    process, seen = run.start(), []
    while wait(process, 5) is None:
        table = run.folder / "run" / "version_0" / "results.csv"
        epochs = len(rows(table.parent)) if table.is_file() else 0
        status = Path(f"/proc/{process}/status").read_text()
        memory = int(status.split("VmRSS:")[1].split()[0]) / 1024
        files = len(os.listdir(f"/proc/{process}/fd"))
        seen.append((epochs, memory, files, len(os.listdir("/dev/shm"))))
    late = [one for one in seen if one[0] > args.epochs // 4]
    for name, column in (("memory, MB", 1), ("open files", 2), ("files in /dev/shm", 3)):
        values = [one[column] for one in late]
        print(f"{name}: {values[0]:.0f} after a quarter of {args.epochs} epochs, {values[-1]:.0f} at the end")
    return int(late[-1][1] > 1.05 * late[0][1] or late[-1][2] > late[0][2])


def cost(args: argparse.Namespace, folder: Path) -> int:
    """Measure what a checkpoint of the default network costs, by CPU time, beside the steps; returns 0."""
    spent: list[float] = []
    save = Trainer.save_checkpoint

    def timed(*arguments: Any, **options: Any) -> None:
        begin = time.process_time()
        save(*arguments, **options)
        spent.append(time.process_time() - begin)

    Trainer.save_checkpoint = timed  # type: ignore[method-assign]
    begin = time.process_time()
    default = [word for word in Training(folder, folder / "data").options if "network" not in word]
    train(
        [*default, "--trainer.max_epochs=2", "--data.image_size=[320,320]", "--trainer.callbacks.minutes=10"]
    )
    total, size = time.process_time() - begin, max(folder.rglob("last.ckpt")).stat().st_size / 2**20
    one = sum(spent) / len(spent)
    print(
        f"{len(spent)} checkpoints of {size:.0f} MB took {1000 * one:.0f} ms of CPU time each, "
        f"{100 * sum(spent) / total:.1f} % of 2 epochs of 8 steps; "
        f"every 10 minutes: {one / 6:.3f} % of the time"
    )
    return 0


CAMPAIGNS = {"kills": kills, "signals": signals, "long": long, "cost": cost}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the campaigns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("campaign", choices=CAMPAIGNS)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2, 4])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1])
    parser.add_argument("--runs", type=int, default=4, help="trainings for each number of workers and ranks")
    parser.add_argument("--kills", type=int, default=3, help="kills or signals of each")
    parser.add_argument("--epochs", type=int, help="of each training: 3, in the long one 60")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.epochs = args.epochs or (60 if args.campaign == "long" else 3)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(int(CAMPAIGNS[args.campaign](args, Path(folder)) > 0))


if __name__ == "__main__":
    main()

"""How long a command takes to answer, and where the time to a training's first step goes.

    python benchmarks/startup.py [--rounds 3]
    python benchmarks/startup.py --ultralytics-python ELSEWHERE/bin/python     # see train_step.py

Each is a process of its own. Seconds by the clock and of the CPU, medians; generated scenes are drawn before.
Beside `train.py --help` stands their `yolo help`, beside our first step theirs of YOLO11n on the same images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]

OURS = """
import json, sys, time
marks = [("start", time.perf_counter(), time.process_time())]
def mark(name):
    marks.append((name, time.perf_counter(), time.process_time()))
folder = sys.argv[1]
import datamodules, torch
mark("torch")
import lightning.pytorch
mark("Lightning")
from pinpoint.cli.detection import DetectionCLI
mark("the rest of the imports")
class Stop(lightning.pytorch.Callback):
    def on_sanity_check_start(self, trainer, module):
        mark("data set up, optimizer built")
    def on_sanity_check_end(self, trainer, module):
        mark("a batch of validation, for sanity")
    def on_train_batch_start(self, trainer, module, batch, index):
        mark("first batch")
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        mark("first step")
        print("marks", json.dumps(marks), flush=True)
        raise SystemExit
cli = DetectionCLI([
    "--config=quickstart", f"--data.root={folder}/scenes", "--data.train_count=32", "--data.val_count=8",
    "--data.num_workers=0", "--trainer.accelerator=cpu", "--trainer.logger=false",
    "--trainer.enable_checkpointing=false",
])
mark("recipe read, model and trainer built")
if sys.argv[2] == "draw":
    cli.datamodule.prepare_data()
    raise SystemExit
cli.trainer.callbacks.append(Stop())
cli.fit()
"""

THEIRS = """
import json, sys, time
marks = [("start", time.perf_counter(), time.process_time())]
def mark(name):
    marks.append((name, time.perf_counter(), time.process_time()))
from ultralytics import YOLO
mark("imports")
model = YOLO("yolo11n.yaml")
mark("model built")
model.add_callback("on_train_batch_start", lambda trainer: mark("first batch"))
def stop(trainer):
    mark("first step")
    print("marks", json.dumps(marks), flush=True)
    raise SystemExit
model.add_callback("on_train_batch_end", stop)
model.train(
    data=sys.argv[1] + "/data.yaml", epochs=1, imgsz=256, batch=16, workers=0, device="cpu", plots=False,
    save=False, project=sys.argv[1], verbose=False,
)
"""


def run(command: Sequence[str], folder: Path) -> tuple[float, float, str]:
    """Seconds by the clock and of the CPU that a command takes, and what it prints."""
    import resource
    import time

    settings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "YOLO_CONFIG_DIR": str(folder)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:2])} failed:\n{done.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def first_step(command: Sequence[str], folder: Path, rounds: int) -> list[tuple[str, float, float]]:
    """Name, seconds by the clock and of the CPU of each part of the way to a first step; medians."""
    found = []
    for _ in range(rounds):
        _, _, said = run(command, folder)
        # A progress bar may stand before it on its line.
        marks = json.loads(next(line for line in said.splitlines() if "marks [" in line).split("marks ")[1])
        found.append([(b[0], b[1] - a[1], b[2] - a[2]) for a, b in pairwise(marks)])
    return [
        (parts[0][0], median(p[1] for p in parts), median(p[2] for p in parts))
        for parts in zip(*found, strict=True)
    ]


def write_yolo(folder: Path) -> None:
    """Links to the scenes' images and one box for each, which is enough for theirs to start."""
    for split in ("train", "val"):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for image in next((folder / "scenes").glob(f"*-{split}*/images")).iterdir():
            (images / image.name).symlink_to(image)
            (labels / f"{image.stem}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    lines = (f"path: {folder}", "train: images/train", "val: images/val", "names: [a]", "nc: 1")
    (folder / "data.yaml").write_text("\n".join(lines) + "\n")


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ultralytics-python", help="Python of an environment with ultralytics")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ours = [sys.executable, "-c", OURS, str(folder)]
        run([*ours, "draw"], folder)
        helps = {"train.py --help": [sys.executable, str(ROOT / "train.py"), "--help"]}
        ways = {"pinpoint": [*ours, "train"]}
        if args.ultralytics_python:
            write_yolo(folder)
            theirs = args.ultralytics_python
            helps["yolo help"] = [theirs, "-c", "from ultralytics.cfg import entrypoint; entrypoint('help')"]
            ways["yolo11n"] = [theirs, "-c", THEIRS, str(folder)]
        print("| | s | CPU s |\n|---|---|---|")
        for name, command in helps.items():
            times = [run(command, folder)[:2] for _ in range(args.rounds)]
            print(f"| {name} | {median(t[0] for t in times):.1f} | {median(t[1] for t in times):.1f} |")
        for name, command in ways.items():
            parts = first_step(command, folder, args.rounds)
            wall, cpu = (sum(part[i] for part in parts) for i in (1, 2))
            print(f"| **{name}: to the first step** | {wall:.1f} | {cpu:.1f} |")
            for part, wall, cpu in parts:
                print(f"| {name}: {part} | {wall:.1f} | {cpu:.1f} |")


if __name__ == "__main__":
    main()

"""Whole epochs with loader and validation, beside Ultralytics on the same images, in CPU seconds.

    python benchmarks/epoch.py --images DIR --train train.json --val val.json \
        --ultralytics-python ELSEWHERE/bin/python [--train-images 128 --val-images 64 --rounds 3]

The annotations are COCO's; both sides read YOLO's, written from them, regions left out (`--ignore`).
Each is its own trainer in a process, one thread and one worker, mosaic of every sample and zoom 0.5 to 1.5,
batch 16; the rest is each one's default. They take epochs in turn, and wait for each other in between. The
first is not counted: it fills caches, and theirs plans. CPU seconds are those of a process and its workers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

MARK = """
import json, os, sys, time
import psutil
import torch

options = json.loads(sys.argv[1])
torch.set_num_threads(1)
process = psutil.Process()

def mark(name):
    times = [sum(p.cpu_times()[:2]) for p in process.children(recursive=True)]
    print("mark", name, time.process_time() + sum(times), flush=True)
    if name == "epoch":
        sys.stdin.readline()
"""

ULTRALYTICS = (
    MARK
    + """
from ultralytics import YOLO

model = YOLO(options["model"] + ".yaml")
model.add_callback("on_train_epoch_end", lambda trainer: mark("trained"))
model.add_callback("on_fit_epoch_end", lambda trainer: mark("epoch"))
model.train(
    data=options["folder"] + "/data.yaml", epochs=options["epochs"], imgsz=options["size"], batch=16,
    workers=1, device="cpu", plots=False, save=False, project=options["folder"], close_mosaic=0,
    verbose=False, exist_ok=True,
)
"""
)

PINPOINT = (
    MARK
    + """
from lightning.pytorch import Callback
from pinpoint.cli.detection import DetectionCLI

class Marks(Callback):
    def on_validation_start(self, trainer, module):
        if not trainer.sanity_checking:
            mark("trained")

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            mark("epoch")

folder = options["folder"]
cli = DetectionCLI([
    "--config=yolo", f"--data.yaml={folder}/data.yaml", f"--data.image_size={options['size']}",
    "--data.batch_size=16", "--data.num_workers=1",
    "--data.augment.mosaic=1", "--data.augment.scale=[0.5,1.5]",
    "--data.augment.close_mosaic=0", f"--trainer.max_epochs={options['epochs']}", "--trainer.accelerator=cpu",
    "--trainer.logger=false", "--trainer.enable_checkpointing=false", *options["more"],
])
cli.trainer.callbacks.append(Marks())
cli.fit()
"""
)


class Side:
    """A trainer that stops after every epoch until it is told to go on."""

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        self.name, self.errors = name, folder / f"{name}.err"
        settings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "YOLO_CONFIG_DIR": str(folder)}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors.open("w"),
            text=True,
            cwd=folder,
            env=os.environ | settings,
        )
        self.rounds: list[tuple[float, float]] = []
        self.before = 0.0

    def epoch(self) -> None:
        """Wait for the end of an epoch; notes CPU seconds of the whole and of its validation."""
        assert self.process.stdout is not None
        trained = None
        for line in self.process.stdout:
            if line.startswith("mark trained"):
                trained = float(line.split()[2])
            elif line.startswith("mark epoch"):
                now = float(line.split()[2])
                if trained is not None:
                    self.rounds.append((now - self.before, now - trained))
                self.before = now
                return
        raise SystemExit(f"{self.name} ended:\n{self.errors.read_text()[-3000:]}")

    def go_on(self) -> None:
        """Let it begin its next epoch."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)


def write_yolo(
    images: Path, annotations: Path, split: str, most: int | None, ignored: list[str], root: Path
) -> int:
    """Write a split of a COCO data set in YOLO's format, images as links; returns how many."""
    data = json.loads(annotations.read_text())
    categories = [c for c in sorted(data["categories"], key=lambda c: c["id"]) if c["name"] not in ignored]
    index = {category["id"]: i for i, category in enumerate(categories)}
    chosen = {image["id"]: image for image in data["images"][:most]}
    rows: dict[int, list[str]] = {image_id: [] for image_id in chosen}
    for one in data["annotations"]:
        if one["image_id"] in chosen and one["category_id"] in index:
            x, y, w, h = one["bbox"]
            image = chosen[one["image_id"]]
            width, height = image["width"], image["height"]
            row = (
                index[one["category_id"]],
                (x + w / 2) / width,
                (y + h / 2) / height,
                w / width,
                h / height,
            )
            rows[one["image_id"]].append(" ".join(f"{value:.6g}" for value in row))
    (root / "images" / split).mkdir(parents=True)
    (root / "labels" / split).mkdir(parents=True)
    for image_id, image in chosen.items():
        name = Path(image["file_name"]).name
        (root / "images" / split / name).symlink_to((images / name).resolve())
        label = (root / "labels" / split / name).with_suffix(".txt")
        label.write_text("\n".join(rows[image_id]) + "\n")
    names = json.dumps([category["name"] for category in categories])
    yaml = f"path: {root}\ntrain: images/train\nval: images/val\nnames: {names}\nnc: {len(categories)}\n"
    (root / "data.yaml").write_text(yaml)
    return len(chosen)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--images", type=Path, required=True, help="folder with train and val, the images' folders")
    add("--train", type=Path, required=True, help="COCO JSON")
    add("--val", type=Path, required=True, help="COCO JSON")
    add("--ignore", nargs="*", default=["DontCare"], help="categories to leave out")
    add("--train-images", type=int, help="the first of them alone")
    add("--val-images", type=int, help="the first of them alone")
    add("--size", type=int, default=320)
    add("--rounds", type=int, default=3, help="epochs that are counted")
    add("--model", default="yolo11n", help="theirs")
    add("--ultralytics-python", help="Python of an environment with ultralytics")
    args, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        counts = [
            write_yolo(args.images / split, file, split, most, args.ignore, folder)
            for split, file, most in (
                ("train", args.train, args.train_images),
                ("val", args.val, args.val_images),
            )
        ]
        options = {"folder": str(folder), "size": args.size, "model": args.model, "more": more}
        given = json.dumps(options | {"epochs": args.rounds + 2})
        sides = [Side("pinpoint", [sys.executable, "-c", PINPOINT, given], folder)]
        if args.ultralytics_python:
            sides.append(Side(args.model, [args.ultralytics_python, "-c", ULTRALYTICS, given], folder))
        try:
            for number in range(args.rounds + 1):
                for side in sides:
                    if number:
                        side.go_on()
                    side.epoch()
        finally:
            for side in sides:
                side.process.kill()
                side.process.wait()
    print(f"{counts[0]} training and {counts[1]} validation images, {args.size} px, batch 16; medians of")
    print(f"{args.rounds} epochs after the first, CPU s; a ratio is the median of each round's own\n")
    print("| | epoch | theirs / ours | training | theirs / ours | validation | theirs / ours |")
    print("|---" * 7 + "|")
    for side in sides:
        cells = []
        for part in (lambda r: r[0], lambda r: r[0] - r[1], lambda r: r[1]):
            mine, ours = ([part(r) for r in s.rounds[-args.rounds :]] for s in (side, sides[0]))
            ratio = statistics.median(a / b for a, b in zip(mine, ours, strict=True))
            cells += [f"{statistics.median(mine):.1f}", f"{ratio:.2f}"]
        print(f"| {side.name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

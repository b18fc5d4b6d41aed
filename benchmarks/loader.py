"""Images per second of the training loader, beside Ultralytics' own in its own environment.

    python -m venv ELSEWHERE && ELSEWHERE/bin/pip install ultralytics
    python benchmarks/loader.py --ultralytics-python ELSEWHERE/bin/python

Every loader is a process with two workers, and all are made before the first is timed. Only one of them runs
at a time: the others are stopped by a signal, workers and all, so that none fills its queue meanwhile. Rounds
alternate. CPU seconds are those of all its processes; they depend less on a busy neighbour than the rate.

"step" is what follows on the device, here on the CPU: conversion to float, and for ours the change of colour.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data" / "visdrone"

ULTRALYTICS = """
import json, sys
from ultralytics.cfg import get_cfg
from ultralytics.data import build_dataloader, build_yolo_dataset

options = json.loads(sys.argv[1])
cfg = get_cfg(overrides=dict(imgsz=options["size"], cache=options["cache"], task="detect"))
data = dict(names={0: "object"}, nc=1, channels=3)
dataset = build_yolo_dataset(cfg, options["folder"] + "/images", options["batch"], data, mode="train")
loader = build_dataloader(dataset, options["batch"], options["workers"], shuffle=True)
print("ready", flush=True)
while True:
    for batch in loader:
        if options["step"]:
            batch["img"] = batch["img"].float() / 255
        print(len(batch["img"]), flush=True)
"""

PINPOINT = """
import json, sys
from itertools import count
from pathlib import Path
import torch
from datamodules.images.decoding import Reading
from datamodules.transforms.augment import Augment
from datamodules.modules import YoloDataModule

options = json.loads(sys.argv[1])
folder = Path(options["folder"])
torch.set_num_threads(1)
module = YoloDataModule(
    folder / "data.yaml",
    image_size=(options["size"], options["size"]),
    batch_size=options["batch"],
    num_workers=options["workers"],
    augment=Augment(mosaic=1.0, scale=(0.5, 1.5)),  # the other's probability and range
    reading=Reading(folder=folder / "cache", **options["reading"]),
)
module.setup("fit")
loader = module.train_dataloader()
print("ready", flush=True)
for epoch in count():
    loader.sampler.set_epoch(epoch)
    for batch in loader:
        if options["step"]:
            batch = module.on_after_batch_transfer(batch, 0)
        print(len(batch), flush=True)
"""


class Side:
    """A loader in a process group of its own, stopped but for its rounds."""

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        self.name, self.rounds, self.memory = name, [], []
        folder.mkdir()
        settings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "YOLO_CONFIG_DIR": str(folder)}
        errors, started = folder / "stderr", time.perf_counter()
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors.open("w"),
            text=True,
            env=os.environ | settings,
            start_new_session=True,
        )
        if not any(line.strip() == "ready" for line in self.process.stdout):
            raise SystemExit(f"{name} failed:\n{errors.read_text()[-3000:]}")
        self.start_up = time.perf_counter() - started
        self._signal(signal.SIGSTOP)

    def run(self, batches: int) -> tuple[float, float]:
        """Run some batches; returns wall and CPU seconds an image."""
        cpu, start = self._cpu_seconds(), time.perf_counter()
        self._signal(signal.SIGCONT)
        counts = (line for line in self.process.stdout if line.strip().isdigit())  # not what else is printed
        images = sum(int(next(counts)) for _ in range(batches))
        wall = time.perf_counter() - start
        self._signal(signal.SIGSTOP)
        self.memory.append(self._memory())
        return wall / images, (self._cpu_seconds() - cpu) / images

    def close(self) -> None:
        """End the processes; an interrupted one of ours first gives its shared memory back."""
        self.process.send_signal(signal.SIGINT)
        self._signal(signal.SIGCONT)
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if self._members():
                self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def _members(self) -> dict[int, list[str]]:
        """Processes of the group, with the fields of their stat file from the third on."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            if int(fields[2]) == self.process.pid:
                found[int(path.parent.name)] = fields
        return found

    def _cpu_seconds(self) -> float:
        """User and system time of all its processes."""
        ticks = sum(int(fields[11]) + int(fields[12]) for fields in self._members().values())
        return ticks / os.sysconf("SC_CLK_TCK")

    def _memory(self) -> float:
        """Gigabytes of all its processes, pages that they share counted once."""
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() for pid in self._members()]
        return sum(int(row.split()[1]) for rows in rollups for row in rows if row.startswith("Pss:")) / 2**20


def real_images() -> list[Path]:
    """The five images of VisDrone, where they are at hand."""
    return sorted(SHARED.glob("*/images/*.jpg"))


def make_images(folder: Path, count: int, quality: int) -> list[Path]:
    """Images of 1920x1080 with real texture: random cut-outs of VisDrone's, else generated scenes."""
    rng = np.random.default_rng(0)
    sources = [cv2.imread(str(path)) for path in real_images()]
    paths = []
    for number in range(count):
        if sources:
            source = sources[number % len(sources)]
            zoom = max(1920 / source.shape[1], 1080 / source.shape[0]) * rng.uniform(1, 1.4)
            image = cv2.resize(source, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
            y, x = rng.integers(image.shape[0] - 1079), rng.integers(image.shape[1] - 1919)
            image = image[y : y + 1080, x : x + 1920]
            if rng.random() < 0.5:
                image = cv2.flip(image, 1)
        else:
            sys.path.insert(0, str(ROOT))
            from datamodules.scenes.town import draw_scene

            image = draw_scene(str(number), (1080, 1920)).image[..., ::-1]
        paths.append(folder / f"{number}.jpg")
        paths[-1].write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    return paths


def make_data_set(folder: Path, contents: list[Path], images: int) -> Path:
    """A YOLO folder that shows the contents again and again under new names, 50 boxes each.

    Many more names than Ultralytics keeps decoded images, 8 batches a worker, as in a real data set.
    """
    rng = np.random.default_rng(1)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number in range(images):
        os.link(contents[number % len(contents)], folder / "images" / f"{number}.jpg")
        boxes = np.concatenate([rng.uniform(0.05, 0.95, (50, 2)), rng.uniform(0.005, 0.04, (50, 2))], axis=1)
        rows = [f"0 {x:.5f} {y:.5f} {w:.5f} {h:.5f}" for x, y, w, h in boxes]
        (folder / "labels" / f"{number}.txt").write_text("\n".join(rows))
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images\nval: images\nnames: [object]\n")
    return folder


def report(sides: list[Side]) -> None:
    """Print medians; ratios are taken round by round, then their median."""
    rounds = {side.name: np.array(side.rounds) for side in sides}  # (rounds, 2) wall and CPU seconds an image
    print(
        "| loader | images/s | CPU ms/image | rate / theirs | CPU: theirs / this | PSS GB | ready after s |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for side in sides:
        kind = side.name.rpartition(" ")[2]
        peer = {"step": "ultralytics + step", "ram": "ultralytics ram", "disk": "ultralytics ram"}
        own, other = rounds[side.name], rounds.get(peer.get(kind, "ultralytics"))
        wall, cpu = np.median(own, axis=0)
        ratios = ["", ""] if other is None else [f"{ratio:.2f}" for ratio in np.median(other / own, axis=0)]
        print(
            f"| {side.name} | {1 / wall:.1f} | {1e3 * cpu:.1f} | {ratios[0]} | {ratios[1]} "
            f"| {max(side.memory):.2f} | {side.start_up:.0f} |"
        )


def benchmark(args: argparse.Namespace, folder: Path) -> None:
    (folder / "files").mkdir()
    if args.real:
        contents = [Path(shutil.copy(path, folder / "files")) for path in real_images()]
    else:
        contents = make_images(folder / "files", args.contents, args.quality)
    data = make_data_set(folder / "data", contents, args.images)
    kilobytes = np.mean([path.stat().st_size for path in contents]) / 1e3
    print(f"{args.images} images, {len(contents)} different files of {kilobytes:.0f} kB on average")

    def command(python: str, program: str, step: bool, **more: object) -> list[str]:
        options = {"folder": str(data), "size": args.size, "batch": args.batch, "workers": args.workers}
        return [python, "-c", program, json.dumps(options | {"step": step} | more)]

    def ours(step: bool = False, **reading: object) -> list[str]:
        return command(sys.executable, PINPOINT, step, reading=reading)

    def theirs(step: bool = False, cache: str | bool = False) -> list[str]:
        return command(args.ultralytics_python, ULTRALYTICS, step, cache=cache)

    commands = {
        "ultralytics": theirs(),
        "ultralytics + step": theirs(step=True),
        "ultralytics ram": theirs(cache="ram"),
        "full decode": ours(reduced_decode=False),
        "full decode + step": ours(step=True, reduced_decode=False),
        "reduced decode": ours(),
        "reduced decode + step": ours(step=True),
        "ram": ours(cache="ram"),
        "disk": ours(cache="disk"),
    }
    sides: list[Side] = []
    try:
        for name, words in commands.items():
            if words[0] and (not args.only or name in args.only):
                sides.append(Side(name, words, folder / name.replace(" ", "_")))
        for side in sides:
            side.run(args.batches)  # the start of the workers
        for _ in range(args.rounds):
            for side in sides:
                side.rounds.append(side.run(args.batches))
    finally:
        for side in sides:
            side.close()
    report(sides)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--ultralytics-python", help="python of an environment that has ultralytics; without it, ours alone")
    add("--images", type=int, default=2000, help="images of the data set")
    add("--contents", type=int, default=200, help="different files among them")
    add("--quality", type=int, default=90, help="JPEG quality of the files")
    add("--real", action="store_true", help="repeat the five VisDrone images instead")
    add("--size", type=int, default=640, help="side of the canvas")
    add("--batch", type=int, default=16, help="images a batch")
    add("--workers", type=int, default=2, help="worker processes of each loader")
    add("--rounds", type=int, default=9, help="rounds that are timed")
    add("--batches", type=int, default=8, help="batches a round")
    add("--only", nargs="*", help="only these loaders")
    add("--folder", type=Path, help="where to make the files, if not among temporary ones")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        benchmark(args, Path(temporary))


if __name__ == "__main__":
    main()

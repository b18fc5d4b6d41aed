"""Images a second of a folder, predict.py beside Ultralytics' predict, in one run.

    python benchmarks/predict.py --ultralytics-python ELSEWHERE/bin/python [--images 96] [--rounds 5]

Each of six processes holds one network: ours (nano) and YOLO11n, both untrained with 80 classes, in torch,
ONNX and OpenVINO. They read the same made JPEGs of 640x512 px, in turn, round after round, so that a busy
neighbour slows all of them. Each predicts as its command does by default: files from a folder, decoded,
letterboxed, in batches of 4 (ours) or 1 (theirs), to boxes in pixels of the image; nothing is drawn, ours
notes what is done. Seconds are those of the clock and of the process's CPUs, threads included.

Thresholds are the defaults (0.3 and 0.25), so neither finds anything. Input is 640x512 px for both: theirs
cuts its square to the shape of the images by default, ours is told the shape in training.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np

SIZE = (512, 640)
CLASSES = 80
KINDS = {"torch": "", "ONNX": "onnx", "OpenVINO": "openvino"}

THEIRS = """
import sys, time, torch
from ultralytics import YOLO
threads, kind, folder, images = int(sys.argv[1]), *sys.argv[2:]
torch.set_num_threads(threads)
path = folder + "/yolo11n.pt"
YOLO("yolo11n.yaml").save(path)
if kind:
    path = YOLO(path).export(format=kind, imgsz=(512, 640), verbose=False)
model = YOLO(path, task="detect")
def run():
    size = (512, 640) if kind else 640
    return sum(1 for _ in model.predict(images, stream=True, verbose=False, imgsz=size, device="cpu"))
run()
print("ready", flush=True)
for _ in sys.stdin:
    clock, cpu = time.perf_counter(), time.process_time()
    run()
    print("seconds", time.perf_counter() - clock, time.process_time() - cpu, flush=True)
"""


class Side:
    """A process that predicts the folder whenever it is told to."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._answer("ready")

    def seconds(self) -> tuple[float, float]:
        """Of the clock, of the CPUs."""
        assert self.process.stdin is not None
        print("run", file=self.process.stdin, flush=True)
        clock, cpu = self._answer("seconds").split()
        return float(clock), float(cpu)

    def _answer(self, word: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                return line.removeprefix(word)
        raise ValueError("a process ended: run its part by itself to see why")


def ours(threads: int, kind: str, folder: str, images: str) -> None:
    """Our side of a process."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import torch
    import yaml

    from detector import load
    from detector.networks.network import Network
    from detector.tiling.views import Tiling
    from pinpoint.export.exporter import ENDINGS, Wish, export
    from pinpoint.predict.journal import Journal
    from pinpoint.predict.outputs.writer import Writer
    from pinpoint.predict.runner import Look, Runner
    from pinpoint.predict.sources import find_files, name_items

    torch.set_num_threads(threads)
    path = Path(folder) / "nano.ckpt"
    names = [f"class {i}" for i in range(CLASSES)]
    config = {
        "model": {"network": {"class_path": "Network", "init_args": {}}, "postprocess": {}},
        "data": {"init_args": {"image_size": list(SIZE)}},
    }
    weights = {f"network.{key}": value for key, value in Network(CLASSES, SIZE).state_dict().items()}
    torch.save({"state_dict": weights, "config": yaml.safe_dump(config), "class_names": names}, path)
    if kind:
        exported = Path(folder) / f"nano{ENDINGS[kind]}"
        export(Wish(kind, str(path), exported, checked=False))
        path = exported
    model, items = load(path, "cpu"), name_items(find_files([images]), {})
    look = Look(model.thresholds(None), Tiling(), 4, track=False)
    results = Path(folder) / "results"

    def run() -> None:
        shutil.rmtree(results, ignore_errors=True)
        results.mkdir()
        with Journal(results, {}) as journal:
            Runner(model, look, journal, Writer(results, [], names)).run(items)
            assert len(journal.done) == len(items)

    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        clock, cpu = time.perf_counter(), time.process_time()
        run()
        print("seconds", time.perf_counter() - clock, time.process_time() - cpu, flush=True)


def make_images(folder: Path, count: int) -> None:
    """JPEGs with as much in them as photographs have: blurred noise of several sizes."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        image = np.zeros((*SIZE, 3), np.float32)
        for k in (1, 4, 16, 64):
            noise = rng.normal(0, 6 * k**0.4, (-(-SIZE[0] // k), -(-SIZE[1] // k), 3)).astype(np.float32)
            image += cv2.resize(noise, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        content = cv2.imencode(".jpg", np.clip(image + 120, 0, 255).astype(np.uint8))[1]
        (folder / f"{i:04d}.jpg").write_bytes(content.tobytes())


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--ultralytics-python")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        return ours(options.threads, *options.side)
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary) / "images"
        make_images(images, options.images)
        sides: dict[tuple[str, str], Side] = {}
        for kind in options.kinds:
            for tool in ("ours", "theirs") if options.ultralytics_python else ("ours",):
                folder = Path(temporary) / f"{tool}_{kind}"
                folder.mkdir()
                rest = [KINDS[kind], str(folder), str(images)]
                mine = [sys.executable, __file__, "--threads", str(options.threads), "--side", *rest]
                peer = [str(options.ultralytics_python), "-c", THEIRS, str(options.threads), *rest]
                sides[kind, tool] = Side(mine if tool == "ours" else peer)
        times: dict[tuple[str, str], list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, side in sides.items():
                times[name].append(side.seconds())
    print(f"{options.images} images, {options.threads} threads, {options.rounds} rounds in turn\n")
    print("| images/s | by CPU time, ours | theirs | ratio | by the clock, ours | theirs | ratio |")
    print("|---" + "|--:" * 6 + "|")
    for kind in options.kinds:
        cells = []
        for which in (1, 0):
            rate = {
                tool: [options.images / one[which] for one in times[kind, tool]]
                for tool in ("ours", "theirs")
                if (kind, tool) in times
            }
            cells += [f"{median(values):.1f}" for values in rate.values()]
            if len(rate) == 2:
                ratio = median(mine / other for mine, other in zip(*rate.values(), strict=True))
                cells.append(f"**{ratio:.2f}**")
        print(f"| {kind} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

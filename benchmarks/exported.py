"""Latency, size and scores of exported files beside torch, in one run.

    python benchmarks/exported.py --ckpt_path runs/NAME/version_0/checkpoints/best.ckpt [--images 500]

Every file is written by export.py, opened by `detector.load`, and given the same validation images, one at a
time, all files in turn: a busy neighbour slows all of them. "forward" is uint8 image to boxes and scores,
"whole" goes on to detections; letterboxing is the same for all and left out.

With --ultralytics-python ELSEWHERE/bin/python (an environment with ultralytics, onnx, onnxruntime, openvino)
YOLO11n, untrained, is measured in the same turns by its own predictor on the same pixels: torch, and its ONNX
and OpenVINO exports. Its time is the "whole" of its predictor, at its default threshold of 0.25, by which it
has next to nothing to suppress; ours keeps the threshold of scoring, 0.001.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks/evaluation.py hides it

from detector import load
from detector.checkpoint import load_checkpoint
from evaluation.coco import CocoScores
from pinpoint.cli.detection import DetectionCLI
from pinpoint.export.exporter import ENDINGS, Wish, export
from pinpoint.export.gate import ValidationImages

FILES = {
    "ONNX": ("onnx", {}),
    "ONNX half": ("onnx", {"half": True}),
    "ONNX int8": ("onnx", {"int8": True}),
    "OpenVINO": ("openvino", {}),
    "OpenVINO half": ("openvino", {"half": True}),
    "OpenVINO int8": ("openvino", {"int8": True}),
    "torch.export": ("pt2", {}),
}

WARM_UP = 5

ULTRALYTICS = """
import sys, time
import numpy as np
import torch
from ultralytics import YOLO

threads, height, width, kind, folder = *map(int, sys.argv[1:4]), *sys.argv[4:]
torch.set_num_threads(threads)
path = folder + "/yolo11n.pt"
if kind == "torch":
    YOLO("yolo11n.yaml").save(path)
else:
    path = YOLO(path).export(format=kind, imgsz=(height, width), verbose=False)
model = YOLO(path, task="detect")
model.predict(np.zeros((height, width, 3), np.uint8), imgsz=(height, width), verbose=False)
print("ready", flush=True)
for line in sys.stdin:
    image = np.frombuffer(open(line.strip(), "rb").read(), np.uint8).reshape(height, width, 3)
    start = time.perf_counter()
    model.predict(image, imgsz=(height, width), verbose=False)
    print("seconds", time.perf_counter() - start, flush=True)
"""


class Peer:
    """A process of Ultralytics that predicts an image at a time."""

    def __init__(self, python: str, kind: str, size: tuple[int, int], folder: Path) -> None:
        command = [
            python,
            "-c",
            ULTRALYTICS,
            str(torch.get_num_threads()),
            *map(str, size),
            kind,
            str(folder),
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._answer("ready")

    def seconds(self, pixels: Path) -> float:
        """Seconds for the image whose raw pixels lie there."""
        assert self.process.stdin is not None
        print(pixels, file=self.process.stdin, flush=True)
        return float(self._answer("seconds"))

    def _answer(self, word: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                return line.removeprefix(word)
        raise ValueError("Ultralytics' process ended: run its part by itself to see why")


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ckpt_path", required=True)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ultralytics-python")
    options, overrides = parser.parse_known_args(args)
    torch.set_num_threads(options.threads)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = load_checkpoint(options.ckpt_path)["state_dict"].values()
        models, sizes = {"torch": load(options.ckpt_path, "cpu")}, {"torch": sum(w.nbytes for w in weights)}
        for name, (kind, precision) in FILES.items():
            path = folder / (name.replace(" ", "_") + ENDINGS[kind])
            export(Wish(kind, options.ckpt_path, path, checked=False, **precision), overrides)
            models[name] = load(path)
            sizes[name] = sum(one.stat().st_size for one in folder.glob(f"{path.stem}.*"))
        kinds = ("torch", "onnx", "openvino") if options.ultralytics_python else ()
        size = models["torch"].facts.image_size
        peers = {f"YOLO11n {kind}": Peer(options.ultralytics_python, kind, size, folder) for kind in kinds}
        cli = DetectionCLI.from_file(options.ckpt_path, ["--trainer.accelerator=cpu", *overrides])
        images = ValidationImages(cli.datamodule, options.images)

        forward = {name: [] for name in models}
        whole = {name: [] for name in (*models, *peers)}
        scores = {name: CocoScores(model.facts.class_names) for name, model in models.items()}
        for batch in images:
            info, truth = batch.infos[0], batch.annotations[0]
            for name, model in models.items():
                start = time.perf_counter()
                output = model.forward(batch.images)
                forward[name].append(time.perf_counter() - start)
                (found,) = model.postprocess(*output)
                whole[name].append(time.perf_counter() - start)
                original = replace(found, boxes=info.to_original(found.boxes))
                scores[name].update(info.image_id, original, truth)
            bgr = batch.images[0].permute(1, 2, 0).numpy()[..., ::-1]
            (folder / "pixels").write_bytes(np.ascontiguousarray(bgr).tobytes())
            for name, peer in peers.items():
                whole[name].append(peer.seconds(folder / "pixels"))

    print(f"\n{len(images)} images of {size[0]} x {size[1]} px, {options.threads} thread(s)\n")
    print("| | MB | forward, ms | times torch's rate | whole, ms | AP | AP small |")
    print("|---|---|---|---|---|---|---|")
    results = {name: one.compute() for name, one in scores.items()}
    for name in models:
        pairs = zip(forward["torch"][WARM_UP:], forward[name][WARM_UP:], strict=True)
        cells = [
            f"{sizes[name] / 1e6:.1f}",
            f"{milliseconds(forward[name]):.1f}",
            f"{median(torch_time / time for torch_time, time in pairs):.2f}",
            f"{milliseconds(whole[name]):.1f}",
            f"{results[name]['AP']:.4f}",
            f"{results[name]['AP_small']:.4f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    for name in peers:
        print(f"| {name} | | | | {milliseconds(whole[name]):.1f} | | |")


def milliseconds(seconds: Sequence[float]) -> float:
    """The median, without the first."""
    return 1e3 * median(seconds[WARM_UP:])


if __name__ == "__main__":
    main()

"""The networks that the recipes choose by size: parameters, multiply-accumulates, time of an image.

    python benchmarks/sizes.py [--size 640] [--device cuda] [--onnx]
    ELSEWHERE/bin/python benchmarks/sizes.py --peers yolo11n yolo11s       # an environment with ultralytics

Times are medians over rounds in which all networks take turns with one image each: fused, in evaluation,
uint8 pixels on the device to boxes and scores of all points, without suppression. --onnx adds onnxruntime's
time for the same function on the CPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import datamodules  # noqa: F401  # sets how torch's threads wait, before torch

# isort: split
import torch
import yaml
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from detector.networks.base import count
from detector.networks.fusion import fuse
from detector.networks.network import Network

CLASSES = 10
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


class Scored(nn.Module):
    """(B, 3, H, W) uint8 images to the logits and boxes of all points."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """All points, also those that hold nothing."""
        predictions = self.network(images.float() / 255)
        return predictions.logits, predictions.boxes()


def recipe(name: str, size: int) -> Network:
    """The network of default.yaml, changed by a recipe beside it; `nano` changes nothing."""
    options = {"num_classes": CLASSES, "image_size": (size, size)}
    for file in ("default", name) if name != "nano" else ("default",):
        network = yaml.safe_load((CONFIGS / f"{file}.yaml").read_text())["model"]["network"]
        options |= network.get("init_args", network)
    return Network(**options)


def peer(name: str) -> nn.Module:
    """One of Ultralytics' models, by the name of its YAML file."""
    model = import_module("ultralytics.nn.tasks").DetectionModel(f"{name}.yaml", nc=CLASSES, verbose=False)
    return model.eval().fuse(verbose=False)


def onnx_call(module: nn.Module, image: Tensor, folder: Path, name: str) -> Callable[[], object]:
    import onnxruntime

    path = folder / f"{name}.onnx"
    torch.onnx.export(module, (image,), path, input_names=["images"], dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    pixels = {"images": image.numpy()}
    return lambda: session.run(None, pixels)


@torch.inference_mode()
def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--sizes", nargs="+", default=["pico", "nano", "small", "medium"])
    add("--peers", nargs="*", default=[])
    add("--size", type=int, default=640, help="side of the image, pixels")
    add("--device", type=torch.device, default=torch.device("cpu"))
    add("--onnx", action="store_true")
    add("--rounds", type=int, default=20)
    args = parser.parse_args()
    cuda = args.device.type == "cuda"
    image = torch.randint(256, (1, 3, args.size, args.size), dtype=torch.uint8)
    pixels = image.to(args.device)
    rows: dict[str, tuple[str, str]] = {}
    calls: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.sizes:
            network = recipe(name, args.size)
            parameters, macs = count(network, (args.size, args.size))
            rows[name] = f"{parameters / 1e6:.2f}", f"{macs / 1e9:.2f}"
            scored = Scored(fuse(network)).eval()
            if args.onnx:
                rows[f"{name}, ONNX"] = rows[name]
                calls[f"{name}, ONNX"] = onnx_call(scored, image, Path(folder), name)
            on_device = scored.to(args.device)
            calls[name] = lambda module=on_device: module(pixels)
        for name in args.peers:
            model = peer(name).to(args.device)
            with FlopCounterMode(display=False) as flops:
                model(pixels.float() / 255)
            parameters = sum(p.numel() for p in model.parameters())
            rows[name] = f"{parameters / 1e6:.2f}", f"{flops.get_total_flops() / 2e9:.2f}"
            calls[name] = lambda module=model: module(pixels.float() / 255)
        times: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(args.rounds + 3):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                if cuda:
                    torch.cuda.synchronize()
                if number >= 3:
                    times[name].append(1e3 * (time.perf_counter() - start))
    where = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {where}, one image of {args.size} px,")
    print(f"medians of {args.rounds} rounds\n")
    print("| | parameters, M | GMACs | ms an image |\n|---|---|---|---|")
    for name in rows:
        print(f"| {name} | {rows[name][0]} | {rows[name][1]} | {median(times[name]):.1f} |")


if __name__ == "__main__":
    main()

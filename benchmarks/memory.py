"""Peak memory of a training step on large images, beside Ultralytics' model of the same strides.

    python benchmarks/memory.py                                          # ours alone
    ELSEWHERE/bin/python benchmarks/memory.py --peers yolov8n-p2         # see train_step.py for ELSEWHERE
    ELSEWHERE/bin/python benchmarks/memory.py --peers yolov8n-p2 --device cuda

Every side is a process of its own, which takes two steps. On a CPU its memory is the resident memory of the
process at its highest, less what it held before the first step; on a GPU what torch allocates, likewise.
"recomputed" is ours with `--model.checkpoint_activations=true`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import train_step

# isort: split
import psutil
import torch

from detector.networks.recomputation import recomputed

STRIDES = [4, 8, 16, 32]


class Recomputed(train_step.Pinpoint):
    """Ours, with activations computed again in the backward pass."""

    def _forward(self, batch: train_step.Batch) -> None:
        with recomputed(self.network):
            super()._forward(batch)


def measure(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Gigabytes and CPU seconds of a step of one side."""
    torch.set_num_threads(args.threads)
    device, side = torch.device(args.device), None
    if name in ("pinpoint", "recomputed"):
        kind = train_step.Pinpoint if name == "pinpoint" else Recomputed
        side = kind(STRIDES, args.size, device, compiled=False, graphs=False)
    else:
        side = train_step.Ultralytics(name, device, compiled=False)
    batch = train_step.Batch(args.batch, args.size, args.objects, device)
    how = train_step.Conditions(time.process_time, lambda: None, args.bf16)
    held = psutil.Process().memory_info().rss
    train_step.step(side, batch, how, whole=True)
    (milliseconds,) = train_step.step(side, batch, how, whole=True)
    if device.type == "cuda":
        return {"GB": train_step.peak_memory(side, batch, how), "seconds": milliseconds / 1e3}
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"GB": (peak - held) / 2**30, "seconds": milliseconds / 1e3}


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--peers", nargs="*", default=[], help="Ultralytics' models with stride 4, such as yolov8n-p2")
    add("--size", type=int, default=1280, help="side of the images, pixels")
    add("--batch", type=int, default=2, help="images a batch")
    add("--objects", type=int, default=900, help="objects an image")
    add("--device", default="cpu")
    add("--bf16", action="store_true", help="autocast to bfloat16")
    add("--threads", type=int, default=1, help="of the CPU")
    add("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args)))
        return
    found = {}
    for name in ("pinpoint", "recomputed", *args.peers):
        command = [sys.executable, __file__, *sys.argv[1:], f"--only={name}"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    print(f"torch {torch.__version__}, {args.device}, {'bfloat16' if args.bf16 else 'float32'}; {args.batch}")
    print(f"images of {args.size} px, {args.objects} objects each, strides {STRIDES}\n")
    print("| | GB of a step | ours / this | CPU s |\n|---|---|---|---|")
    for name, row in found.items():
        ratio = found["pinpoint"]["GB"] / row["GB"]
        print(f"| {name} | {row['GB']:.2f} | {ratio:.2f} | {row['seconds']:.1f} |")


if __name__ == "__main__":
    main()

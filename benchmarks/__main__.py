"""Runs all benchmarks that this machine can, and writes what they print to a dated page.

    python benchmarks --ultralytics-python ELSEWHERE/bin/python --hituav DIR [--quick] [--only epoch ...]

ELSEWHERE is an environment that has ultralytics beside what Pinpoint needs, see train_step.py; DIR holds
train, val, train.json and val.json of HIT-UAV. What is not given is left out, and the page says so. `--quick`
takes fewer rounds and images. A part that fails stands on the page with its last words.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE / "results.md"
NOISE = ("Overriding model", "\x1b[34m\x1b[1moptimizer:", "optimizer:")
"""How lines begin that Ultralytics prints when a model is built."""


@dataclass(frozen=True)
class Part:
    """One benchmark of the page.

    Attributes:
        title: heading.
        command: words after `python`, the first a file of this folder.
        quick: words that are added by `--quick`.
        needs: "ultralytics" if it runs in or beside that environment, "inside" if in it; "cuda"; "hituav".
        goal: what was asked for, in words.
        closing: what would close it, where it is missed.
    """

    title: str
    command: tuple[str, ...]
    quick: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    goal: str = ""
    closing: str = ""


STEP = "theirs / ours of a step at least 1.3"
CLOSE_STEP = (
    "Three quarters of our step are convolutions near the CPU's peak; the dense 3x3 of the distance branch "
    "at stride 8 alone are an eighth. A depthwise distance branch would nearly do it, and costs 0.01 AP."
)
PARTS = {
    "step": Part(
        "Training step, 320 px",
        ("train_step.py", "--peers", "yolo11n", "yolo26n", "--cpu-seconds", "--threads", "1"),
        ("--rounds", "3", "--batch", "4"),
        ("inside",),
        STEP,
        CLOSE_STEP,
    ),
    "step640": Part(
        "Training step, 640 px",
        ("train_step.py", "--peers", "yolo11n", "--size", "640", "--cpu-seconds", "--threads", "1"),
        ("--rounds", "3", "--batch", "4"),
        ("inside",),
        STEP,
        CLOSE_STEP,
    ),
    "step-gpu": Part(
        "Training step on a GPU, bfloat16",
        ("train_step.py", "--peers", "yolo11n", "yolo26n", "--device", "cuda", "--bf16"),
        needs=("inside", "cuda"),
        goal=STEP + ", at most 25 ms at 320 px",
    ),
    "epoch": Part(
        "Whole epoch and validation",
        ("epoch.py",),
        ("--train-images", "96", "--val-images", "64", "--rounds", "2"),
        ("beside", "hituav"),
        "theirs / ours of an epoch at least 1.3, of a validation 2",
        "The forward pass is most of a validation, and both networks have the same number of operations.",
    ),
    "memory": Part(
        "Peak memory of a step, 1280 px, strides 4 to 32",
        ("memory.py", "--peers", "yolov8n-p2"),
        needs=("inside",),
        goal="ours / theirs at most 0.6",
        closing="`--model.checkpoint_activations=true`, at a third more time: the row `recomputed`.",
    ),
    "memory-gpu": Part(
        "Peak memory of a step on a GPU",
        ("memory.py", "--peers", "yolov8n-p2", "--device", "cuda"),
        needs=("inside", "cuda"),
        goal="ours / theirs at most 0.6",
    ),
    "startup": Part(
        "Start",
        ("startup.py",),
        ("--rounds", "1"),
        ("beside",),
        "help below 4 s",
        "Imports are most of the way to the first step, those of Lightning and torch above all.",
    ),
    "loader": Part(
        "Loader", ("loader.py",), ("--rounds", "3"), ("beside",), "rate / theirs at least 2, reduced decode 4"
    ),
    "predict": Part(
        "Images a second of predict.py, one thread",
        ("predict.py",),
        ("--images", "24", "--rounds", "3"),
        ("beside",),
        "rate / theirs at least 1.3 in each row",
    ),
    "assigner": Part("Assigner", ("assigner.py",), goal="at least as fast as a dense one"),
    "losses": Part("Losses", ("losses.py",)),
    "evaluation": Part("Scores", ("evaluation.py",), ("--without", "pycocotools"), ("visdrone",)),
}


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python benchmarks", description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--ultralytics-python", help="Python of an environment with ultralytics and what Pinpoint needs")
    add("--hituav", type=Path, help="folder of HIT-UAV")
    add("--quick", action="store_true", help="fewer rounds and images")
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts alone")
    add("--timeout", type=float, default=3600, help="seconds that a part may take")
    args = parser.parse_args()
    sections = [head(args)]
    for name in args.only:
        sections.append(section(PARTS[name], args))
        print(sections[-1], flush=True)
        left = [PARTS[other].title for other in PARTS if other not in args.only]
        end = f"\nNot asked for this time: {', '.join(left)}.\n" if left else ""
        PAGE.write_text("\n".join(sections) + end, "utf-8")


def head(args: argparse.Namespace) -> str:
    """Date, machine and versions."""
    names = ["torch", "torchvision", "lightning", "timm"]
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    if args.ultralytics_python:
        asked = "from importlib.metadata import version; print('ultralytics', version('ultralytics'))"
        versions += ", " + run([args.ultralytics_python, "-c", asked], 60)[1].strip()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    quick = " `--quick`: few rounds and images." if args.quick else ""
    return (
        f"# All benchmarks\n\n{time.strftime('%Y-%m-%d')}, {processor()}, {os.cpu_count()} cores, load "
        f"{load:.0f} when it began, Python {platform.python_version()}, {versions}.{quick}\n"
        "Written by `python benchmarks`; each part says its command. On a busy machine trust ratios, of CPU "
        "seconds above all.\n"
    )


def processor() -> str:
    """The CPU's name, and the GPU's."""
    import torch

    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.is_file() else None
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (found[1].strip() if found else platform.processor()) + gpu


def section(part: Part, args: argparse.Namespace) -> str:
    """What a part says, or why it was left out."""
    import torch

    lines = [f"## {part.title}\n"]
    theirs = args.ultralytics_python
    missing = {
        "inside": not theirs and "--ultralytics-python",
        "cuda": not torch.cuda.is_available() and "a GPU",
        "hituav": not args.hituav and "--hituav",
        "visdrone": not (HERE.parents[1] / "shared" / "data" / "visdrone").is_dir()
        and "VisDrone's annotations",
    }
    if lacking := [str(missing[need]) for need in part.needs if missing.get(need)]:
        return "\n".join([*lines, f"Left out: it needs {' and '.join(lacking)}.\n"])
    words = [*part.command, *(part.quick if args.quick else ())]
    given: list[str] = []
    if "hituav" in part.needs:
        folder = args.hituav.resolve()
        given += ["--images", str(folder), "--train", str(folder / "train.json")]
        given += ["--val", str(folder / "val.json")]
    if "beside" in part.needs and theirs:
        given += ["--ultralytics-python", theirs]
    python = theirs if "inside" in part.needs else sys.executable
    code, said = run([python, str(HERE / words[0]), *words[1:], *given], args.timeout)
    shown = "ELSEWHERE/bin/python" if "inside" in part.needs else "python"
    places = " ..." if given else ""
    lines.append(f"    {shown} benchmarks/{' '.join(words)}{places}\n")
    lines.append(said.strip() + "\n" if code == 0 else f"Failed:\n\n    {said.strip().splitlines()[-1]}\n")
    if part.goal:
        lines.append(
            f"Asked: {part.goal}. Where that is missed: {part.closing or 'see the page of this part.'}\n"
        )
    return "\n".join(lines)


def run(command: list[str], timeout: float) -> tuple[int, str]:
    """Exit code, and what a command prints; of one that fails what it complains of."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        return 1, f"it took longer than {timeout:.0f} s"
    said = "\n".join(line for line in done.stdout.splitlines() if not line.startswith(NOISE))
    return done.returncode, re.sub("\x1b\\[[0-9;]*m", "", said if done.returncode == 0 else done.stderr)


if __name__ == "__main__":
    main()

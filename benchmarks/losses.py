"""Time and peak memory of every loss, forward and backward, as ratios to ciou and to bce.

    python benchmarks/losses.py --positives 20000 --device cpu

Times are the fastest of many steps. Peak memory is what a step allocates above its inputs, gradients
included: on a GPU the allocator's own figure, on the CPU the running sum of the profiler's allocations and
frees.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch
from torch.profiler import ProfilerActivity, profile
from torchvision.ops import complete_box_iou_loss

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from losses.classification import ClassTargets
from losses.named import BoxLossName, ClassificationName, named_box_loss, named_classification_loss

Step = Callable[[], None]


def box_steps(positives: int, device: str) -> dict[str, Step]:
    """A step of every box loss, and of a peer, on targets of 4 to 64 px with predictions a tenth off."""
    side = 4 * 16 ** torch.rand(positives, 2, device=device)
    corner = torch.rand(positives, 2, device=device) * 1000
    target = torch.cat((corner, corner + side), -1)
    pred = (target + 0.1 * torch.randn_like(target) * side.repeat(1, 2)).requires_grad_()
    weight = torch.rand(positives, device=device)
    normaliser = weight.sum()

    def step(name: BoxLossName) -> Step:
        loss = named_box_loss(name).to(device)

        def run() -> None:
            pred.grad = None
            loss(pred, target, weight, normaliser)[0].backward()

        return run

    def peer() -> None:
        pred.grad = None
        complete_box_iou_loss(pred, target, reduction="sum").backward()

    return {name: step(name) for name in get_args(BoxLossName)} | {"torchvision's ciou": peer}


def classification_steps(positives: int, points: int, classes: int, device: str) -> dict[str, Step]:
    """A step of every classification loss."""
    logits = (torch.randn(points, classes, device=device) - 4).requires_grad_()
    valid = torch.ones(points, device=device)
    point = torch.randperm(points, device=device)[:positives].sort().values
    label = torch.randint(0, classes, (positives,), device=device)
    score = torch.rand(positives, device=device)
    weights = torch.ones(classes, device=device)
    targets = ClassTargets(valid, point, label, score, score.sum(), weights)

    def step(name: ClassificationName) -> Step:
        loss = named_classification_loss(name).to(device)

        def run() -> None:
            logits.grad = None
            loss(logits, targets).backward()

        return run

    return {name: step(name) for name in get_args(ClassificationName)}


def milliseconds(step: Step, device: str) -> float:
    """Time of one step."""
    start = time.perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def peak_bytes(step: Step, device: str) -> int:
    """Most bytes that a step holds at once beyond what is there before it."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    held = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def table(steps: dict[str, Step], reference: str, repeats: int, device: str) -> None:
    """Measure and print; the losses take turns, so that a busy machine slows them alike."""
    for step in steps.values():  # warm up
        step()
    rounds = [{name: milliseconds(step, device) for name, step in steps.items()} for _ in range(repeats)]
    times = {name: min(one[name] for one in rounds) for name in steps}
    peaks = {name: peak_bytes(step, device) for name, step in steps.items()}
    print(f"| loss | ms | x {reference} | peak MiB | x {reference} |\n|---|---:|---:|---:|---:|")
    for name in steps:
        print(
            f"| {name} | {times[name]:.2f} | {times[name] / times[reference]:.2f}"
            f" | {peaks[name] / 2**20:.1f} | {peaks[name] / peaks[reference]:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--positives", type=int, default=20_000)
    parser.add_argument("--points", type=int, default=8 * 8400, help="of the batch, for classification")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.manual_seed(0)
    machine = torch.cuda.get_device_name() if args.device != "cpu" else f"{platform.machine()} CPU"
    print(
        f"{machine}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}\n"
    )
    print(f"Box losses, {args.positives} positives; one N x N float32 table would be", end=" ")
    print(f"{args.positives**2 * 4 / 2**20:.0f} MiB.\n")
    table(box_steps(args.positives, args.device), "ciou", args.repeats, args.device)
    print(f"\nClassification losses, {args.points} points, {args.classes} classes.\n")
    steps = classification_steps(args.positives, args.points, args.classes, args.device)
    table(steps, "bce", args.repeats, args.device)


if __name__ == "__main__":
    main()

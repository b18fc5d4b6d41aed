"""Time and memory of the sparse assigner against a dense one that agrees with it.

    python benchmarks/assigner.py [--device cuda] [--data FOLDER]

Each case is a batch at 640 px on strides 8, 16, 32 (8400 points), predictions jittered around the nearest
object. `crowd` cases have generated objects of 6-40 px; `whole image` is the worst case, boxes that hold
every point; `VisDrone` takes the boxes of the validation set, where its annotations are at hand.

As in training, the sparse assigner knows the grids in numbers and has the objects' boxes on the host as well.

B images, n objects of the fullest image, G objects of the batch, A points, C classes.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from detector import assigner
from detector.assigner import TaskAlignedAssigner, find_levels
from detector.networks.head import grid_points
from losses.similarity import ciou

SIZE, STRIDES, CLASSES, TOPK = 640, (8, 16, 32), 10, 10
VISDRONE = Path(__file__).resolve().parents[2] / "shared" / "data" / "visdrone"

Arguments = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def dense_assign(
    scores: Tensor,
    boxes: Tensor,
    points: Tensor,
    strides: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    image_index: Tensor,
) -> tuple[Tensor, Tensor]:
    """The textbook way: pad the objects to (B, n) and hold every quantity as (B, n, A).

    Returns flat points (P,) and target scores (P,).
    """
    images, count = len(scores), torch.bincount(image_index, minlength=len(scores))
    slot = torch.arange(len(gt_boxes), device=points.device) - (count.cumsum(0) - count)[image_index]
    gt = gt_boxes.new_zeros(images, int(count.max()), 4)
    gt[image_index, slot] = gt_boxes
    labels = gt_labels.new_zeros(gt.shape[:2])
    labels[image_index, slot] = gt_labels
    real = torch.arange(gt.shape[1], device=points.device) < count[:, None]

    floor = strides[strides > strides.min()].min()
    margin = (floor - (gt[..., 2:] - gt[..., :2])).clamp(min=0) / 2
    low, high = (gt[..., :2] - margin)[:, :, None], (gt[..., 2:] + margin)[:, :, None]
    inside = ((points > low) & (points < high)).all(-1) & real[..., None]
    overlap = ciou(boxes[:, None], gt[:, :, None]).clamp(min=0)
    score = scores.transpose(1, 2)[torch.arange(images, device=points.device)[:, None], labels]
    alignment = score**0.5 * overlap**6 * inside
    best = alignment.topk(TOPK)
    positive = torch.zeros_like(inside).scatter(2, best.indices, best.values > 0)
    owner = torch.where(positive, overlap, -1).argmax(1)
    positive &= owner[:, None] == torch.arange(gt.shape[1], device=points.device)[:, None]
    alignment = alignment * positive
    max_overlap = (overlap * positive).amax(2, keepdim=True)
    max_alignment = alignment.amax(2, keepdim=True)
    target = (alignment / max_alignment.clamp(min=1e-38) * max_overlap).amax(1).flatten()
    point = positive.any(1).flatten().nonzero().squeeze(1)
    return point, target[point]


def batch_of(objects: list[Tensor], seed: int = 0) -> Arguments:
    """Assigner arguments for the (n, 4) boxes of each image, with predictions near the objects."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(SIZE // stride, SIZE // stride) for stride in STRIDES]
    points, strides = grid_points(sizes, STRIDES, torch.device("cpu"))
    boxes = torch.stack(
        [gt[torch.cdist(points, (gt[:, :2] + gt[:, 2:]) / 2).argmin(1)] for gt in objects]
    ) + torch.randn(len(objects), len(points), 4, generator=generator)
    scores = torch.rand(len(objects), len(points), CLASSES, generator=generator)
    gt_boxes = torch.cat(objects)
    gt_labels = torch.randint(CLASSES, (len(gt_boxes),), generator=generator)
    image_index = torch.repeat_interleave(torch.tensor([len(gt) for gt in objects]))
    return scores, boxes, points, strides, gt_boxes, gt_labels, image_index


def crowd(images: int, count: int, sides: tuple[float, float] = (6, 40)) -> list[Tensor]:
    """Objects of log-uniform sides all over each image."""
    generator = torch.Generator().manual_seed(count)
    side = sides[0] * (sides[1] / sides[0]) ** torch.rand(images, count, 2, generator=generator)
    corner = torch.rand(images, count, 2, generator=generator) * (SIZE - side)
    return list(torch.cat((corner, corner + side), -1))


def visdrone(root: Path) -> list[Tensor]:
    """Boxes of each validation image, scaled to 640 px on its longer side; the fullest image first."""
    sizes = json.loads((root / "val_sizes.json").read_text())
    images = []
    for file in (root / "val_annotations").glob("*.txt"):
        rows = [list(map(float, line.rstrip(",").split(",")[:6])) for line in file.read_text().split()]
        objects = torch.tensor([row[:4] for row in rows if 1 <= row[5] <= 10])
        scale = SIZE / max(sizes[file.stem])
        images.append(torch.cat((objects[:, :2], objects[:, :2] + objects[:, 2:]), 1) * scale)
    return sorted(images, key=len, reverse=True)


def measure(function: Callable[[], object], device: torch.device, repeats: int) -> tuple[float, float]:
    """Median time in milliseconds and peak of newly allocated memory in MB."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        peak = torch.cuda.max_memory_allocated() - before
    else:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            function()
        events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
        held = torch.tensor([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
        peak = int(held.cumsum(0).max())
    return statistics.median(times[1:]), peak / 1e6


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--images", default=2, type=int, help="images of a batch")
    parser.add_argument("--repeats", default=7, type=int, help="timed calls; the median is printed")
    parser.add_argument("--data", default=VISDRONE, type=Path, help="folder with VisDrone's val_annotations")
    parser.add_argument("--pairs", default=assigner.MAX_PAIRS, type=int, help="worked on at a time")
    options = parser.parse_args()
    assigner.MAX_PAIRS = options.pairs

    cases = {f"crowd {count}": crowd(options.images, count) for count in (300, 600, 900)}
    cases["whole image 100"] = [torch.tensor([[0.0, 0, SIZE, SIZE]]).repeat(100, 1)] * options.images
    if options.data.is_dir():
        images = visdrone(options.data)
        cases["VisDrone fullest"] = images[: options.images]
        middle = len(images) // 2
        cases["VisDrone typical"] = images[middle : middle + options.images]

    print(f"torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads")
    print(f"{options.images} images a batch, medians of {options.repeats}")
    print(
        "| case | objects/image | positives | dense ms | sparse ms | ratio | dense MB | sparse MB | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    assign = TaskAlignedAssigner(topk=TOPK)
    for name, objects in cases.items():
        batch = tuple(tensor.to(options.device) for tensor in batch_of(objects))
        known = {"levels": find_levels(*batch[2:4]), "host": (batch[4].cpu(), batch[6].cpu())}
        found, (point, target) = assign(*batch, **known), dense_assign(*batch)
        assert torch.equal(found.point, point), "the two disagree on the positives"
        torch.testing.assert_close(found.score, target, rtol=0, atol=1e-6)
        dense_ms, dense_mb = measure(
            lambda batch=batch: dense_assign(*batch), options.device, options.repeats
        )
        sparse_ms, sparse_mb = measure(
            lambda batch=batch, known=known: assign(*batch, **known), options.device, options.repeats
        )
        print(
            f"| {name} | {len(batch[4]) / len(objects):.0f} | {len(found.point)} "
            f"| {dense_ms:.1f} | {sparse_ms:.1f} | {dense_ms / sparse_ms:.1f} "
            f"| {dense_mb:.1f} | {sparse_mb:.1f} | {dense_mb / sparse_mb:.1f} |"
        )


if __name__ == "__main__":
    main()

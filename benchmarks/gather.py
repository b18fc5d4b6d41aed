"""Memory and time of scoring on many ranks: gathering to one of them, and COCO's scores there.

    python benchmarks/gather.py [--ranks 8] [--images 625]

Every rank is a process of one thread (gloo) with as many simulated images as told, 500 detections each; the
memory of a rank is that beyond its imports.
"""

import argparse
import os
import resource
import sys
import time
from pathlib import Path

import torch
from torch import distributed, multiprocessing

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # before this folder, whose evaluation.py hides it
from simulated import VISDRONE, simulate

from datamodules.formats.visdrone import CLASS_NAMES
from evaluation.coco import CocoScores

MEGABYTE = 1024


def peak() -> float:
    """Largest memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE


def run(rank: int, ranks: int, images: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29611"}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=ranks)
    source = simulate(VISDRONE / "val_annotations", 100)
    base = peak()
    metric = CocoScores(CLASS_NAMES)
    for i in range(images):
        _, annotations, detections = source[i % len(source)]
        metric.update(i * ranks + rank, detections, annotations)
    held = peak() - base
    distributed.barrier()
    start = time.monotonic()
    results = metric.gather()
    distributed.barrier()
    middle = time.monotonic()
    gathered = peak() - base
    del results
    scores = metric.compute()
    end = time.monotonic()
    numbers = torch.tensor([held, gathered, peak() - base, middle - start, end - start, scores["AP"]])
    rows = [torch.empty_like(numbers) for _ in range(ranks)]
    distributed.all_gather(rows, numbers)
    if rank == 0:
        assert all(row[5] == rows[0][5] for row in rows)
        print(f"{ranks} ranks, {images} images each, {len(source[0][2].boxes)} detections an image")
        print("\n| rank | MB held | MB, gathered | MB, scored | s, gathering | s, with scoring |")
        print("|---|---:|---:|---:|---:|---:|")
        for i, row in enumerate(rows):
            print(f"| {i} | " + " | ".join(f"{value:.0f}" for value in row[:5].tolist()) + " |")
    distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--images", type=int, default=625, help="images of each rank")
    options = parser.parse_args()
    multiprocessing.spawn(run, (options.ranks, options.images), options.ranks)


if __name__ == "__main__":
    main()

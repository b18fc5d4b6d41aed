"""Time and memory of one validation: COCO with tiny bins and VisDrone's protocol, against torchmetrics.

    python benchmarks/evaluation.py [--images 548] [--without pycocotools ...]

The annotations are those of VisDrone's validation set, where they are at hand; the detections are simulated,
500 an image: jittered objects, wrong classes, duplicates and false boxes. Every contestant runs in a process
of its own, on one core with one thread, from per-image tensors to numbers; generating them is not counted.
torchmetrics has no tiny bins, no per-class AP50 and no VisDrone protocol: it computes less.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torchmetrics.detection import MeanAveragePrecision

# Before this folder, where this very file would hide the package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simulated import DETECTIONS, VISDRONE, Image, simulate

from datamodules.formats.visdrone import CLASS_NAMES
from evaluation.coco import CocoScores
from evaluation.visdrone import detection_rows, evaluate


def ours(images: list[Image], folder: Path) -> dict[str, float]:
    metric = CocoScores(CLASS_NAMES, DETECTIONS)
    for image_id, (_, annotations, detections) in enumerate(images):
        metric.update(image_id, detections, annotations)
    scores = metric.compute()
    results = metric.gather()
    assert results is not None
    rows = detection_rows(results, {i: name for i, (name, _, _) in enumerate(images)})
    sizes = {
        Path(name).stem: tuple(size)
        for name, size in json.loads((folder.parent / "val_sizes.json").read_text()).items()
    }
    present = {
        name: rows.get(name, np.empty((0, 6))) for name in (path.stem for path in folder.glob("*.txt"))
    }
    official = evaluate(folder, present, CLASS_NAMES, sizes)
    return {"AP": scores["AP"], "AP_small": scores["AP_small"], "VisDrone AP, %": official["AP"]}


def torchmetrics(images: list[Image], backend: str) -> dict[str, float]:
    warnings.simplefilter("ignore")
    metric = MeanAveragePrecision(
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
        max_detection_thresholds=[1, 100, DETECTIONS],
        class_metrics=True,
        backend=backend,
    )
    for _, annotations, detections in images:
        metric.update([vars(detections)], [crowds_as_objects(annotations)])
    scores = metric.compute()
    return {"AP": scores["map"].item(), "AP_small": scores["map_small"].item()}


def crowds_as_objects(annotations: SimpleNamespace) -> dict[str, torch.Tensor]:
    """Ground truth for torchmetrics: each region is a crowd of every class."""
    classes, regions = len(CLASS_NAMES), len(annotations.ignore_boxes)
    crowds = np.repeat(annotations.ignore_boxes, classes, axis=0)
    labels = np.concatenate((annotations.labels, np.tile(np.arange(classes), regions)))
    areas = np.concatenate((annotations.areas, (crowds[:, 2:] - crowds[:, :2]).prod(axis=1)))
    return {
        "boxes": torch.from_numpy(np.concatenate((annotations.boxes, crowds))),
        "labels": torch.from_numpy(labels),
        "area": torch.from_numpy(areas),
        "iscrowd": torch.from_numpy((np.arange(len(labels)) >= len(annotations.labels)).astype(np.int64)),
    }


def run_one(name: str, folder: Path, limit: int) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    images = simulate(folder, limit)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    scores = ours(images, folder) if name == "ours" else torchmetrics(images, name)
    figures = {
        "wall s": time.perf_counter() - wall,
        "CPU s": time.process_time() - cpu,
        "MB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        **scores,
    }
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--annotations", type=Path, default=VISDRONE / "val_annotations", help="VisDrone files"
    )
    parser.add_argument("--images", type=int, default=548, help="number of images")
    parser.add_argument("--without", nargs="*", default=[], help="contestants to leave out")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        run_one(options.only, options.annotations, options.images)
        return
    print("| contestant | CPU s | x ours | wall s | peak MB | AP | AP small | VisDrone AP |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    first = None
    for name in ("ours", "faster_coco_eval", "pycocotools"):
        if name in options.without:
            continue
        command = [sys.executable, __file__, "--only", name, "--images", str(options.images)]
        command += ["--annotations", str(options.annotations)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        row = json.loads(done.stdout.splitlines()[-1])
        first = first or row["CPU s"]
        cells = [
            name if name == "ours" else f"torchmetrics, {name}",
            f"{row['CPU s']:.1f}",
            f"{row['CPU s'] / first:.1f}",
            f"{row['wall s']:.1f}",
            f"{row['MB']:.0f}",
            f"{row['AP']:.6f}",
            f"{row['AP_small']:.6f}",
            f"{row['VisDrone AP, %']:.4f}" if "VisDrone AP, %" in row else "",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

"""TIDE's error costs by `evaluation.errors` and by its authors' `tidecv`, on one file of predictions.

    pip install tidecv
    python benchmarks/tide.py ANNOTATIONS.json PREDICTIONS.json [--ignore_categories NAME ...]

Both files are COCO's; evaluate.py writes the second. Detections are limited alike: both see all of them.
Equal scores are made distinct first, in the order of the file: where tidecv mends an error, it puts false
detections before true ones of the same score, but not in AP50 itself, so that ties alter every cost.
--keep_ties shows by how much.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tidecv import TIDE, Data

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks/evaluation.py hides it
from evaluation.coco import CocoScores
from evaluation.errors import ERRORS, error_costs, find_errors, find_objects
from evaluation.results import ANY_CLASS, Results

MOST = 10**6
PEER_NAMES = dict(zip(ERRORS, ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), strict=True))
Rows = list[dict[str, Any]]


def corners(rows: Rows) -> NDArray[np.float32]:
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1).astype(np.float32)


def read(annotations: Path, predictions: Path, ignored: list[str]) -> tuple[Results, int]:
    data = json.loads(annotations.read_text())
    classes = [c for c in data["categories"] if c["name"] not in ignored]
    index = {c["id"]: i for i, c in enumerate(classes)}
    found, truth = defaultdict(list), defaultdict(list)
    for row in json.loads(predictions.read_text()):
        found[row["image_id"]].append(row)
    for row in data["annotations"]:
        truth[row["image_id"]].append(row)
    metric = CocoScores([c["name"] for c in classes])
    for image in data["images"]:
        rows, mine = truth[image["id"]], found[image["id"]]
        is_region = [bool(r.get("iscrowd")) or r["category_id"] not in index for r in rows]
        objects = [r for r, region in zip(rows, is_region, strict=True) if not region]
        regions = [r for r, region in zip(rows, is_region, strict=True) if region]
        detections = SimpleNamespace(
            boxes=torch.from_numpy(corners(mine)),
            scores=torch.tensor([r["score"] for r in mine]),
            labels=torch.tensor([index[r["category_id"]] for r in mine], dtype=torch.int64),
        )
        boxes = corners(objects)
        annotated = SimpleNamespace(
            boxes=boxes,
            labels=np.array([index[r["category_id"]] for r in objects], dtype=np.int64),
            areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
            ignore_boxes=corners(regions),
            ignore_labels=np.array([index.get(r["category_id"], ANY_CLASS) for r in regions], dtype=np.int64),
        )
        metric.update(image["id"], detections, annotated)
    results = metric.gather()
    assert results is not None
    return results, len(classes)


def untie(results: Results) -> tuple[Results, int]:
    """Replace scores by distinct ones of the same order; also returns how many different ones there were."""
    order = np.argsort(-results.scores, kind="stable")
    distinct = np.empty(len(order))
    distinct[order] = np.linspace(1, 0, len(order))
    return replace(results, scores=distinct), len(np.unique(results.scores))


def peer(results: Results, classes: int) -> tuple[dict[str, float], dict[str, int], float]:
    """Costs, numbers and AP50 (in [0, 1]) by tidecv."""

    def box(xyxy: NDArray[np.float32]) -> list[float]:
        x1, y1, x2, y2 = xyxy.tolist()
        return [x1, y1, x2 - x1, y2 - y1]

    truth, found = Data("truth", max_dets=MOST), Data("found", max_dets=MOST)
    for data in (truth, found):
        for c in range(classes):
            data.add_class(c, str(c))
        for i in range(len(results.image_ids)):
            data.add_image(i, str(i))
    for i, label, xyxy in zip(results.gt_image_index, results.gt_labels, results.gt_boxes, strict=True):
        truth.add_ground_truth(int(i), int(label), box(xyxy))
    for i, label, xyxy in zip(
        results.ignore_image_index, results.ignore_labels, results.ignore_boxes, strict=True
    ):
        truth.add_ignore_region(int(i), int(label), box(xyxy))
    rows = zip(results.image_index, results.labels, results.scores, results.boxes, strict=True)
    for i, label, score, xyxy in rows:
        found.add_detection(int(i), int(label), float(score), box(xyxy))
    tide = TIDE()
    run = tide.evaluate(truth, found, mode=TIDE.BOX)
    counts = {kind.short_name: number for kind, number in run.count_errors().items()}
    return {name: cost / 100 for name, cost in tide.get_main_errors()["found"].items()}, counts, run.ap / 100


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("annotations", type=Path)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--ignore_categories", nargs="*", default=[])
    parser.add_argument("--keep_ties", action="store_true")
    options = parser.parse_args()
    results, classes = read(options.annotations, options.predictions, options.ignore_categories)
    untied, scores = untie(results)
    print(f"{len(results.scores)} detections with {scores} different scores\n")
    results = results if options.keep_ties else untied

    start = time.process_time()
    target = find_objects(results, classes, MOST)
    errors = find_errors(results, target)
    costs = error_costs(results, target, errors, classes)["all"]
    middle = time.process_time()
    peer_costs, peer_counts, peer_ap = peer(results, classes)
    end = time.process_time()

    print("| | ours | tidecv | number, ours | number, tidecv |\n|---|---:|---:|---:|---:|")
    print(f"| AP50 | {costs['AP50']:.6f} | {peer_ap:.6f} | | |")
    for i, name in enumerate(ERRORS):
        number = errors.missed.sum() if name == "missed" else (errors.kind == i).sum()
        theirs = PEER_NAMES[name]
        print(f"| {name} | {costs[name]:.6f} | {peer_costs[theirs]:.6f} | {number} | {peer_counts[theirs]} |")
    print(f"| CPU s | {middle - start:.2f} (with seven size ranges) | {end - middle:.2f} | | |")


if __name__ == "__main__":
    main()

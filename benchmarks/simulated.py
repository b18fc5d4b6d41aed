"""Simulated detections on VisDrone's real annotations, for the benchmarks of scores.

n objects of an image.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from evaluation.results import ANY_CLASS

VISDRONE = Path(__file__).resolve().parents[2] / "shared" / "data" / "visdrone"
DETECTIONS = 500
Image = tuple[str, SimpleNamespace, SimpleNamespace]


def simulate(folder: Path, limit: int) -> list[Image]:
    """Name, annotations and simulated detections of each image; the same in every process."""
    random = np.random.default_rng(0)
    images = []
    for path in sorted(folder.glob("*.txt"))[:limit]:
        rows = np.loadtxt(path.read_text().splitlines(), delimiter=",", usecols=range(6), ndmin=2)
        corners = np.concatenate((rows[:, :2], rows[:, :2] + rows[:, 2:4]), axis=1).astype(np.float32)
        ignored = (rows[:, 5] == 0) | (rows[:, 5] == 11)
        boxes, labels = corners[~ignored], rows[~ignored, 5].astype(np.int64) - 1
        annotations = SimpleNamespace(
            boxes=boxes,
            labels=labels,
            areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
            ignore_boxes=corners[ignored],
            ignore_labels=np.full(ignored.sum(), ANY_CLASS),
        )
        false = np.concatenate(
            [c := random.uniform(0, 900, (200, 2)), c + random.uniform(5, 60, (200, 2))], axis=1
        )
        seeds, seed_labels = (
            np.concatenate((boxes, false)),
            np.concatenate((labels, random.integers(0, 10, 200))),
        )
        chosen = random.integers(0, len(seeds), DETECTIONS)
        sides = np.tile(seeds[chosen, 2:] - seeds[chosen, :2], 2)
        near = seeds[chosen] + random.normal(0, 0.07, (DETECTIONS, 4)) * sides
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        mistaken = random.random(DETECTIONS) < 0.2
        found = np.where(mistaken, random.integers(0, 10, DETECTIONS), seed_labels[chosen])
        right = (chosen < len(boxes)) & ~mistaken
        scores = 0.6 * random.random(DETECTIONS) ** 2 + 0.4 * right * random.random(DETECTIONS)
        order = np.argsort(-scores)
        near, scores, found = near[order], scores[order], found[order]
        detections = SimpleNamespace(
            boxes=torch.from_numpy(near).float(),
            scores=torch.from_numpy(scores).float(),
            labels=torch.from_numpy(found),
        )
        images.append((path.stem, annotations, detections))
    return images

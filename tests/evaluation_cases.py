"""Small images for the tests of evaluation."""

from types import SimpleNamespace

import numpy as np
import torch

from evaluation.analysis import analyse
from evaluation.coco import CocoScores


def detections(boxes=(), scores=(), labels=()):
    return SimpleNamespace(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores, dtype=torch.float32),
        labels=torch.tensor(labels, dtype=torch.int64),
    )


def annotations(boxes=(), labels=(), areas=None, ignore_boxes=(), ignore_labels=()):
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    return SimpleNamespace(
        boxes=boxes,
        labels=np.asarray(labels, dtype=np.int64),
        areas=sides.prod(axis=1) if areas is None else np.asarray(areas, dtype=np.float32),
        ignore_boxes=np.asarray(ignore_boxes, dtype=np.float32).reshape(-1, 4),
        ignore_labels=np.asarray(ignore_labels, dtype=np.int64),
    )


def square(x, y, side):
    return [x, y, x + side, y + side]


def random_image(rng, classes, size=300.0):
    """Objects, crowds and detections near them, in half pixels; scores in tenths, so that many tie."""

    def boxes(n, least=1.0):
        corner = rng.integers(0, 2 * size, (n, 2)) / 2
        return np.concatenate((corner, corner + np.exp(rng.uniform(least, 5, (n, 2))).round(1)), axis=1)

    objects, crowds = boxes(rng.integers(0, 25)), boxes(rng.integers(0, 7), least=4)
    labels = rng.integers(0, classes, len(objects))
    n = rng.choice([0, 5, 120, 700])
    if len(objects):
        which = rng.integers(0, len(objects), n)
        near = objects[which] + rng.normal(0, 3, (n, 4)).round(1)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        found = np.where(rng.random((n, 1)) < 0.7, near, boxes(n))
        found_labels = np.where(rng.random(n) < 0.8, labels[which], rng.integers(0, classes, n))
    else:
        found, found_labels = boxes(n), rng.integers(0, classes, n)
    areas = (objects[:, 2:] - objects[:, :2]).prod(axis=1) * rng.uniform(0.5, 1, len(objects))
    regions = rng.integers(0, classes, len(crowds))
    truth = annotations(objects, labels, areas.round(), crowds, regions)
    return detections(found, rng.integers(1, 11, n) / 10, found_labels), truth


def evaluated(names, *images):
    """Results, scores and analysis of images, pairs of detections and annotations, with ids from 11."""
    metric = CocoScores(names)
    for image_id, image in enumerate(images, 11):
        metric.update(image_id, *image)
    results = metric.gather()
    return results, metric.compute(), analyse(results, names)

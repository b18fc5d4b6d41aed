"""Greedy matching of detections with objects, as COCO and VisDrone both do it, for all images at once.

n, m boxes of one image, D detections, G objects, P pairs (a detection and an object of its image and class
that overlap), T overlap thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.results import Results

Reals = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BLOCK = 2**22
"""Most pairs of one image that are looked at together: 32 MB, whatever the number of objects; more of one
detection."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """Detections or objects of all images.

    Attributes:
        image_index: (n,) index of the image, ascending.
        corners: (n, 4) xyxy pixels.
        areas: (n,) square pixels, for the overlap.
        labels: (n,) class indices.
    """

    image_index: Ints
    corners: Reals
    areas: Reals
    labels: Ints


@dataclass(frozen=True, slots=True)
class Pairs:
    """Detections and objects that may be matched.

    Attributes:
        detection: (P,) index of the detection.
        target: (P,) index of the object.
        overlap: (P,) their overlap, in [0, 1].
    """

    detection: Ints
    target: Ints
    overlap: Reals

    def __getitem__(self, selection: Bools) -> Pairs:
        return Pairs(self.detection[selection], self.target[selection], self.overlap[selection])


def overlaps(boxes: Reals, areas: Reals, targets: Reals, target_areas: Reals, ignored: Bools) -> Reals:
    """IoU of all pairs of one image; for an ignored object, the intersection over the detection's own area.

    Args:
        boxes: (n, 4) xyxy of the detections.
        areas: (n,) their areas.
        targets: (m, 4) xyxy of the objects.
        target_areas: (m,) their areas.
        ignored: (m,) whether an object is ignored.

    Returns:
        (n, m) overlaps; 0 for boxes that do not meet.
    """
    # Axis by axis: three times as fast as on (n, m, 2).
    sides = (
        np.minimum(boxes[:, None, axis + 2], targets[:, axis + 2])
        - np.maximum(boxes[:, None, axis], targets[:, axis])
        for axis in (0, 1)
    )
    width, height = (side.clip(min=0) for side in sides)
    intersection = width * height
    whole = areas[:, None] + np.where(ignored, 0, target_areas - intersection)
    ratio: Reals = np.divide(intersection, whole, out=np.zeros_like(intersection), where=intersection > 0)
    return ratio


def find_pairs(found: Boxes, objects: Boxes, ignored: Bools, least: float) -> Pairs:
    """Pairs of one image and class whose overlap is `least` or more, see `overlaps`.

    Args:
        found: the D detections.
        objects: the G objects.
        ignored: (G,) whether an object is ignored.
        least: least overlap, in (0, 1].
    """
    images = np.intersect1d(found.image_index, objects.image_index)
    sides = (found.image_index, objects.image_index)
    edges = [np.searchsorted(side, images, where) for side in sides for where in ("left", "right")]
    nothing = np.empty(0, np.int64)
    parts: list[tuple[Ints, Ints, Reals]] = [(nothing, nothing, np.empty(0))]
    for first, last, gt_first, gt_last in zip(*edges, strict=True):
        d, g = np.arange(first, last), np.arange(gt_first, gt_last)
        parts += [
            _near(found, objects, ignored, least, *block)
            for block in blocks(found.corners, objects.corners, d, g)
        ]
    detection, target, overlap = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.lexsort((target, detection))
    return Pairs(detection[order], target[order], overlap[order])


def _near(
    found: Boxes, objects: Boxes, ignored: Bools, least: float, d: Ints, g: Ints
) -> tuple[Ints, Ints, Reals]:
    """Pairs among some detections and some objects, by their indices: detection, target, overlap."""
    overlap = overlaps(found.corners[d], found.areas[d], objects.corners[g], objects.areas[g], ignored[g])
    near = (overlap >= least) & (found.labels[d, None] == objects.labels[g])
    rows, columns = near.nonzero()
    return d[rows], g[columns], overlap[near]


def blocks(corners: Reals, targets: Reals, d: Ints, g: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Detections and objects of one image in blocks of at most `BLOCK` pairs, which hold all that overlap.

    Where there are more pairs, those of other parts of the image, from left to right, are passed over. Each
    detection is in one block, which may be without objects; these keep their order.

    Args:
        corners: (D, 4) xyxy of the detections.
        targets: (G, 4) xyxy of the objects.
        d: (n,) indices of the image's detections.
        g: (m,) indices of its objects.
    """
    if len(d) * len(g) <= BLOCK:
        yield d, g
        return
    d, g = d[np.argsort(corners[d, 0])], g[np.argsort(targets[g, 0])]
    left, widest = targets[g, 0], (targets[g, 2] - targets[g, 0]).max()
    todo = [(0, len(d))]
    while todo:
        first, last = todo.pop()
        reach = corners[d[first], 0] - widest, corners[d[first:last], 2].max()
        start, end = np.searchsorted(left, reach[0]), np.searchsorted(left, reach[1], "right")
        if (last - first) * (end - start) <= BLOCK or last - first == 1:
            yield d[first:last], np.sort(g[start:end])
        else:
            middle = (first + last) // 2
            todo += [(middle, last), (first, middle)]


def find_candidates(
    results: Results, classes: int, least: float, any_class: bool = False
) -> tuple[Pairs, Bools]:
    """Pairs of detections with objects and with ignored regions, which are numbered after the objects.

    Args:
        results: detections and annotations.
        classes: number of classes.
        least: least overlap, in (0, 1].
        any_class: pair detections with objects of other classes too (regions keep to theirs).

    Returns:
        The pairs, and whether each of the G objects and r regions (one for every class that it ignores) is a
        crowd, that is a region.
    """
    found, objects = detected_boxes(results), annotated_boxes(results)
    regions = _boxes(*results.regions_by_class(classes))
    crowd = np.repeat((False, True), (len(objects.labels), len(regions.labels)))
    inside = find_pairs(found, regions, crowd[crowd], least)
    if any_class:
        found, objects = (replace(boxes, labels=np.zeros_like(boxes.labels)) for boxes in (found, objects))
    near = find_pairs(found, objects, crowd[~crowd], least)
    pairs = Pairs(
        np.concatenate((near.detection, inside.detection)),
        np.concatenate((near.target, inside.target + len(objects.labels))),
        np.concatenate((near.overlap, inside.overlap)),
    )
    return pairs, crowd


def detected_boxes(results: Results) -> Boxes:
    """The detections' boxes in double precision, in which the sides of float32 boxes are exact."""
    return _boxes(results.boxes, results.labels, results.image_index)


def annotated_boxes(results: Results) -> Boxes:
    """The objects' boxes in double precision."""
    return _boxes(results.gt_boxes, results.gt_labels, results.gt_image_index)


def _boxes(boxes: Reals, labels: Ints, image_index: Ints) -> Boxes:
    corners = boxes.astype(np.float64)
    return Boxes(image_index, corners, (corners[:, 2:] - corners[:, :2]).prod(axis=1), labels)


def rank_in_class(found: Boxes, scores: Reals) -> Ints:
    """Rank of each detection among those of its image and class, best score first, ties in given order.

    Args:
        found: the D detections.
        scores: (D,).

    Returns:
        (D,) from 0.
    """
    order = np.lexsort((-scores, found.labels, found.image_index))
    group = np.stack((found.image_index[order], found.labels[order]))
    new = np.any(np.diff(group, axis=1, prepend=-1) != 0, axis=0)
    place = np.arange(len(order))
    rank = np.empty_like(place)
    rank[order] = place - np.maximum.accumulate(np.where(new, place, 0))
    return rank


def match(pairs: Pairs, rank: Ints, ignored: Bools, thresholds: Reals, crowd: Bools | None = None) -> Ints:
    """Match greedily: each detection, by rank, takes the free object that it overlaps most.

    Equal overlaps go to the later object. An ignored object is taken only if no other is to be had; a crowd
    any number of times. Detections of one rank belong to different images or classes and so cannot compete:
    the loop runs over ranks, not over images, classes or detections.

    Args:
        pairs: candidates.
        rank: (D,) see `rank_in_class`.
        ignored: (G,) whether an object is ignored.
        thresholds: (T,) least overlap of a match.
        crowd: (G,) whether an object may be found repeatedly; if not given, those that are ignored.

    Returns:
        (D, T) int64 index of the object, -1 for none. Source: pycocotools' `evaluateImg`, Dollar's `bbGt`.
    """
    crowd = ignored if crowd is None else crowd
    matched = np.full((len(rank), len(thresholds)), -1, dtype=np.int64)
    taken = np.zeros((len(ignored), len(thresholds)), dtype=np.bool_)
    keys = (pairs.target, pairs.overlap, ~ignored[pairs.target], pairs.detection, rank[pairs.detection])
    order = np.lexsort(keys)  # so the best candidate of each detection comes last
    detection, target, overlap = pairs.detection[order], pairs.target[order], pairs.overlap[order]
    starts = np.flatnonzero(np.diff(detection, prepend=-1))
    rounds = np.flatnonzero(np.diff(rank[detection[starts]], prepend=-1))
    edges = [*rounds.tolist(), len(starts)]
    ends = [*starts.tolist(), len(detection)]
    for a, b in pairwise(edges):
        now = slice(ends[a], ends[b])
        free = (overlap[now, None] >= thresholds) & ~taken[target[now]]
        place = np.where(free, np.arange(now.start, now.stop)[:, None], -1)
        best = np.maximum.reduceat(place, starts[a:b] - now.start, axis=0)
        who, at = (best >= 0).nonzero()
        chosen = target[best[who, at]]
        matched[detection[starts[a:b]][who], at] = chosen
        taken[chosen, at] = ~crowd[chosen]
    return matched

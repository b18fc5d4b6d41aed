"""One answer from what the views of an image find: nothing twice, nothing in halves, nothing lost.

A detection that touches a border of its view that is no border of the image is a piece, any other is whole.
Two detections of different views may be of one object if they overlap in what both views see, a whole one cut
to the window of a piece. Suppression has been at each view, so that it finds an object once: of the
detections of the other view each is paired with its likeliest alone, if that agrees: the closest of those
that are not much weaker than itself.

V views, N detections of all views, best score first, P pairs of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from detector.postprocess import Detections
from detector.tiling.views import Merge, View

Reals = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Partners = dict[int, list[int]]
"""Which others are likely of the same object as a detection, the likeliest first; each pair twice."""

OVERLAP = 0.5
"""Intersection over the smaller area from which two detections are of one object."""

LIKENESS = 0.4
"""Smaller over larger area from which they may be: a boat before a ship is not its piece."""

JOINED = 0.5
"""IoU from which two pieces are of one object: both should fill what both views see of it alike."""

NEAR_PIXELS, NEAR_SHARE = 2.0, 0.1
"""A box touches a border that is no farther than so many pixels of the canvas, or share of its own side."""

TRUSTED = 0.5
"""Score of a detection relative to another's from which that believes it."""


@dataclass(frozen=True, slots=True)
class Found:
    """The detections of all views.

    Attributes:
        boxes: (N, 4) xyxy pixels of the image.
        scores: (N,) descending.
        labels: (N,) class indices.
        view: (N,) which view found each.
        windows: (V, 4) xyxy pixels of the image.
        near: (N, 2) distance in x and y at which each box touches a border, pixels of the image.
        piece: (N,) whether it touches a border within the image.
    """

    boxes: Reals
    scores: Reals
    labels: Ints
    view: Ints
    windows: Reals
    near: Reals
    piece: Bools

    @classmethod
    def of(cls, views: Sequence[View], found: Sequence[Detections], size: tuple[int, int]) -> Found:
        """Join what the views of an image of `size` (height, width) found; ties in score as they come."""
        scores = np.concatenate([one.scores.numpy() for one in found]).astype(np.float64)
        order = np.argsort(-scores, kind="stable")
        boxes = np.concatenate([one.boxes.numpy() for one in found]).astype(np.float64)[order]
        labels = np.concatenate([one.labels.numpy() for one in found])[order]
        view = np.repeat(np.arange(len(views)), [len(one) for one in found])[order]
        windows = np.array([one.window for one in views], dtype=np.float64)
        scales = np.array([one.placement.scale for one in views])
        near = np.maximum(NEAR_PIXELS / scales[view], NEAR_SHARE * (boxes[:, 2:] - boxes[:, :2]))
        inner = np.concatenate((windows[:, :2] > 0, windows[:, 2:] < size[::-1]), axis=1)
        touches = np.abs(boxes - windows[view]) <= np.tile(near, 2)
        piece = np.any(touches & inner[view], axis=1)
        return cls(boxes, scores[order], labels, view, windows, near, np.asarray(piece))


def merge_views(
    views: Sequence[View],
    found: Sequence[Detections],
    size: tuple[int, int],
    merge: Merge = "nmm",
    class_agnostic: bool = False,
) -> Detections:
    """Merge the detections of the views of an image.

    Args:
        views: at least one.
        found: detections of each view, on the CPU, in pixels of the image.
        size: (height, width) of the image.
        merge: what becomes of the detections of one object. "nmm": the best whole one, or else the pieces
            united, with the best score of them all; "nms": the best whole one, or else the largest piece, as
            it is; "wbf": the whole ones, or else the pieces united, averaged by their scores, with their mean
            score over all views that show all of the box. Source: Solovyev et al. 2021.
        class_agnostic: detections of different classes may be of one object; its class is that of the score.

    Returns:
        The detections of the image, by score descending, as many as there are.
    """
    if len(views) == 1:
        return found[0]
    all_found = Found.of(views, found, size)
    owner = group(all_found, find_pairs(all_found, class_agnostic))
    boxes, scores, labels = _MERGERS[merge](all_found, owner)
    best = np.flatnonzero(owner == np.arange(len(owner)))
    best = best[np.argsort(-scores[best], kind="stable")]
    return Detections(
        torch.from_numpy(boxes[best]).float(),
        torch.from_numpy(scores[best]).float(),
        torch.from_numpy(labels[best]),
    )


def find_pairs(found: Found, class_agnostic: bool = False) -> Partners:
    """Find the pairs of detections that may be of one object.

    Args:
        found: the detections.
        class_agnostic: of different classes, too.

    Returns:
        See `Partners`; the best detection first.
    """
    first, second = _overlapping(found, class_agnostic)
    a, b = found.boxes[first], found.boxes[second]
    of_a, of_b = found.windows[found.view[first]], found.windows[found.view[second]]
    piece_a, piece_b = found.piece[first, None], found.piece[second, None]
    # Where both are whole, both views must have room for them; a piece is compared with what its view shows.
    room = _inside(a, of_b, found.near[first]) & _inside(b, of_a, found.near[second])
    room |= (piece_a | piece_b)[:, 0]
    a, b = np.where(piece_b, _clip(a, of_b), a), np.where(piece_a, _clip(b, of_a), b)
    shared, area_a, area_b = _area(_clip(a, b)), _area(a), _area(b)
    smaller, larger = np.minimum(area_a, area_b), np.maximum(area_a, area_b)
    alike = room & (shared >= OVERLAP * smaller) & (smaller >= LIKENESS * larger) & (smaller > 0)
    # A piece needs a whole one that it believes; of two pieces or two whole ones either may be weak.
    weak = found.scores[second] < TRUSTED * found.scores[first]  # the first is the better one
    alike &= ~(weak & piece_a[:, 0] & ~piece_b[:, 0])
    alike &= (shared >= JOINED * (area_a + area_b - shared)) | ~(piece_a & piece_b)[:, 0]
    first, second = first[alike], second[alike]
    iou = shared[alike] / (area_a + area_b - shared)[alike]
    one, other = np.concatenate((first, second)), np.concatenate((second, first))
    believed = found.scores[other] >= TRUSTED * found.scores[one]  # before those that lie closer by chance
    order = np.lexsort((other, -np.tile(iou, 2), ~believed, one))
    one, other = one[order], other[order]
    _, likeliest = np.unique(one * len(found.windows) + found.view[other], return_index=True)
    likeliest.sort()
    one, other = one[likeliest], other[likeliest]
    count = len(found.scores)
    mutual = np.isin(one * count + other, other * count + one)
    ones, begin = np.unique(one[mutual], return_index=True)
    others = other[mutual].tolist()
    ends = pairwise([*begin.tolist(), len(others)])
    return {one: others[start:stop] for one, (start, stop) in zip(ones.tolist(), ends, strict=True)}


def group(found: Found, partners: Partners) -> Ints:
    """Decide which detections are of one object.

    First the whole ones, the best first: each takes its partners in the other views. Then each piece goes
    to the whole one that explains it. What is left of the pieces grows together, view by view;
    the largest stands for them.

    Args:
        found: the detections.
        partners: which of them may be of one object.

    Returns:
        (N,) the detection that stands for each: itself for those that stand for an object.
    """
    owner, free = list(range(len(found.scores))), [True] * len(found.scores)
    view, piece, area = found.view.tolist(), found.piece.tolist(), _area(found.boxes).tolist()
    for seed, others in partners.items():
        if not piece[seed] and free[seed]:
            free[seed] = False
            for other in others:
                if free[other] and not piece[other]:
                    owner[other], free[other] = seed, False
    for one, others in partners.items():
        if piece[one]:
            for whole in others:
                if not piece[whole] and owner[whole] == whole:
                    owner[one], free[one] = whole, False
                    break
    for seed in partners:
        if not free[seed]:
            continue
        views, members = {view[seed]}, [seed]
        free[seed] = False
        for member in members:  # which grows
            for other in partners[member]:
                if free[other] and view[other] not in views:
                    free[other] = False
                    views.add(view[other])
                    members.append(other)
        largest = max(members, key=area.__getitem__)
        for member in members:
            owner[member] = largest
    return np.array(owner, dtype=np.int64)


def _unite(found: Found, owner: Ints) -> tuple[Reals, Reals, Ints]:
    """Boxes (N, 4), scores (N,) and labels (N,) of the objects, each at the place of what stands for it."""
    boxes = found.boxes.copy()
    united = found.piece[owner]  # else a whole one stands for the object, as it is
    np.minimum.at(boxes[:, :2], owner[united], found.boxes[united, :2])
    np.maximum.at(boxes[:, 2:], owner[united], found.boxes[united, 2:])
    best = np.arange(len(owner))
    np.minimum.at(best, owner, np.arange(len(owner)))
    return boxes, found.scores[best], found.labels[best]


def _suppress(found: Found, owner: Ints) -> tuple[Reals, Reals, Ints]:
    return found.boxes, found.scores, found.labels


def _fuse(found: Found, owner: Ints) -> tuple[Reals, Reals, Ints]:
    boxes, _, labels = _unite(found, owner)
    whole = ~found.piece
    weight = np.bincount(owner[whole], found.scores[whole], minlength=len(owner))
    weighted = np.zeros_like(boxes)
    np.add.at(weighted, owner[whole], found.boxes[whole] * found.scores[whole, None])
    averaged = weight > 0
    boxes[averaged] = weighted[averaged] / weight[averaged, None]
    members = np.bincount(owner, minlength=len(owner))
    views = _showing(found, boxes)
    total = np.bincount(owner, found.scores, minlength=len(owner))
    return boxes, total / np.maximum(members, np.maximum(views, 1)), labels


def _showing(found: Found, boxes: Reals) -> Ints:
    """How many views show all of each box (N, 4), up to the pixels at which it touches a border: (N,)."""
    inside = []
    for axis in (0, 1):  # windows in rows and columns share their sides
        sides, of_window = np.unique(found.windows[:, axis::2], axis=0, return_inverse=True)
        low, high = sides.T[:, :, None]
        near = found.near[:, axis]
        within = (boxes[:, axis] >= low - near) & (boxes[:, axis + 2] <= high + near)
        inside.append([within[side] for side in of_window.tolist()])
    views = np.zeros(len(boxes), dtype=np.int64)
    for across, down in zip(*inside, strict=True):
        views += across & down
    return views


_MERGERS = {"nmm": _unite, "nms": _suppress, "wbf": _fuse}


def _overlapping(found: Found, class_agnostic: bool) -> tuple[Ints, Ints]:
    """Pairs of detections of different views, of one class, whose boxes overlap, the better one first."""
    windows, columns = found.windows, np.ascontiguousarray(found.boxes.T)
    by_view = np.argsort(found.view, kind="stable")
    begin = np.searchsorted(found.view[by_view], np.arange(len(windows) + 1))
    of_view = [by_view[start:stop] for start, stop in pairwise(begin.tolist())]
    firsts, seconds = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for view, mine in enumerate(of_view[:-1]):
        if not len(mine):
            continue
        shared = _clip(windows[view + 1 :], windows[view])
        for later in np.flatnonzero((shared[:, :2] < shared[:, 2:]).all(axis=1)):
            theirs = of_view[view + 1 + later]
            # Only what reaches into the part that both show.
            left, right = (one[_meet(columns[:, one], shared[later])] for one in (mine, theirs))
            meet = _meet(columns[:, left, None], columns[:, right])
            if not class_agnostic:
                meet &= found.labels[left][:, None] == found.labels[right]
            i, j = meet.nonzero()
            firsts.append(np.minimum(left[i], right[j]))
            seconds.append(np.maximum(left[i], right[j]))
    return np.concatenate(firsts), np.concatenate(seconds)


def _meet(a: Reals, b: Reals) -> Bools:
    """Whether boxes share an area: (4, ...) and (4, ...) to (...)."""
    (left, top, right, bottom), (x1, y1, x2, y2) = a, b
    return np.asarray((left < x2) & (x1 < right) & (top < y2) & (y1 < bottom))


def _clip(boxes: Reals, windows: Reals) -> Reals:
    """What of boxes lies in windows; sides cross where nothing does."""
    low, high = np.maximum(boxes[..., :2], windows[..., :2]), np.minimum(boxes[..., 2:], windows[..., 2:])
    return np.concatenate((low, high), axis=-1)


def _area(boxes: Reals) -> Reals:
    """Area of boxes (n, 4), 0 for those whose sides cross: (n,)."""
    sides: Reals = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return sides[:, 0] * sides[:, 1]


def _inside(boxes: Reals, windows: Reals, near: Reals) -> Bools:
    """Whether boxes (n, 4) lie in windows (4,) or (n, 4), up to (n, 2) pixels: (n,)."""
    inside = (boxes[:, :2] >= windows[..., :2] - near) & (boxes[:, 2:] <= windows[..., 2:] + near)
    return np.asarray(np.all(inside, axis=1))

"""Numbers for objects that stay the same from frame to frame, after ByteTrack.

T tracks, n detections of a frame; boxes are xyxy pixels unless they are said to be centre and size.
Source: Zhang et al. 2022, "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", algorithm 1.
The boxes are widened before they are compared, or fast small objects would not overlap themselves: Yang et
al. 2023, "Hard to Track Objects with Irregular Motions and Similar Appearances? Make It Easier by Buffering
the Matching Space". Objects of different classes are different objects.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from pinpoint.predict.found import HIDDEN, UNTRACKED

Reals = NDArray[np.floating]
Ints = NDArray[np.int64]

LOW = 1 / 3
"""Share of the threshold of its class from which a detection may go on with a track, but not begin one."""

KEPT = 30
"""Frames for which a track waits for its object to be seen again."""

WIDER = 0.25
"""Share of its side by which a box is widened on each side before it is compared."""

SEEN, UNSURE, FRESH = 0.2, 0.5, 0.3
"""Least IoU of widened boxes: with good detections; with poor ones; of tracks that were seen once."""

POSITION, VELOCITY = 1 / 20, 1 / 160
"""Standard deviations of the motion, and of a detection, relative to the box's sides. Source: ByteTrack's."""


@dataclass(slots=True)
class Tracks:
    """Each side of each box moves evenly, with some noise: one Kalman filter of two numbers for each of four.

    Attributes:
        place: (T, 4) centre and size, pixels.
        speed: (T, 4) change of these in a frame.
        place_variance, covariance, speed_variance: (T, 4) of the filter.
        label: (T,) class index.
        number: (T,) of the track; -1 for one that was seen once.
        unseen: (T,) frames since it was last seen.
    """

    place: Reals
    speed: Reals
    place_variance: Reals
    covariance: Reals
    speed_variance: Reals
    label: Ints
    number: Ints
    unseen: Ints

    @classmethod
    def begin(cls, boxes: Reals, labels: Ints, numbers: Ints) -> Tracks:
        """Tracks of boxes (n, 4) that stand still as far as is known."""
        place, zero = to_centre(boxes), np.zeros((len(boxes), 4))
        sides = np.tile(place[:, 2:], 2)
        first, speed = (2 * POSITION * sides) ** 2, (10 * VELOCITY * sides) ** 2
        return cls(place, zero, first, zero.copy(), speed, labels, numbers, np.zeros(len(boxes), np.int64))

    def move(self) -> None:
        """Go on by a frame."""
        sides = np.tile(self.place[:, 2:], 2)
        self.speed[self.unseen > 0, 2:] = 0  # what is out of sight does not grow
        self.place = self.place + self.speed
        self.place[:, 2:] = np.maximum(self.place[:, 2:], 1.0)
        self.place_variance = (
            self.place_variance + 2 * self.covariance + self.speed_variance + (POSITION * sides) ** 2
        )
        self.covariance = self.covariance + self.speed_variance
        self.speed_variance = self.speed_variance + (VELOCITY * sides) ** 2
        self.unseen = self.unseen + 1

    def see(self, tracks: Ints, boxes: Reals) -> None:
        """Correct some tracks by the boxes (n, 4) that their objects are seen in."""
        sides = np.tile(self.place[tracks, 2:], 2)
        variance, covariance = self.place_variance[tracks], self.covariance[tracks]
        total = variance + (POSITION * sides) ** 2
        surprise = to_centre(boxes) - self.place[tracks]
        self.place[tracks] += variance / total * surprise
        self.speed[tracks] += covariance / total * surprise
        self.speed_variance[tracks] -= covariance**2 / total
        self.covariance[tracks] -= covariance * variance / total
        self.place_variance[tracks] -= variance**2 / total
        self.unseen[tracks] = 0

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Forget the others."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[kept])

    def add(self, others: Tracks) -> None:
        """Take more tracks in, after these."""
        for field in fields(self):
            setattr(
                self, field.name, np.concatenate((getattr(self, field.name), getattr(others, field.name)))
            )


class Tracker:
    """Follows the objects of one sequence of frames.

    Args:
        thresholds: (C,) score of each class from which a detection is shown, and may begin a track.
    """

    def __init__(self, thresholds: Reals) -> None:
        self.thresholds = thresholds
        self.tracks = Tracks.begin(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0, np.int64))
        self.count, self.begun = 0, False

    def update(self, boxes: Reals, scores: Reals, labels: Ints) -> Ints:
        """Take in the next frame.

        Args:
            boxes: (n, 4) detections of at least `LOW` of their thresholds.
            scores: (n,).
            labels: (n,) class indices.

        Returns:
            (n,) number of each detection's track, from 1; `UNTRACKED` where it is too early to tell, `HIDDEN`
            for poor ones of no track.
        """
        tracks, good = self.tracks, scores >= self.thresholds[labels]
        boxes = boxes.astype(np.float64)
        tracks.move()
        result = np.where(good, UNTRACKED, HIDDEN)
        rest = np.flatnonzero(good)
        known, fresh = np.flatnonzero(tracks.number > 0), np.flatnonzero(tracks.number < 0)
        followed = tracks.unseen == 1  # only since the last frame
        seen = np.zeros(len(tracks.number), np.bool_)

        def match(candidates: Ints, detections: Ints, least: float) -> Ints:
            """Give detections to tracks; those that are left."""
            mine, theirs = associate(
                to_corners(tracks.place[candidates]), tracks.label[candidates], boxes[detections],
                labels[detections], least,
            )  # fmt: skip
            chosen, found = candidates[mine], detections[theirs]
            tracks.see(chosen, boxes[found])
            seen[chosen] = True
            unnumbered = chosen[tracks.number[chosen] < 0]
            tracks.number[unnumbered] = self._numbers(len(unnumbered))
            result[found] = tracks.number[chosen]
            return np.setdiff1d(detections, found)

        rest = match(known, rest, SEEN)
        match(known[~seen[known] & followed[known]], np.flatnonzero(~good), UNSURE)
        rest = match(fresh, rest, FRESH)
        tracks.keep(seen | ((tracks.number > 0) & (tracks.unseen <= KEPT)))
        # In the first frame there is nothing to wait for.
        numbers = np.full(len(rest), -1) if self.begun else self._numbers(len(rest))
        result[rest] = np.where(numbers > 0, numbers, UNTRACKED)
        tracks.add(Tracks.begin(boxes[rest], labels[rest], numbers))
        self.begun = True
        return result

    def _numbers(self, count: int) -> Ints:
        self.count += count
        return np.arange(self.count - count + 1, self.count + 1)


def associate(boxes1: Reals, labels1: Ints, boxes2: Reals, labels2: Ints, least: float) -> tuple[Ints, Ints]:
    """Pairs of boxes of one class that overlap by at least `least`, so that they overlap most in all.

    Args:
        boxes1: (n, 4).
        labels1: (n,).
        boxes2: (m, 4).
        labels2: (m,).
        least: IoU of the boxes, widened.

    Returns:
        Indices into both, as many of each.
    """
    iou = box_iou(torch.from_numpy(widen(boxes1)), torch.from_numpy(widen(boxes2))).numpy()
    iou = np.where((labels1[:, None] == labels2) & (iou >= least), iou, 0)
    first, second = linear_sum_assignment(iou, maximize=True)
    overlap = iou[first, second] > 0
    return first[overlap], second[overlap]


def widen(boxes: Reals) -> Reals:
    """Boxes (n, 4) with `WIDER` of their sides more on each side."""
    margin = np.tile(boxes[:, 2:] - boxes[:, :2], 2) * WIDER
    return boxes + margin * (-1, -1, 1, 1)


def to_centre(boxes: Reals) -> Reals:
    """(n, 4) corners to centre and size."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate(((low + high) / 2, high - low), axis=1)


def to_corners(places: Reals) -> Reals:
    """(n, 4) centre and size to corners."""
    centre, half = places[:, :2], places[:, 2:] / 2
    return np.concatenate((centre - half, centre + half), axis=1)

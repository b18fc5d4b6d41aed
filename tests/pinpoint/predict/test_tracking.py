"""The tracker on sequences that a reader can follow by hand."""

import numpy as np
import pytest

from pinpoint.predict.found import HIDDEN, UNTRACKED
from pinpoint.predict.tracking import KEPT, Tracker, Tracks, associate

THRESHOLDS = np.array([0.5, 0.3])


def square(x: float, y: float, side: float = 10.0) -> list[float]:
    return [x, y, x + side, y + side]


def follow(tracker: Tracker, *boxes: list[float], scores: object = 0.9, labels: object = 0) -> list[int]:
    n = len(boxes)
    frame = np.array(boxes, np.float32).reshape(-1, 4), np.broadcast_to(scores, n), np.broadcast_to(labels, n)
    return tracker.update(*frame).tolist()


def test_two_objects_that_pass_each_other_keep_their_numbers() -> None:
    # At 6 px a frame a 10 px box overlaps its last place by 0.25; without a notion of speed, where both meet
    # at x 60 each would take the other's place.
    tracker = Tracker(THRESHOLDS)
    for t in range(20):
        numbers = follow(tracker, square(6 * t, 20), square(120 - 6 * t, 24))
        assert numbers == [1, 2], t


def test_the_order_of_detections_does_not_matter() -> None:
    tracker = Tracker(THRESHOLDS)
    for t in range(6):
        boxes = [square(50 * i + t, 9) for i in range(4)]
        order = np.random.default_rng(t).permutation(4) if t else np.arange(4)
        assert follow(tracker, *(boxes[i] for i in order)) == (order + 1).tolist()


def test_an_object_that_is_hidden_for_a_while_is_known_again() -> None:
    tracker = Tracker(THRESHOLDS)
    for t in range(8):
        assert follow(tracker, square(4 * t, 9)) == [1]
    for _ in range(6):
        assert follow(tracker) == []
    assert follow(tracker, square(4 * 14, 9)) == [1]
    for _ in range(KEPT + 1):
        follow(tracker)
    # Forgotten; a new one has no number before it was seen twice.
    assert follow(tracker, square(4 * 46, 9)) == [UNTRACKED]
    assert follow(tracker, square(4 * 47, 9)) == [2]


def test_poor_detections_go_on_with_tracks_but_begin_none() -> None:
    tracker = Tracker(THRESHOLDS)
    assert follow(tracker, square(0, 0), square(90, 0), scores=[0.9, 0.2]) == [1, HIDDEN]
    assert follow(tracker, square(1, 0), square(91, 0), scores=[0.2, 0.2]) == [1, HIDDEN]
    # Of the second class 0.4 is good.
    assert follow(tracker, square(200, 0), scores=0.4, labels=1) == [UNTRACKED]


def test_a_poor_detection_does_not_revive_what_is_lost() -> None:
    tracker = Tracker(THRESHOLDS)
    follow(tracker, square(0, 0))
    follow(tracker)
    follow(tracker)
    assert follow(tracker, square(0, 0), scores=0.2) == [HIDDEN]
    assert follow(tracker, square(0, 0)) == [1]


def test_a_false_alarm_of_one_frame_gets_no_number() -> None:
    tracker = Tracker(THRESHOLDS)
    follow(tracker)
    assert follow(tracker, square(0, 0)) == [UNTRACKED]
    assert follow(tracker) == []
    assert follow(tracker, square(0, 0)) == [UNTRACKED]  # the first was forgotten


def test_objects_of_other_classes_are_others() -> None:
    tracker = Tracker(THRESHOLDS)
    assert follow(tracker, square(0, 0), square(0, 0), labels=[0, 1]) == [1, 2]
    assert follow(tracker, square(0, 0), square(0, 0), labels=[1, 0]) == [2, 1]


def test_boxes_are_paired_so_that_they_overlap_most_in_all() -> None:
    # Widened to 15 px: the first overlaps both, 0.76 and 0.67, the second likewise 0.67 and 0.30. To take the
    # best pair first would leave 0.30 for the other.
    first = np.array([square(0, 0), square(5, 0)])
    second = np.array([square(2, 0), square(-3, 0)])
    zeros = np.zeros(2, np.int64)
    mine, theirs = associate(first, zeros, second, zeros, 0.2)
    assert list(zip(mine.tolist(), theirs.tolist(), strict=True)) == [(0, 1), (1, 0)]
    assert len(associate(first, zeros, second, zeros + 1, 0.2)[0]) == 0
    assert len(associate(first[:0], zeros[:0], second, zeros, 0.2)[0]) == 0


def test_the_filter_is_kalmans() -> None:
    """One coordinate beside the matrices of a textbook."""
    tracks = Tracks.begin(np.array([[0.0, 0, 20, 20]]), np.zeros(1, np.int64), np.ones(1, np.int64))
    state = np.array([10.0, 0])
    covariance = np.diag([tracks.place_variance[0, 0], tracks.speed_variance[0, 0]])
    motion, seen = np.array([[1.0, 1], [0, 1]]), np.array([[1.0, 0]])
    for x in (3.0, 5.0, 9.0):
        noise = np.diag([(20 / 20) ** 2, (20 / 160) ** 2])  # sides stay 20
        state, covariance = motion @ state, motion @ covariance @ motion.T + noise
        total = seen @ covariance @ seen.T + (20 / 20) ** 2
        gain = covariance @ seen.T / total
        state = state + gain[:, 0] * (x + 10 - state[0])
        covariance = (np.eye(2) - gain @ seen) @ covariance
        tracks.move()
        tracks.see(np.array([0]), np.array([[x, 0, x + 20, 20]]))
        assert [tracks.place[0, 0], tracks.speed[0, 0]] == pytest.approx(state.tolist())
    found = [tracks.place_variance[0, 0], tracks.covariance[0, 0], tracks.speed_variance[0, 0]]
    assert found == pytest.approx([covariance[0, 0], covariance[0, 1], covariance[1, 1]])

"""The assigner's memory, the points in boxes and its statistics."""

import pytest
import torch
from assigner_cases import VISDRONE, Recorder, as_dict, assert_same, dense_assign, make_batch, pyramid

from detector import assigner as assigner_module
from detector.assigner import (
    Assignment,
    TaskAlignedAssigner,
    assignment_statistics,
    points_in_boxes,
)

# --- memory -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 100, 1000])
def test_chunks_equal_the_whole(monkeypatch, limit):
    batch = make_batch(7, [40, 0, 30], sides=(2, 150))
    whole = TaskAlignedAssigner()(*batch)
    inside = points_in_boxes(batch[4], batch[6], batch[2], batch[3])
    monkeypatch.setattr(assigner_module, "MAX_PAIRS", limit)
    chunked = TaskAlignedAssigner()(*batch)
    assert torch.equal(chunked.point, whole.point)
    assert torch.equal(chunked.object, whole.object)
    torch.testing.assert_close(chunked.score, whole.score, rtol=0, atol=1e-6)
    assert torch.equal(points_in_boxes(batch[4], batch[6], batch[2], batch[3]), inside)


def test_memory_follows_the_pairs_not_the_points():
    # 2 x 300 objects of at most 12 px on 5376 points: (B, n, A) is 3.2 million elements. Each object holds at
    # most 4 + 1 + 1 points (widened to 16 px): 3600 pairs of a few numbers. The largest tensor is then a
    # view of the predicted boxes themselves.
    batch = make_batch(8, [300, 300], size=(512, 512), sides=(2, 12))
    with Recorder() as recorder:
        TaskAlignedAssigner()(*batch)
    assert recorder.largest == batch[1].numel()
    assert recorder.largest < 2 * 300 * len(batch[2]) / 50


def test_memory_is_bounded_when_boxes_cover_the_image(monkeypatch):
    # 200 objects on all of 1344 points: 268,800 pairs, in chunks of at most 5000 + 1344 pairs, each pair with
    # five integers in the generator.
    monkeypatch.setattr(assigner_module, "MAX_PAIRS", 5000)
    scores, boxes, points, strides, *_ = make_batch(9, [1], size=(256, 256))
    gt_boxes = torch.tensor([0.0, 0, 256, 256]).expand(200, 4)
    zero = torch.zeros(200, dtype=torch.int64)
    with Recorder() as recorder:
        TaskAlignedAssigner()(scores, boxes, points, strides, gt_boxes, zero, zero)
        points_in_boxes(gt_boxes, zero, points, strides)
    assert recorder.largest <= 5 * (5000 + len(points))


# --- points in boxes, statistics ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_points_in_boxes_equals_a_loop(seed):
    _, _, points, strides, boxes, _, image_index = make_batch(seed, [5, 0, 8], sides=(1, 120))
    expected = set()
    for (x1, y1, x2, y2), b in zip(boxes.tolist(), image_index.tolist(), strict=True):
        wide, high = max(16 - (x2 - x1), 0) / 2, max(16 - (y2 - y1), 0) / 2
        for a, (x, y) in enumerate(points.tolist()):
            if x1 - wide < x < x2 + wide and y1 - high < y < y2 + high:
                expected.add(b * len(points) + a)
    assert points_in_boxes(boxes, image_index, points, strides).tolist() == sorted(expected)


def test_points_in_a_box_over_the_whole_image_and_in_none():
    points, strides = pyramid(64, 96)
    zero = torch.zeros(1, dtype=torch.int64)
    whole = points_in_boxes(torch.tensor([[0.0, 0, 96, 64]]), zero + 1, points, strides)
    assert torch.equal(whole, torch.arange(len(points)) + len(points))
    none = points_in_boxes(torch.zeros(0, 4), zero[:0], points, strides)
    assert none.shape == (0,)
    assert none.dtype == torch.int64


def test_statistics_by_hand():
    # Sides: 4 (below 8), 8 (8-16), 8 = sqrt(4 * 16) (8-16), 32 (from 32); objects 0 and 3 have no positive;
    # object 1 has its best at 0.75, object 2 at 0.5.
    gt_boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 8, 8], [0, 0, 4, 16], [0, 0, 32, 32]])
    assignment = Assignment(torch.tensor([1, 5, 9]), torch.tensor([1, 2, 1]), torch.tensor([0.25, 0.5, 0.75]))
    statistics = assignment_statistics(assignment, gt_boxes)
    assert statistics["objects"].tolist() == [1, 2, 0, 1]
    assert statistics["unassigned"].tolist() == [1, 0, 0, 1]
    assert statistics["score"].tolist() == [0, 1.25, 0, 0]


def test_statistics_of_nothing():
    nothing = Assignment(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    for value in assignment_statistics(nothing, torch.zeros(0, 4)).values():
        assert value.tolist() == [0, 0, 0, 0]


@pytest.mark.skipif(not VISDRONE.is_dir(), reason="the shared VisDrone annotations are absent")
def test_equals_dense_reference_on_real_crowds():
    files = sorted(VISDRONE.glob("*.txt"), key=lambda file: -file.stat().st_size)[:2]
    rows = [[list(map(float, row.split(",")[:4])) for row in file.read_text().split()] for file in files]
    gt_boxes = torch.tensor(rows[0] + rows[1])
    gt_boxes[:, 2:] += gt_boxes[:, :2]
    gt_boxes *= 320 / 1920
    scores, boxes, points, strides, *_ = make_batch(0, [0, 0], size=(320, 320))
    image_index = torch.tensor([0] * len(rows[0]) + [1] * len(rows[1]))
    batch = (scores, boxes, points, strides, gt_boxes, torch.zeros_like(image_index), image_index)
    for b in range(2):
        gt = gt_boxes[image_index == b]
        nearest = torch.cdist(points, (gt[:, :2] + gt[:, 2:]) / 2).argmin(1)
        boxes[b] = gt[nearest] + torch.randn(len(points), 4, generator=torch.Generator().manual_seed(b))
    assert_same(as_dict(TaskAlignedAssigner()(*batch)), dense_assign(*batch))

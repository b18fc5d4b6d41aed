"""Geometry on boxes that a reader solves by hand."""

import torch

from losses.boxes import area, centre, enclosing_size, intersection_and_union, size

A = torch.tensor([0.0, 0.0, 4.0, 2.0])  # 4 x 2
B = torch.tensor([3.0, 1.0, 5.0, 5.0])  # 2 x 4; shares the 1 x 1 square (3, 1) to (4, 2) with A
EMPTY = torch.tensor([2.0, 1.0, 1.0, 5.0])  # inverted in x


def test_one_box():
    assert centre(A).tolist() == [2, 1]
    assert size(A).tolist() == [4, 2]
    assert area(A) == 8


def test_two_boxes():
    assert intersection_and_union(A, B) == (1, 8 + 8 - 1)
    assert enclosing_size(A, B).tolist() == [5, 5]
    assert enclosing_size(A, B, floor=6).tolist() == [6, 6]


def test_touching_boxes_share_nothing():
    assert intersection_and_union(A, torch.tensor([4.0, 0.0, 6.0, 2.0])) == (0, 12)


def test_inverted_box_is_empty():
    assert area(EMPTY) == 0
    assert intersection_and_union(A, EMPTY) == (0, 8)
    assert size(EMPTY, floor=0.5).tolist() == [0.5, 4]


def test_pairwise_by_broadcasting():
    boxes = torch.stack((A, B))
    intersection, union = intersection_and_union(boxes[:, None], boxes[None])
    assert intersection.tolist() == [[8, 1], [1, 8]]
    assert union.tolist() == [[8, 15], [15, 8]]
    assert enclosing_size(boxes[:, None], boxes[None])[0, 0].tolist() == [4, 2]


def test_no_box():
    none = torch.zeros(0, 4)
    assert area(none).shape == (0,)
    intersection, union = intersection_and_union(none[:, None], torch.stack((A, B))[None])
    assert intersection.shape == union.shape == (0, 2)

"""Geometry on boxes that a reader solves by hand."""

import torch

from losses.boxes import area, centre, enclosing, intersection, size, union

A = torch.tensor([0.0, 0.0, 4.0, 2.0])  # 4 x 2
B = torch.tensor([3.0, 1.0, 5.0, 5.0])  # 2 x 4; shares the 1 x 1 square (3, 1) to (4, 2) with A
EMPTY = torch.tensor([2.0, 1.0, 1.0, 5.0])  # inverted in x


def test_one_box():
    assert centre(A).tolist() == [2, 1]
    assert size(A).tolist() == [4, 2]
    assert area(A) == 8


def test_two_boxes():
    assert intersection(A, B) == 1
    assert union(A, B) == 8 + 8 - 1
    assert enclosing(A, B).tolist() == [0, 0, 5, 5]


def test_touching_boxes_share_nothing():
    assert intersection(A, torch.tensor([4.0, 0.0, 6.0, 2.0])) == 0


def test_inverted_box_is_empty():
    assert area(EMPTY) == 0
    assert intersection(A, EMPTY) == 0
    assert size(EMPTY, floor=0.5).tolist() == [0.5, 4]


def test_pairwise_by_broadcasting():
    boxes = torch.stack((A, B))
    assert intersection(boxes[:, None], boxes[None]).tolist() == [[8, 1], [1, 8]]
    assert enclosing(boxes[:, None], boxes[None]).shape == (2, 2, 4)


def test_no_box():
    none = torch.zeros(0, 4)
    assert area(none).shape == (0,)
    assert union(none[:, None], torch.stack((A, B))[None]).shape == (0, 2)

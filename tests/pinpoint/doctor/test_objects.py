"""The doctor's arithmetic, on boxes that can be solved by hand."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.formats.rows import ImageRows
from datamodules.images.headers import Header
from pinpoint.doctor import objects as objects_module
from pinpoint.doctor import rows as rows_module
from pinpoint.doctor.objects import gather, percentiles
from pinpoint.doctor.rows import Row


def record(boxes, size=(100, 200), labels=None):
    image = ImageRows(Path("a.jpg"), 1, "a.jpg", Header(size, 1, 1, False))
    for box, label in zip(boxes, labels or [0] * len(boxes), strict=True):
        image.add("a.txt, line 1", box, label)
    return image.record()[0]


def test_sides_and_aspects():
    # 16 x 4: side 8, four times as wide as high. An input of 50 x 50 shrinks 100 x 200 by four.
    objects = gather([record([(10, 10, 16, 4)])], (50, 50))
    assert objects.sides.tolist() == [8]
    assert objects.aspects.tolist() == [4]
    assert objects.input_sides.tolist() == [2]
    assert objects.input_lengths.tolist() == [4]
    assert objects.at((100, 100)).input_sides.tolist() == [4]


def test_boxes_are_clipped_to_their_image():
    # 10 of 20 columns lie outside: 10 x 10 is left.
    assert gather([record([(190, 0, 20, 10)])], (100, 200)).sides.tolist() == [10]


def test_counts():
    images = [record([(0, 0, 9, 9)] * 3, labels=[0, 0, 2]), record([]), record([(0, 0, 9, 9)], labels=[2])]
    objects = gather(images, (100, 200))
    assert objects.per_image.tolist() == [3, 0, 1]
    assert objects.per_class(3).tolist() == [2, 0, 2]
    assert objects.images_per_class(3).tolist() == [1, 0, 2]


def test_neighbours_stay_within_their_image():
    # Centres 8 px apart: within the side of the large one (10), not of the small one (4). The box at the
    # same place in the other image is no neighbour. At an input of half the size, 8 px become 4.
    pair, single = record([(0, 0, 10, 10), (11, 3, 4, 4)]), record([(0, 0, 10, 10)])
    count, nearest = gather([pair, single], (50, 100)).neighbours()
    assert count.tolist() == [1, 0, 0]
    assert nearest.tolist() == [4, 4, np.inf]


@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_blocks_change_nothing(block, monkeypatch):
    # Centres 10 px apart in a row, sides of 11 px: each has its one or two nearest as neighbours.
    monkeypatch.setattr(objects_module, "BLOCK", block)
    monkeypatch.setattr(rows_module, "BLOCK", block)
    row = [(10.0 * k, 0.0, 11.0, 11.0) for k in range(5)]
    count, nearest = gather([record(row), record(row[:1])], (100, 200)).neighbours()
    assert count.tolist() == [1, 2, 2, 2, 1, 0]
    assert nearest.tolist() == [10, 10, 10, 10, 10, np.inf]
    # The last two repeat the first and the third, the one before them is of another class.
    boxes, labels = [*row, row[1], row[0], row[2]], [0] * 5 + [1, 0, 0]
    rows = [
        Row(str(k), box, label, False, 1.0) for k, (box, label) in enumerate(zip(boxes, labels, strict=True))
    ]
    same = [(first.place, second.place) for first, second in rows_module._same(rows)]
    assert same == [("0", "6"), ("2", "7")]


def test_positions():
    # Centres (50, 75) and (50, 25) of 200 x 100: lower left and upper left quarter.
    objects = gather([record([(40, 65, 20, 20), (40, 15, 20, 20)])], (100, 200))
    assert objects.positions(2).tolist() == [[0.5, 0], [0.5, 0]]


@pytest.mark.parametrize("images", [[], [record([])]])
def test_nothing(images):
    objects = gather(images, (64, 64))
    count, nearest = objects.neighbours()
    assert len(objects.sides) == len(count) == len(nearest) == 0
    assert objects.positions(3).sum() == 0
    assert objects.per_class(2).tolist() == objects.images_per_class(2).tolist() == [0, 0]
    assert np.isnan(percentiles(objects.sides)).all()

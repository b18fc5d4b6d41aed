"""Boxes, polygons, and poses that are not declared as such."""

import math
import re

import numpy as np
import pytest
from one_object import picture

from datamodules.formats.yolo import read_description, read_yolo
from datamodules.problems import DataError

PLACES = [(0.25, 0.3), (0.6, 0.4), (0.5, 0.75)]
"""Centres of objects of 0.2 x 0.3."""


def poses(points):
    """Rows of a box and its key points, at (u, v) from its corner in shares of it; None is not seen."""
    rows = []
    for cx, cy in PLACES:
        rows.append([cx, cy, 0.2, 0.3])
        for point in points:
            u, v, *seen = point or (0, 0)
            place = (cx - 0.1 + 0.2 * u, cy - 0.15 + 0.3 * v) if point else (0, 0)
            rows[-1] += [*place, *seen]
    return rows


def read(folder, rows, more=""):
    picture(folder / "images" / "0.png")
    (folder / "labels").mkdir()
    text = "".join(f"0 {' '.join(f'{value:.4f}' for value in row)}\n" for row in rows)
    (folder / "labels" / "0.txt").write_text(text)
    (folder / "data.yaml").write_text(f"train: images\nval: images\nnames: [car]\n{more}")
    (image,) = read_yolo(read_description(folder / "data.yaml"), "train").images
    return image.annotations.boxes / 64


@pytest.mark.parametrize(
    ("points", "shape"),
    [
        ([(0.5, 0.5)], "[1, 2]"),
        ([(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)], "[4, 2]"),
        ([(0.1, 0.1), None, (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)], "[5, 2]"),
        ([(0.2 * k, 0.5) for k in range(5)], "[5, 2]"),
        ([(0.1, 0.1, 1), (0.9, 0.1, 1), (0.9, 0.9, 0), (0.1, 0.9, 1)], "[4, 3]"),
        ([(0.5 + 0.4 * math.sin(k), 0.06 * k) for k in range(17)], "[17, 2]"),
    ],
)
def test_poses_without_kpt_shape_are_refused_by_name(tmp_path, points, shape):
    message = rf"the first is .*0\.txt, line 1\): write {re.escape(f'kpt_shape: {shape}')}"
    with pytest.raises(DataError, match=message):
        read(tmp_path, poses(points))


def test_poses_with_it_are_boxes_and_with_null_polygons(tmp_path):
    rows = poses([(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)])
    expected = [[cx - 0.1, cy - 0.15, cx + 0.1, cy + 0.15] for cx, cy in PLACES]
    np.testing.assert_allclose(read(tmp_path / "a", rows, "kpt_shape: [4, 2]\n"), expected, atol=1e-4)
    found = read(tmp_path / "b", rows, "kpt_shape: null\n")
    np.testing.assert_allclose(found[0], [0.17, 0.18, 0.33, 0.42], atol=1e-4)


def ring(cx, cy, radius, corners, start=0.0):
    angles = [start + 2 * math.pi * k / corners for k in range(corners)]
    return [z for a in angles for z in (cx + radius * math.cos(a), cy + radius * math.sin(a))]


@pytest.mark.parametrize("corners", [3, 4, 5, 6, 12, 40])
def test_polygons_of_equal_length_are_no_poses(tmp_path, corners):
    rows = [
        ring(cx, cy, radius, corners, start)
        for cx, cy, radius, start in [(0.2, 0.3, 0.1, 0.3), (0.7, 0.8, 0.1, 1.0), (0.8, 0.3, 0.05, 2.0)]
    ]
    found = read(tmp_path, rows)
    xs = np.array([[min(row[::2]), max(row[::2])] for row in rows])
    np.testing.assert_allclose(found[:, [0, 2]], xs, atol=1e-4)


def test_few_rows_of_four_corners_in_the_middle_are_no_poses(tmp_path):
    rows = [ring(0.5, 0.5, 0.1, 4, start) for start in (0.1, 0.5, 0.9)]
    assert len(read(tmp_path, rows)) == 3


@pytest.mark.parametrize("corners", [5, 6, 20])
def test_polygons_in_the_middle_are_no_poses(tmp_path, corners):
    rows = [ring(0.4, 0.4, 0.1, corners, start) for start in np.linspace(0, 6, 13)]
    assert len(read(tmp_path, rows)) == 13

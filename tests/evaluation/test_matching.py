import tracemalloc

import numpy as np
import pytest

from evaluation import matching
from evaluation.matching import Boxes, find_pairs


def boxes(number: int, images: int, seed: int) -> Boxes:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 80, (number, 4))
    corners[:, 2:] = corners[:, :2] + rng.uniform(1, 20, (number, 2))
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    return Boxes(np.sort(rng.integers(0, images, number)), corners, areas, rng.integers(0, 2, number))


@pytest.mark.parametrize("block", [1, 100, 1000])
def test_pairs_are_the_same_in_blocks_of_any_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found, objects = boxes(200, 3, seed=0), boxes(150, 3, seed=1)
    ignored = np.arange(150) % 7 == 0
    whole = find_pairs(found, objects, ignored, 0.1)
    monkeypatch.setattr(matching, "BLOCK", block)
    parts = find_pairs(found, objects, ignored, 0.1)
    assert len(whole.detection) > 100
    for name in ("detection", "target", "overlap"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_memory_does_not_grow_with_detections_times_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "BLOCK", 2**16)
    found, objects = boxes(100, 1, seed=0), boxes(20_000, 1, seed=1)
    tracemalloc.start()
    find_pairs(found, objects, np.zeros(20_000, np.bool_), 0.9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # one number for each of the two million pairs is twice that

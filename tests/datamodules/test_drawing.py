"""What was found stays legible."""

import cv2
import numpy as np
import pytest

from datamodules import drawing
from datamodules.drawing import draw_found


def crowd(count: int, seed: int = 0) -> np.ndarray:
    """Boxes of 6 to 40 px in an image of 1000 x 600."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform((0, 0), (960, 560), (count, 2))
    return np.concatenate((corner, corner + rng.uniform(6, 40, (count, 2))), axis=1).astype(np.float32)


@pytest.fixture
def grounds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int, int]]:
    """Where words are written: x1, y1, x2, y2, inclusive."""
    places: list[tuple[int, int, int, int]] = []
    rectangle = cv2.rectangle

    def spy(image, low, high, colour, thickness=1):
        if thickness == cv2.FILLED:
            places.append((*low, *high))
        return rectangle(image, low, high, colour, thickness)

    monkeypatch.setattr(drawing.cv2, "rectangle", spy)
    return places


@pytest.mark.parametrize("count", [1, 40, 300])
def test_words_cover_no_box_no_words_and_stay_inside(count: int, grounds) -> None:
    image, boxes = np.zeros((600, 1000, 3), np.uint8), crowd(count)
    draw_found(image, boxes, np.zeros(count, int), ["car 0.50"] * count)
    taken = np.zeros(image.shape[:2], int)
    for x1, y1, x2, y2 in grounds:
        assert 0 <= x1 <= x2 < 1000
        assert 0 <= y1 <= y2 < 600
        taken[y1 : y2 + 1, x1 : x2 + 1] += 1
    assert taken.max() == 1
    for x1, y1, x2, y2 in np.floor(boxes).astype(int):
        assert not taken[y1:y2, x1:x2].any()
    # Among 300 objects some still have a name; alone every one has.
    assert len(grounds) >= {1: 1, 40: 30, 300: 20}[count]


def test_words_go_below_at_the_upper_edge_and_nowhere_if_there_is_no_room(grounds) -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    draw_found(image, np.array([[10, 0, 40, 20]], np.float32), np.zeros(1, int), ["car 0.50"])
    assert grounds[0][1] > 19
    grounds.clear()
    draw_found(image, np.array([[0, 0, 200, 100]], np.float32), np.zeros(1, int), ["car 0.50"])
    assert not grounds


def test_lines_are_thin_around_small_objects() -> None:
    image = np.zeros((2000, 3000, 3), np.uint8)
    boxes = np.array([[100, 100, 110, 110], [500, 500, 900, 900]], np.float32)
    draw_found(image, boxes, np.zeros(2, int), ["", ""])
    drawn = image.any(axis=2)
    assert not drawn[102:108, 102:108].any()  # the object itself can be seen
    assert drawn[700, 490:510].sum() >= 3  # thicker


def test_nothing_found_draws_nothing() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    draw_found(image, np.empty((0, 4), np.float32), np.empty(0, int), [])
    assert not image.any()

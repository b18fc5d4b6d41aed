import numpy as np
import pytest

from datamodules.batch import ImageInfo, Sample
from datamodules.transforms import paste
from datamodules.transforms.paste import Patch, Source, paste_objects

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def scene(size=(100, 100), objects=(), ignore_boxes=(), ground=0):
    """Grey ground with filled boxes; an object is (box, label, colour)."""
    image = np.full((*size, 3), ground, dtype=np.uint8)
    for (x1, y1, x2, y2), _, colour in objects:
        image[y1:y2, x1:x2] = colour
    return Sample(
        image=image,
        boxes=np.array([box for box, _, _ in objects], dtype=np.float32).reshape(-1, 4),
        labels=np.array([label for _, label, _ in objects], dtype=np.int64),
        ignore_boxes=np.array(ignore_boxes, dtype=np.float32).reshape(-1, 4),
        info=ImageInfo(0, "", size),
    )


def pasted(canvas, *sources, seeds=range(20), windows=None, scale=1.0, flip=0.5):
    """Boxes and labels that many draws add to fresh copies of a canvas; also the last picture."""
    boxes, labels = [], []
    height, width = canvas.image.shape[:2]
    windows = np.array(windows or [(0, 0, width, height)])
    for seed in seeds:
        copy = Sample(canvas.image.copy(), canvas.boxes, canvas.labels, canvas.ignore_boxes, canvas.info)
        found = [Source(source, scale) for source in sources]
        result = paste_objects(copy, windows, found, flip, np.random.default_rng(seed))
        n = len(canvas.boxes)
        np.testing.assert_array_equal(result.boxes[:n], canvas.boxes)
        assert result.boxes.dtype == np.float32
        assert result.labels.dtype == np.int64
        boxes.append(result.boxes[n:])
        labels.append(result.labels[n:])
    return np.concatenate(boxes), np.concatenate(labels), result.image


ONE = ((40, 40, 48, 52), 3, RED)
"""An object of 8 x 12 pixels amid 100 x 100."""


def test_copies_look_like_their_object_and_have_its_label():
    for seed in range(20):
        boxes, labels, image = pasted(scene(), scene(objects=[ONE]), seeds=[seed])
        assert labels.tolist() == [3]  # the source has one object, and each is copied once
        ys, xs = np.nonzero(image[..., 0] > 240)  # the ring around is red too, but only outside the object
        shown = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(boxes[0] - shown).max() < 1.5
        width, height = boxes[0, 2:] - boxes[0, :2]
        assert 8 * 0.8 - 1 < width < 8 * 1.25 + 1
        assert 12 * 0.8 - 1 < height < 12 * 1.25 + 1


def test_a_scale_applies_to_copies():
    boxes, _, _ = pasted(scene(), scene(objects=[ONE]), scale=2.0)
    sides = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(np.exp(np.log(sides).mean(axis=0)), [16, 24], rtol=0.1)


def test_nothing_is_pasted_over_ignore_boxes_or_objects():
    # Free are columns 60 to 100 only; half of the rest is ignored, half is covered by a large object.
    canvas = scene(objects=[((0, 50, 60, 100), 3, GREEN)], ignore_boxes=[(0, 0, 60, 50)])
    boxes, _, image = pasted(canvas, scene(objects=[ONE]), seeds=range(100))
    assert len(boxes) > 30
    assert boxes[:, 0].min() >= 60 + paste.RING - 1
    np.testing.assert_array_equal(image[:, :60], canvas.image[:, :60])


def test_copies_do_not_cover_each_other():
    # Objects as dark as their ground: the choice of a like background does not keep copies apart.
    dark = (0, 0, 0)
    objects = [((10 * i, 10 * j, 10 * i + 3, 10 * j + 3), 0, dark) for i in range(1, 9) for j in range(1, 9)]
    for seed in range(20):
        boxes, _, _ = pasted(scene((40, 40)), scene(objects=objects), seeds=[seed])
        overlap = paste._overlap(boxes, boxes)
        np.testing.assert_array_equal(overlap, np.eye(len(boxes)))


def test_nothing_is_pasted_on_padding_or_over_a_seam():
    # Two images lie at columns 10..50 and 50..90, the rest is padding.
    windows = [(10, 0, 50, 100), (50, 0, 90, 100)]
    boxes, _, _ = pasted(scene(), scene(objects=[ONE]), seeds=range(100), windows=windows)
    assert len(boxes) > 60
    left, right = boxes[:, 0], boxes[:, 2]
    assert (((left >= 10) & (right <= 50)) | ((left >= 50) & (right <= 90))).all()


def test_a_full_canvas_stays_as_it_is():
    canvas = scene(ignore_boxes=[(0, 0, 100, 100)])
    boxes, labels, image = pasted(canvas, scene(objects=[ONE]))
    assert boxes.shape == (0, 4)
    assert labels.shape == (0,)
    np.testing.assert_array_equal(image, canvas.image)


@pytest.mark.parametrize(
    "source",
    [
        # A neighbour two pixels away would come along in the ring, half of it unlabelled.
        scene(objects=[ONE, ((50, 40, 90, 90), 1, GREEN)]),
        scene(objects=[ONE], ignore_boxes=[(46, 46, 90, 90)]),
        scene(ignore_boxes=[(40, 40, 48, 52)]),
        scene(objects=[((0, 40, 8, 52), 3, RED)]),  # cut by the image's edge, perhaps
        scene(objects=[((10, 10, 50, 20), 3, RED)]),  # 40 px are not small
        scene(),
    ],
    ids=["neighbour", "ignored in part", "ignored", "at the edge", "large", "empty"],
)
def test_such_objects_are_not_copied(source):
    assert len(pasted(scene(), source)[0]) == 0


def test_copies_go_near_objects_of_their_class_and_size():
    # Class 3 has one of the same size at (20, 20) and a much larger one far away; class 4 lies elsewhere.
    canvas = scene(
        (200, 200),
        [((16, 14, 24, 26), 3, GREEN), ((120, 120, 180, 190), 3, GREEN), ((150, 20, 158, 32), 4, BLUE)],
    )
    boxes, _, _ = pasted(canvas, scene(objects=[ONE]), seeds=range(50))
    assert len(boxes) == 50
    distance = np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - 20, axis=1)
    side = np.sqrt(8 * 12)
    assert distance.max() < 5 * side + 1
    assert distance.min() > side - 1


def test_without_a_similar_object_copies_keep_to_their_row():
    source = scene(objects=[((40, 80, 48, 90), 3, RED)])  # centre at 0.85 of the height
    boxes, _, _ = pasted(scene((200, 300)), source, seeds=range(50))
    rows = (boxes[:, 1] + boxes[:, 3]) / 2 / 200
    assert rows.min() > 0.85 - paste.ROW - 0.01
    assert rows.max() < 0.85 + paste.ROW + 0.01
    assert np.ptp(boxes[:, 0]) > 150  # anywhere along it


def test_copies_go_where_the_background_is_alike():
    # The right half is as dark as the source's ground, the left is much brighter.
    canvas = scene((100, 100), ground=20)
    canvas.image[:, :50] = 200
    boxes, _, _ = pasted(canvas, scene(objects=[ONE], ground=20), seeds=range(50))
    assert len(boxes) > 40
    assert boxes[:, 0].min() >= 50
    canvas.image[:] = 200
    assert len(pasted(canvas, scene(objects=[ONE], ground=20))[0]) == 0


def test_number_of_copies_is_limited():
    objects = [((9 * i, 9 * j, 9 * i + 2, 9 * j + 2), 0, RED) for i in range(1, 10) for j in range(1, 10)]
    counts = [len(pasted(scene((300, 300)), scene(objects=objects), seeds=[s])[0]) for s in range(40)]
    assert min(counts) == 1
    assert max(counts) == paste.MOST


def test_flipped_patch():
    # 10 columns wide, the object in columns 2..5: flipped it lies in 5..8, with its opacity.
    patch = Patch(
        image=np.arange(20, dtype=np.uint8).reshape(2, 10, 1).repeat(3, axis=2),
        opacity=np.zeros((2, 10, 1), dtype=np.float32),
        box=np.array([2, 0, 5, 2], dtype=np.float32),
    )
    patch.opacity[:, 2:5] = 1
    flipped = patch.mirrored()
    assert flipped.box.tolist() == [5, 0, 8, 2]
    assert flipped.image[0, :, 0].tolist() == list(range(9, -1, -1))
    assert flipped.opacity[0, :, 0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]


def test_opacity_by_hand():
    # The object is columns 4..6 of 10, and the ring fades over 3 pixels: the middle of the pixel beside the
    # object is 0.5 px away, so 1 - 0.5/3, then 1 - 1.5/3 and 1 - 2.5/3.
    opacity = paste._opacity(np.array([4, 0, 6, 1], dtype=np.float32), 1, 10)[0, :, 0]
    expected = [0, 1 / 6, 0.5, 5 / 6, 1, 1, 5 / 6, 0.5, 1 / 6, 0]
    np.testing.assert_allclose(opacity, expected, atol=1e-6)

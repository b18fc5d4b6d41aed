import random

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_cases import BLUE, GREEN, RED, drawn, extent, jittered, mosaicked, sample

from datamodules.transforms.augment import Augment
from datamodules.transforms.finish import Finish
from datamodules.transforms.geometry import FILL, Placement, compose, letterbox, move, place, resample

# ------------------------------------------------------------------------------------------- letterbox


def test_letterbox_by_hand():
    # 40 x 60 into 50 x 90: the scale is min(50/40, 90/60) = 1.25, the image becomes 50 x 75, and of the
    # 15 spare columns 7 lie to the left.
    result = letterbox(sample(40, 60, boxes=[[4, 8, 20, 40]]), (50, 90))
    assert result.info.scale == (1.25, 1.25)
    assert result.info.padding == (7, 0)
    np.testing.assert_allclose(result.boxes, [[4 * 1.25 + 7, 10, 32, 50]])
    assert (result.image[:, :7] == FILL).all()
    assert (result.image[:, 82:] == FILL).all()
    assert (letterbox(sample(40, 60), (50, 90), fill=114).image[:, :7] == 114).all()
    assert (result.image[:, 7:82] == 0).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(20, 200), st.integers(20, 200)),
    canvas=st.tuples(st.integers(16, 160), st.integers(16, 160)),
    data=st.data(),
)
def test_letterboxed_rectangle_maps_back_to_its_pixels(size, canvas, data):
    height, width = size
    x1, y1 = data.draw(st.integers(0, width - 12)), data.draw(st.integers(0, height - 12))
    box = (x1, y1, data.draw(st.integers(x1 + 12, width)), data.draw(st.integers(y1 + 12, height)))
    result = letterbox(drawn(height, width, [box]), canvas)
    assert covers(result.boxes[0], extent(result.image, RED))
    boxes = torch.tensor(result.boxes)
    np.testing.assert_allclose(result.info.to_original(boxes)[0], box, atol=1e-3)


def test_letterbox_keeps_annotations_of_original():
    original = sample(40, 60, boxes=[[4, 8, 20, 40]])
    marker = object()
    original.annotations = marker
    assert letterbox(original, (20, 30)).annotations is marker


def resampled(image, height, width):
    out = np.empty((height, width, 3), dtype=np.uint8)
    resample(image, out)
    return out


def test_shrinking_averages_so_that_small_objects_survive():
    # A white dot of 2 x 2 pixels on every 8 x 8 block: averaged, each block is 255 * 4/64 = 16 grey.
    # Plain linear interpolation would see a dot wholly or not at all.
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[0::8, 0::8] = image[1::8, 0::8] = image[0::8, 1::8] = image[1::8, 1::8] = 255
    assert (resampled(image, 8, 8) == 16).all()


@pytest.mark.parametrize("ratio", [1.4, 1.9, 2.3, 3.6])
def test_resampling_is_close_to_area_averages(ratio):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (3, 3), 0)
    height, width = round(120 / ratio), round(160 / ratio)
    exact = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(float)
    ours = resampled(image, height, width).astype(float) - exact
    linear = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR).astype(float) - exact
    assert ours.std() < 12
    assert ours.std() <= linear.std()


@pytest.mark.parametrize("bands", [1, 2, 4, 5, 8])
def test_bands_are_resampled_alike(bands):
    image = np.random.default_rng(0).integers(0, 256, (301, 203, bands), dtype=np.uint8)
    out = np.empty((100, 50, bands), dtype=np.uint8)
    resample(image, out)
    for band in range(bands):
        alone = np.empty((100, 50, 1), dtype=np.uint8)
        resample(np.ascontiguousarray(image[..., band : band + 1]), alone)
        assert (out[..., band] == alone[..., 0]).all()


# -------------------------------------------------------------------------------------------- placement


def test_placement_moves_and_clips_by_hand():
    # Image columns 10..30 land on canvas columns 100..140, rows 0..10 on 50..60: scale (2, 1).
    placement = Placement(source=(10, 0, 30, 10), target=(100, 50, 140, 60))
    assert placement.scale == (2, 1)
    boxes = np.array([[5, 2, 15, 4], [12, 1, 14, 9], [0, 0, 5, 5]], dtype=np.float32)
    moved, visible = move([boxes], [placement])
    # The first box spans 90..110, half of it visible; the second is whole; the third is outside.
    np.testing.assert_allclose(moved[:2], [[100, 52, 110, 54], [104, 51, 108, 59]])
    np.testing.assert_allclose(visible, [0.5, 1, 0])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    length=st.integers(1, 300),
    scale=st.floats(0.05, 5),
    room=st.integers(1, 200),
    low=st.integers(0, 50),
    position=st.floats(0, 1),
)
def test_placement_windows_lie_inside_image_and_region(length, scale, room, low, position):
    full = max(round(length * scale), 1)
    start = low + round(-full + 1 + position * (room + full - 2))  # any start with a common pixel
    placement = place((length, length), scale, (low, low, low + room, low + room), (start, start))
    x1, y1, x2, y2 = placement.source
    u1, v1, u2, v2 = placement.target
    assert 0 <= x1 < x2 <= length
    assert low <= u1 < u2 <= low + room
    assert (x1, x2, u1, u2) == (y1, y2, v1, v2)


# ------------------------------------------------------------------------------------ the whole chain


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(40, 160), st.integers(40, 160)),
    zoom=st.floats(0.5, 2),
    translate=st.floats(0, 0.5),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_drawn_rectangles_are_under_their_boxes_after_the_chain(size, zoom, translate, seed, data):
    height, width = size

    def box():
        x1, y1 = data.draw(st.integers(0, width - 12)), data.draw(st.integers(0, height - 12))
        return x1, y1, data.draw(st.integers(x1 + 12, width)), data.draw(st.integers(y1 + 12, height))

    augment = Augment(
        flip=0.5, vertical_flip=0.5, scale=(zoom, zoom), translate=translate, min_visibility=0.2
    )
    objects, ignore_box = [box(), box()], box()
    rng = np.random.default_rng(seed)
    result = jittered(drawn(height, width, objects, ignore_box), (64, 96), augment, rng)
    result = Finish(augment)(result, rng)
    check_boxes_cover_their_colours(result, objects=2)


def check_boxes_cover_their_colours(result, objects):
    """Every object lies under its box or, cut, under an ignore box; nothing bright is without a box."""
    for channel in range(objects):
        found = extent(result.image, channel)
        own = result.boxes[result.labels == channel]
        assert len(own) <= 1
        if len(own):
            assert covers(own[0], found)
        elif found is not None:
            assert any(covers(box, found) for box in result.ignore_boxes), "a cut object has no ignore box"
    found = extent(result.image, BLUE)
    assert found is None or any(covers(box, found) for box in result.ignore_boxes), "ignore box lost"


def covers(box, found):
    """Whether a box fits the bright pixels found: to half a pixel, as they are whole, and a quarter for blur.

    What is thinner than 3 pixels may be too dark to find, or look wider by a pixel.
    """
    thin = (box[2:] - box[:2]).min() < 3
    if found is None:
        return thin
    return np.abs(box - found).max() < (1.5 if thin else 0.76)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), zoom=st.floats(0.5, 2), data=st.data())
def test_drawn_rectangles_are_under_their_boxes_after_mosaic(seed, zoom, data):
    # One rectangle in each of three images, each of its own colour, and an ignore box in the fourth.
    samples = []
    for channel in (RED, GREEN, None, None):
        height, width = data.draw(st.integers(40, 120)), data.draw(st.integers(40, 120))
        x1, y1 = data.draw(st.integers(0, width - 12)), data.draw(st.integers(0, height - 12))
        box = (x1, y1, data.draw(st.integers(x1 + 12, width)), data.draw(st.integers(y1 + 12, height)))
        image = np.zeros((height, width, 3), dtype=np.uint8)
        if channel is None:
            one = not any(len(s.ignore_boxes) for s in samples)
            image[y1 : box[3], x1 : box[2], BLUE] = 255 * one
            samples.append(sample(height, width, ignore_boxes=[box] if one else [], image=image))
        else:
            image[y1 : box[3], x1 : box[2], channel] = 255
            samples.append(sample(height, width, [box], [channel], image=image))
    augment = Augment(flip=0.5, vertical_flip=0.5, scale=(zoom, zoom))
    rng = np.random.default_rng(seed)
    result = Finish(augment)(mosaicked(samples, (64, 96), augment, rng), rng)
    check_boxes_cover_their_colours(result, objects=2)


# ------------------------------------------------------------------------------------------ visibility


def cut(min_visibility):
    """Two objects of 10 x 10: the crop shows 1 of 10 columns of the first and 5 of 10 of the second."""
    image = sample(10, 100, boxes=[[41, 0, 51, 10], [95, 0, 105, 10]])
    placement = Placement(source=(50, 0, 100, 10), target=(0, 0, 50, 10))
    return compose([image], [placement], (10, 50), min_visibility)


def test_objects_cut_below_min_visibility_become_ignore_boxes():
    result = cut(min_visibility=0.2)
    np.testing.assert_allclose(result.boxes, [[45, 0, 50, 10]])
    assert result.labels.tolist() == [1]
    np.testing.assert_allclose(result.ignore_boxes, [[0, 0, 1, 10]])


def test_no_cut_object_is_ignored_at_min_visibility_zero():
    assert len(cut(min_visibility=0).boxes) == 2
    assert len(cut(min_visibility=0).ignore_boxes) == 0


def test_extra_transforms_turn_cut_objects_into_ignore_boxes():
    # Shifted left by 35 of 100 columns: 1 of the first box's 10 columns stays, the second moves whole.
    # albumentations itself would delete the first.
    shift = A.Affine(translate_px={"x": (-35, -35), "y": (0, 0)}, p=1)
    augment = Augment(flip=0, extra=[shift])
    result = Finish(augment)(
        sample(20, 100, boxes=[[26, 0, 36, 10], [60, 5, 70, 15]], ignore_boxes=[[50, 0, 52, 2]]),
        np.random.default_rng(0),
    )
    np.testing.assert_allclose(result.boxes, [[25, 5, 35, 15]], atol=0.01)
    assert result.labels.tolist() == [1]
    expected = [[15, 0, 17, 2], [0, 0, 1, 10]]
    np.testing.assert_allclose(result.ignore_boxes, expected, atol=0.01)


def test_visible_share_after_extra_transforms_knows_their_scale():
    # Shrunk to 0.4 of its side a box keeps 0.16 of its area, and all of it can be seen. Enlarged threefold
    # about the image's middle (50, 10), the box from 26 on spans -22..8 of the x axis and -20..10 of the
    # y axis: 8/30 * 10/30 = 0.09 of it is left, although 80 square pixels of 100 are.
    image = sample(20, 100, boxes=[[26, 0, 36, 10]])
    rng = np.random.default_rng(0)
    small = Finish(Augment(flip=0, extra=[A.Affine(scale=0.4, p=1)]))(image, rng)
    np.testing.assert_allclose(small.boxes[:, 2:] - small.boxes[:, :2], [[4, 4]], atol=0.01)
    large = Finish(Augment(flip=0, extra=[A.Affine(scale=3, p=1)]))(image, rng)
    assert len(large.boxes) == 0
    np.testing.assert_allclose(large.ignore_boxes, [[0, 0, 8, 10]], atol=1.5)  # centres of pixels, or edges


def test_dropout_of_a_whole_object_takes_its_label():
    image = sample(20, 100, boxes=[[26, 4, 36, 10]], ignore_boxes=[[60, 4, 70, 10]])
    hole = A.CoarseDropout((1, 1), (20, 20), (100, 100), fill=0, p=1)
    result = Finish(Augment(flip=0, extra=[hole]))(image, np.random.default_rng(0))
    assert len(result.boxes) == len(result.ignore_boxes) == 0


@pytest.mark.parametrize("kind", [A.GridDistortion, A.ElasticTransform])
def test_distortions_that_drop_points(kind):
    corners = [[0, 0, 10, 10], [150, 118, 160, 128], [100, 0, 110, 10]]
    image = sample(128, 160, boxes=[[60, 40, 70, 50], *corners], ignore_boxes=[[20, 90, 30, 100]])
    finish = Finish(Augment(flip=0, extra=[kind(p=1)]))
    for seed in range(20):
        result = finish(image, np.random.default_rng(seed))
        assert len(result.boxes) == len(result.labels)
        first = result.boxes[result.labels == image.labels[0]]
        np.testing.assert_allclose(first, [[60, 40, 70, 50]], atol=15)
        assert len(result.boxes) + len(result.ignore_boxes) == 5


def test_extra_transform_that_changes_the_size_is_refused():
    finish = Finish(Augment(extra=[A.Resize(8, 8)]))
    with pytest.raises(ValueError, match="keep the size"):
        finish(sample(20, 20), np.random.default_rng(0))


class Still(A.DualTransform):
    """A transform of one's own that moves nothing."""

    def apply(self, img, **params):
        return img

    def apply_to_bboxes(self, bboxes, **params):
        return bboxes


class Whole(Still):
    def apply_to_keypoints(self, keypoints, **params):
        return keypoints


def test_extra_transform_that_cannot_move_boxes_is_refused():
    for extra in ([Still(p=0.01)], [A.HorizontalFlip(), A.OneOf([A.Sequential([Still()])])]):
        with pytest.raises(
            ValueError, match=r"augment\.extra: Still has no method apply_to_keypoints: define it"
        ):
            Augment(extra=extra)
    image = sample(20, 100, boxes=[[26, 4, 36, 10]])
    augment = Augment(flip=0, extra=[A.OneOf([Whole(p=1)], p=1), A.Blur()])
    result = Finish(augment)(image, np.random.default_rng(0))
    np.testing.assert_array_equal(result.boxes, image.boxes)


# ------------------------------------------------------------------------------------------ randomness


def test_flips_are_independent():
    # The corner of the pixel that was at the top left tells which flips happened. Seeded alike, the two
    # flips would always agree: a correlation of 1.
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[0, 0] = 255
    finish = Finish(Augment(flip=0.5, vertical_flip=0.5))
    flips = []
    for seed in range(400):
        ys, xs = np.nonzero(finish(sample(image=image), np.random.default_rng(seed)).image[..., 0])
        flips.append((xs[0] > 0, ys[0] > 0))
    horizontal, vertical = np.array(flips).T
    assert abs(horizontal.mean() - 0.5) < 0.1
    assert abs(vertical.mean() - 0.5) < 0.1
    assert abs(np.corrcoef(horizontal, vertical)[0, 1]) < 0.15


def test_samples_depend_on_their_generator_alone():
    augment = Augment(extra=[A.GaussNoise(p=0.5), A.RandomGamma(p=0.5)])
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    finish = Finish(augment)

    def run(seed):
        rng = np.random.default_rng(seed)
        return finish(jittered(sample(image=image), (32, 32), augment, rng), rng)

    first = run(1)
    run(2)  # whatever happened in between
    random.seed(3)
    np.random.seed(3)
    again = run(1)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.colour, again.colour)
    assert not np.array_equal(first.image, run(4).image)


def test_zoom_covers_its_range_evenly_in_logarithms():
    augment = Augment(scale=(0.5, 2), translate=0)
    widths = []
    for seed in range(300):
        result = jittered(sample(64, 64, [[24, 24, 40, 40]]), (64, 64), augment, np.random.default_rng(seed))
        if len(result.boxes):
            widths.append((result.boxes[0, 2] - result.boxes[0, 0]) / 16)
    assert min(widths) < 0.6
    assert max(widths) > 1.7
    assert abs(np.mean(np.array(widths) < 1) - 0.5) < 0.1


def test_no_change_without_augmentation():
    augment = Augment(flip=0, scale=(1, 1), translate=0, brightness=0, contrast=0, saturation=0, hue=0)
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    rng = np.random.default_rng(0)
    result = Finish(augment)(
        jittered(sample(32, 48, [[1, 2, 3, 4]], image=image), (32, 48), augment, rng), rng
    )
    np.testing.assert_array_equal(result.image, image)
    np.testing.assert_allclose(result.boxes, [[1, 2, 3, 4]], atol=1e-4)
    assert result.colour is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flip": 2}, r"augment.flip must lie in \[0, 1\], got 2"),
        ({"mosaic": -0.1}, "augment.mosaic"),
        ({"translate": 1}, "augment.translate"),
        ({"scale": (0, 1)}, "augment.scale"),
        ({"scale": (2, 1)}, "augment.scale"),
        ({"scale": (0.5, float("inf"))}, "augment.scale"),
        ({"brightness": 1.5}, "augment.brightness"),
        ({"hue": 5}, "augment.hue"),
        ({"close_mosaic": -3}, "augment.close_mosaic"),
    ],
)
def test_augment_refuses_values_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        Augment(**arguments)


# ----------------------------------------------------------------------------------------------- empties


def test_samples_without_boxes_pass_through_every_step():
    augment = Augment(flip=1, vertical_flip=1)
    rng = np.random.default_rng(0)
    for result in (
        letterbox(sample(), (32, 32)),
        jittered(sample(), (32, 32), augment, rng),
        mosaicked([sample()] * 4, (32, 32), augment, rng),
    ):
        finished = Finish(augment)(result, rng)
        assert finished.boxes.shape == finished.ignore_boxes.shape == (0, 4)
        assert finished.labels.shape == (0,)
        assert finished.labels.dtype == np.int64

from dataclasses import replace

import numpy as np
import pytest

from datamodules.batch import ImageInfo, Key, Sample
from datamodules.transforms import augment, geometry
from datamodules.transforms import mosaic as mosaic_module
from datamodules.transforms.augment import Augment, base_scale, jitter, show_scale
from datamodules.transforms.geometry import compose
from datamodules.transforms.mosaic import mixup, mosaic
from datamodules.transforms.plan import apply_plan, draw_plan

STILL = Augment(flip=0, scale=(1, 1), translate=0, mosaic=0, brightness=0, contrast=0, saturation=0, hue=0)
"""Nothing random at all."""


def noise(seed=0, height=120, width=160, boxes=(), original=None):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Sample(
        image=np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8),
        boxes=boxes,
        labels=np.full(len(boxes), seed),
        ignore_boxes=np.zeros((0, 4), dtype=np.float32),
        info=ImageInfo(seed, "", original or (height, width)),
    )


def sample(augment, batch, index=0, closed=False, size=(64, 64)):
    plan = draw_plan(augment, 0, Key(0, index, size), 0, len(batch), closed)
    return plan, apply_plan(plan, batch, augment)


# ------------------------------------------------------------------------------------------------ plans


@pytest.mark.parametrize("change", ["tile", "mixup", "copy_paste"])
def test_a_change_leaves_the_samples_that_it_does_not_touch(change):
    batch = [noise(k, boxes=[[40, 40, 60, 60]]) for k in range(4)]
    base = Augment(mosaic=0.5)
    half = replace(base, **{change: 0.5})
    same = [
        np.array_equal(sample(base, batch, i)[1].image, sample(half, batch, i)[1].image) for i in range(60)
    ]
    assert 15 < sum(same) < 45


def test_closing_ends_mosaic_mixup_and_copy_paste_but_not_tiles():
    everything = Augment(tile=1, mosaic=1, mixup=1, copy_paste=1)
    batch = [noise(k) for k in range(4)]
    plan, _ = sample(everything, batch)
    assert (plan.tile, len(plan.members)) == (True, 4)
    assert plan.paste
    assert plan.mixup
    closed, _ = sample(everything, batch, closed=True)
    assert (closed.tile, closed.members, closed.paste, closed.mixup) == (True, [0], None, None)


def test_partners_are_others_of_the_batch():
    everything = Augment(mixup=1, copy_paste=1)
    for count in (2, 5):
        plans = [draw_plan(everything, 0, Key(0, i, (64, 64)), 1, count, False) for i in range(40)]
        expected = set(range(count)) - {1}
        assert {plan.mixup.position for plan in plans} == expected
        assert {plan.paste.position for plan in plans} == expected
    alone = draw_plan(everything, 0, Key(0, 0, (64, 64)), 0, 1, False)
    assert (alone.mixup.position, alone.paste.position) == (0, 0)


def test_probabilities():
    augment = Augment(tile=0.2, mosaic=0.4, mixup=0.6, copy_paste=0.8)
    plans = [draw_plan(augment, 0, Key(0, i, (64, 64)), 0, 4, False) for i in range(500)]
    drawn = [(p.tile, len(p.members) == 4, p.mixup is not None, p.paste is not None) for p in plans]
    np.testing.assert_allclose(np.mean(drawn, axis=0), [0.2, 0.4, 0.6, 0.8], atol=0.06)
    assert np.abs(np.corrcoef(np.transpose(drawn)) - np.eye(4)).max() < 0.12  # independent


# ------------------------------------------------------------------------------------------------ tiles


def test_tile_is_a_window_of_the_original_pixels():
    image = noise()
    for seed in range(10):
        placement = jitter(image, (64, 64), STILL, np.random.default_rng(seed), tile=True)
        x1, y1, x2, y2 = placement.source
        assert placement.target == (0, 0, 64, 64)
        result = compose([image], [placement], (64, 64), 0.2)
        np.testing.assert_array_equal(result.image, image.image[y1:y2, x1:x2])


def test_scales():
    # 120 x 160 into 60 x 60 fits at 3/8, into 480 x 480 at 3: a tile is never smaller than the letterbox.
    assert base_scale((120, 160), (60, 60), tile=False) == 0.375
    assert base_scale((120, 160), (60, 60), tile=True) == 1
    assert base_scale((120, 160), (480, 480), tile=True) == 3
    # An image decoded at half its size is shown twice as large per pixel.
    assert show_scale(noise(original=(240, 320)), (60, 60), tile=True) == 2
    assert show_scale(noise(original=(240, 320)), (60, 60), tile=False) == 0.375
    # Nine rows decoded at an eighth are two, but the width tells that the image is an eighth.
    thin = noise(height=2, width=1000, original=(9, 8000))
    assert show_scale(thin, (640, 640), tile=False) == 0.64


def test_a_pixel_stays_whatever_the_shift():
    # Scaled to fit, the image is one row high: shifted by 0.95 of that it would round to none.
    thin = noise(height=1, width=700)
    augment = Augment(translate=0.95)
    for seed in range(200):
        x1, y1, x2, y2 = jitter(thin, (64, 96), augment, np.random.default_rng(seed)).target
        assert 0 <= x1 < x2 <= 96
        assert 0 <= y1 < y2 <= 64


def test_most_tiles_show_an_object():
    # One object of 4 x 4 in 400 x 400: a window of 64 x 64 anywhere would show it in about 4 % of the cases.
    image = noise(0, 400, 400, [[300, 100, 304, 104]])
    found = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        found += compose(
            [image], [jitter(image, (64, 64), STILL, rng, tile=True)], (64, 64), 0.2
        ).boxes.tolist()
    assert 0.7 < len(found) / 300 < 0.9  # four fifths, but some are cut away by the canvas's edge
    middles = (np.array(found)[:, :2] + np.array(found)[:, 2:]) / 2
    assert (middles.min(axis=0) < 10).all()  # anywhere on the canvas
    assert (middles.max(axis=0) > 54).all()


def test_each_quarter_of_a_mosaic_of_tiles_shows_an_object(monkeypatch):
    monkeypatch.setattr(augment, "FOCUSED", 1.0)
    batch = [noise(k, 400, 400, [[300, 100, 304, 104]]) for k in range(4)]
    for seed in range(20):
        placements = mosaic(batch, (64, 64), STILL, np.random.default_rng(seed), tile=True)
        assert all(placement.scale == (1, 1) for placement in placements)
        result = compose(batch, placements, (64, 64), 0)
        assert set(result.labels.tolist()) == {0, 1, 2, 3}


def test_objects_at_the_edge_of_a_tile_become_ignore_boxes():
    # Columns 10 to 74 show two of the object's ten columns: a fifth, less than 0.3.
    image = noise(0, 64, 200, [[72, 10, 82, 20]])
    placement = geometry.place((64, 200), 1.0, (0, 0, 64, 64), (-10, 0))
    result = compose([image], [placement], (64, 64), min_visibility=0.3)
    assert len(result.boxes) == 0
    assert result.ignore_boxes.tolist() == [[62, 10, 64, 20]]


# ------------------------------------------------------------------------------------------------ mixup


def test_mixup_blends_images_and_keeps_all_boxes(monkeypatch):
    first, second = noise(1, boxes=[[0, 0, 9, 9]]), noise(2, boxes=[[5, 5, 20, 20], [1, 2, 3, 4]])
    second.ignore_boxes = np.array([[30, 30, 40, 40]], dtype=np.float32)
    monkeypatch.setattr(mosaic_module, "FAINTEST", 0.5)
    result = mixup(first, second, np.random.default_rng(0))
    expected = (first.image.astype(float) + second.image) / 2
    assert np.abs(result.image - expected).max() <= 0.5
    np.testing.assert_array_equal(result.boxes, np.concatenate([first.boxes, second.boxes]))
    assert result.labels.tolist() == [1, 2, 2]
    np.testing.assert_array_equal(result.ignore_boxes, second.ignore_boxes)
    assert result.info.image_id == 1


def test_no_image_of_a_blend_is_faint():
    white, black = noise(), noise()
    white.image[:], black.image[:] = 200, 0
    shares = [mixup(white, black, np.random.default_rng(s)).image[0, 0, 0] / 200 for s in range(500)]
    assert min(shares) >= mosaic_module.FAINTEST - 0.01
    assert max(shares) <= 1 - mosaic_module.FAINTEST + 0.01
    assert abs(np.mean(shares) - 0.5) < 0.01
    assert 0.05 < np.std(shares) < 0.07


def test_carrying_out_leaves_the_images_of_the_batch_alone():
    # They are shared by all samples of the batch.
    batch = [noise(k, boxes=[[40, 40, 60, 60]]) for k in range(4)]
    before = [image.image.copy() for image in batch]
    everything = Augment(tile=0.5, mosaic=0.5, mixup=1, copy_paste=1)
    for index in range(10):
        sample(everything, batch, index)
    for image, old in zip(batch, before, strict=True):
        np.testing.assert_array_equal(image.image, old)

"""Batches of one shape, and of another size each."""

import numpy as np
import pytest
from sampler_cases import RECTANGULAR, SHAPE_OF, THREE_SHAPES, batched, keys, record

from datamodules.loading.samplers import (
    Sampling,
    canvases,
)

# ------------------------------------------------------------------------------------ rectangular batches


def test_canvases_by_hand():
    sizes = np.array([[500, 500], [1080, 1920], [1920, 1080], [765, 1360]])
    # 640 sqrt(9/16) = 480 and 640^2 / 480 = 853, 26.7 strides: 864.
    assert canvases(sizes, 640**2).tolist() == [[640, 640], [480, 864], [864, 480], [480, 864]]
    # Aspects beyond one row of cells: as many as the area has.
    assert canvases(np.array([[1, 1000], [1000, 1]]), 96**2).tolist() == [[32, 288], [288, 32]]
    # VisDrone's own canvas stays.
    assert canvases(np.array([[1080, 1920]]), 640 * 1088).tolist() == [[640, 1088]]


def rectangular_epoch(epoch, batch_size=4):
    found = keys(THREE_SHAPES, batch_size, 0, size=(128, 128), epoch=epoch, sampling=RECTANGULAR)
    return batched(found, batch_size)


def test_batches_are_of_one_shape_but_for_those_at_the_borders():
    # 40 images in 10 batches, three shapes in a row: at most two batches hold two shapes.
    for epoch in range(5):
        batches = rectangular_epoch(epoch)
        assert len(batches) == 10
        assert sorted(key.index for batch in batches for key in batch) == list(range(40))  # none left over
        shapes = [{SHAPE_OF[key.index] for key in batch} for batch in batches]
        assert sum(len(shape) > 1 for shape in shapes) <= 2
        for batch, shape in zip(batches, shapes, strict=True):
            # 128 sqrt(9/16) = 96, 128^2 / 96 = 171: 160.
            fitting = {0: (128, 128), 1: (96, 160), 2: (160, 96)}
            assert batch[0].size in {fitting[one] for one in shape}


def test_neighbours_and_the_order_of_shapes_change_with_the_epoch():
    first, second = rectangular_epoch(0), rectangular_epoch(1)
    assert [batch[0].size for batch in first] != [batch[0].size for batch in second]
    meetings = [{frozenset(key.index for key in batch) for batch in epoch} for epoch in (first, second)]
    assert len(meetings[0] & meetings[1]) <= 1
    sizes = [batch[0].size for batch in first]
    assert sizes != sorted(sizes)


@pytest.mark.parametrize(("squares", "canvas"), [(1, (96, 160)), (3, (128, 128))])
def test_a_batch_takes_the_canvas_of_most_of_its_images(squares, canvas):
    images = [record(size=(100, 100))] * squares + [record(size=(90, 160))] * (4 - squares)
    (batch,) = batched(keys(images, 4, 0, size=(128, 128), sampling=RECTANGULAR), 4)
    assert {key.size for key in batch} == {canvas}


# -------------------------------------------------------------------------------------------- multi-scale


def test_scales_vary_from_batch_to_batch_within_their_range():
    found = keys(400, 2, 0, size=(256, 384), sampling=Sampling(multi_scale=(0.5, 2)))
    sizes = [batch[0].size for batch in batched(found, 2)]
    heights, widths = np.array(sizes).T
    # 200 log-uniform draws: as many below as above 1; rounding is to 32 of 256.
    assert heights.min() == 128
    assert heights.max() == 512
    assert 70 < (heights < 256).sum() < 115
    assert (abs(widths - 1.5 * heights) <= 16 * 1.5 + 16).all()


def test_a_scale_of_one_keeps_a_canvas_of_whole_strides():
    plain, scaled = (keys(20, 4, 0, size=(96, 128), sampling=Sampling(multi_scale=m)) for m in (None, (1, 1)))
    assert plain == scaled


def test_rectangular_canvases_are_scaled_too():
    found = keys(THREE_SHAPES, 4, 0, size=(256, 256), sampling=Sampling(rectangular=True, multi_scale=(2, 2)))
    # 256 sqrt(9/16) = 192, 256^2 / 192 = 341: 352; both doubled.
    assert {key.size for key in found} == {(512, 512), (384, 704), (704, 384)}

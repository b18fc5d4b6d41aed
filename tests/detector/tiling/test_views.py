"""Geometry of views: nothing left out, overlaps kept, boxes mapped back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.images.windows import Decoded
from datamodules.transforms.geometry import letterbox
from detector.tiling.views import Tiling, View, scaled_canvas, starts, tile_shape


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 800), st.floats(0, 0.9))
def test_an_axis_is_covered_evenly_with_as_few_tiles_as_can_be(length: int, tile: int, overlap: float):
    begins = starts(length, tile, overlap)
    assert begins[0] == 0
    assert length <= tile or begins[-1] == length - tile
    steps = np.diff(begins)
    assert (steps > 0).all()
    if len(begins) > 1:
        # Up to a pixel: the overlap asked for, and one tile fewer would not have it.
        assert steps.max() <= max(tile * (1 - overlap), 1) + 1
        fewer = (length - tile) / max(len(begins) - 2, 1)
        assert len(begins) == 2 or fewer > tile * (1 - overlap) - 1e-9


def test_a_tile_has_the_shape_of_the_input():
    assert tile_shape(640, (256, 320)) == (512, 640)
    assert tile_shape(640, (640, 320)) == (640, 320)
    assert tile_shape(1, (32, 640)) == (1, 1)


def test_views_by_hand():
    tiling = Tiling(tile=(80, 200), overlap=0.25, whole=True)
    # Small tiles 80x40: along x 0, 50 (60 would leave more than a quarter); along y 0, 20. Large: all of it.
    expected = [(0, 0, 80, 40), (50, 0, 130, 40), (0, 20, 80, 60), (50, 20, 130, 60), (0, 0, 130, 60)]
    assert [view.window for view in tiling.views((60, 130), (32, 64))] == expected
    assert not any(view.flipped for view in tiling.views((60, 130), (32, 64)))


def test_scales_and_flips_show_each_window_again():
    views = Tiling(scales=(1, 1.6, 1.61), flip=True).views((60, 130), (64, 96))
    assert [(view.canvas, view.flipped) for view in views] == [
        ((64, 96), False),
        ((64, 96), True),
        ((96, 160), False),
        ((96, 160), True),
    ]
    assert {view.window for view in views} == {(0, 0, 130, 60)}
    assert scaled_canvas((65, 97), 1) == (65, 97)


@pytest.mark.parametrize("size", [(30, 50), (64, 96), (200, 90)])
def test_an_image_that_one_tile_holds_is_a_letterboxed_one(size: tuple[int, int]):
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    (view,) = Tiling(tile=300).views(size, (64, 96))
    canvas = np.full((64, 96, 3), 127, np.uint8)
    view.draw(Decoded(pixels), canvas)
    assert (canvas == letterbox(sample(pixels), (64, 96)).image).all()


def sample(pixels: np.ndarray):
    from datamodules.batch import ImageInfo, Sample

    empty = np.empty((0, 4), np.float32)
    info = ImageInfo(0, "", pixels.shape[:2])
    return Sample(pixels, empty, np.empty(0, np.int64), empty, info)


@pytest.mark.parametrize("flipped", [False, True])
def test_boxes_come_back_to_where_they_were(flipped: bool):
    image = np.zeros((100, 200, 3), np.uint8)
    image[20:40, 110:140] = 255
    view = View((100, 0, 180, 80), (40, 60), flipped)
    canvas = np.full((40, 60, 3), 9, np.uint8)
    view.draw(Decoded(image), canvas)
    ys, xs = np.nonzero(canvas[..., 0] > 127)
    # The window is 80x80, at half its size in the middle of 60x40.
    expected = (60 - 30, 10, 60 - 15, 20) if flipped else (15, 10, 30, 20)
    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == expected
    boxes = view.to_image(torch.tensor([[float(edge) for edge in expected], [-9, -9, 99, 99]]))
    assert boxes.tolist() == [[110, 20, 140, 40], [100, 0, 180, 80]]
    assert view.to_image(torch.empty(0, 4)).shape == (0, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 0}, "a tile must be at least one pixel, got 0"),
        ({"tile": -640}, "at least one pixel, got -640"),
        ({"tile": (640, 0)}, "at least one pixel"),
        ({"tile": "640"}, r"whole pixels, or a list of them, got '640'"),
        ({"tile": 640.0}, "whole pixels"),
        ({"tile": True}, "whole pixels"),
        ({"overlap": 1.0}, r"must lie in \[0, 1\), got 1"),
        ({"overlap": -0.1}, r"must lie in \[0, 1\), got -0.1"),
        ({"overlap": float("nan")}, "got nan"),
        ({"scales": ()}, "numbers above 0"),
        ({"scales": (1, -2)}, "numbers above 0"),
        ({"scales": 1.5}, r"a list of numbers above 0, got 1\.5"),
        ({"merge": "soft"}, "nmm, nms, wbf, got 'soft'"),
    ],
)
def test_options_out_of_range(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Tiling(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": (100,)}, "64000x51200 px, which does not fit in memory"),
        ({"tile": 640, "overlap": 0.999}, "use larger tiles or less overlap"),
        ({"tile": 1}, "tiles of 1 px .* are 400000000 for an image of 20000x20000 px"),
    ],
)
def test_more_than_fits_in_memory(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Tiling(**options).views((20_000, 20_000), (512, 640))


def test_a_tile_of_any_size_is_the_whole_image():
    (view,) = Tiling(tile=10**12).views((20_000, 20_000), (512, 640))
    assert view == View((0, 0, 20_000, 20_000), (512, 640))

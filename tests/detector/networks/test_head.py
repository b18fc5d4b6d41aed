import pytest
import torch

from detector.networks.head import MIN_SIDE, Head, Predictions, decode, grid_points

BINS = torch.arange(-2.0, 14.0)


def certain(*distances: float) -> torch.Tensor:
    """Logits of four distributions that are all but certain of these whole distances."""
    logits = torch.full((4, len(BINS)), -100.0)
    for side, distance in enumerate(distances):
        logits[side, int(distance) + 2] = 100.0
    return logits


def test_points_are_row_major_from_half_a_stride() -> None:
    points, strides = grid_points([(1, 2), (1, 1)], [8, 16], torch.device("cpu"))
    # Level 8: two cells in a row, centres (4, 4) and (12, 4); level 16: one cell, centre (8, 8).
    assert points.tolist() == [[4, 4], [12, 4], [8, 8]]
    assert strides.tolist() == [8, 8, 16]


def test_distances_are_strides_from_the_point_in_the_order_left_top_right_bottom() -> None:
    box = decode(certain(1, 2, 3, 0), BINS, torch.tensor([20.0, 20.0]), torch.tensor(8.0))
    assert box.tolist() == [12, 4, 44, 20]  # 20 - 8, 20 - 16, 20 + 24, 20 + 0


def test_a_point_outside_reaches_a_small_box() -> None:
    # left -1: the box begins one stride right of the point, and ends two strides right of it.
    box = decode(certain(-1, 1, 2, 1), BINS, torch.tensor([20.0, 20.0]), torch.tensor(8.0))
    assert box.tolist() == [28, 12, 36, 28]


def test_sides_stay_positive_whatever_the_distances() -> None:
    box = decode(certain(-2, -2, -2, -2), BINS, torch.tensor([20.0, 20.0]), torch.tensor(8.0))
    torch.testing.assert_close(box[2:] - box[:2], torch.full((2,), MIN_SIDE * 8))


def test_boxes_are_decoded_in_float32_under_autocast() -> None:
    # At 1000 px bfloat16 knows steps of 4 px only.
    distances, points = certain(1, 1, 1, 1), torch.tensor([1001.0, 1001.0])
    with torch.autocast("cpu", torch.bfloat16):
        box = decode(distances.bfloat16(), BINS, points, torch.tensor(8.0))
    assert box.dtype == torch.float32
    assert box.tolist() == [993, 993, 1009, 1009]


def test_decoding_selected_points_equals_decoding_all() -> None:
    points, strides = grid_points([(2, 3), (1, 2)], [8, 16], torch.device("cpu"))
    predictions = Predictions(torch.zeros(2, 8, 1), torch.randn(2, 8, 4, len(BINS)), points, strides, BINS)
    index = torch.tensor([0, 5, 7, 8, 15])
    torch.testing.assert_close(predictions.decode(index), predictions.boxes().flatten(0, 1)[index])


@pytest.mark.parametrize("image_size", [(64, 96), (256, 320)])
def test_class_scores_start_at_the_expected_objects(image_size: tuple[int, int]) -> None:
    head = Head(16, (8, 16, 32), num_classes=5, channels=16, reg_max=13)
    head.initialise(image_size, expected_objects=12)
    maps = [torch.randn(4, 16, image_size[0] // s, image_size[1] // s) for s in (8, 16, 32)]
    scores = head.eval()(maps).logits.sigmoid().sum((1, 2)).mean()
    # 12 objects expected; the small random weights move single scores, hardly their sum. A level with
    # few points is capped at a probability of 0.1.
    assert 0.6 * 12 < scores < 1.4 * 12


def test_distances_start_near_one_stride() -> None:
    head = Head(16, (8, 16), num_classes=1, channels=16, reg_max=13)
    head.initialise((64, 64), expected_objects=4)
    predictions = head.eval()([torch.randn(1, 16, 8, 8), torch.randn(1, 16, 4, 4)])
    sides = (predictions.boxes()[..., 2:] - predictions.boxes()[..., :2]) / predictions.strides[:, None]
    assert (sides - 2).abs().max() < 0.3  # one stride to each side


def test_coordinates_keep_level_and_image_apart() -> None:
    # A bump on one cell of one level of one image changes that point alone, where its logits are.
    head = Head(4, (8, 16), num_classes=2, channels=4, reg_max=3).eval()
    maps = [torch.zeros(2, 4, 2, 3), torch.zeros(2, 4, 1, 2)]
    before = head(maps)
    maps[1][1, :, 0, 1] = 5.0
    after = head(maps)
    changed = (before.distances != after.distances).flatten(2).any(-1)
    assert not changed[0].any()
    assert not changed[1, :6].any()  # the six points of the finer level
    assert changed[1, 7]

import math

import pytest
import torch
from torchvision.ops import batched_nms, box_iou

from detector.postprocess import Detections, Postprocess, postprocess, soften, suppress


def logit(*probabilities):
    return torch.logit(torch.tensor(probabilities))


def overlap(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def plain_postprocess(logits, boxes, score_threshold, pre_nms, nms_iou, max_detections):
    """The reference for one image: python lists and loops."""
    candidates = [
        (score, label, box)
        for scores, box in zip(logits.sigmoid().tolist(), boxes.tolist(), strict=True)
        for label, score in enumerate(scores)
        if score > score_threshold
    ]
    candidates = sorted(candidates, key=lambda candidate: -candidate[0])[:pre_nms]
    kept = []
    for score, label, box in candidates:
        if all(label != other or overlap(box, better) <= nms_iou for _, other, better in kept):
            kept.append((score, label, box))
    return kept[:max_detections]


def random_predictions(seed, images=1, points=150, classes=3, extent=60.0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, points, 2, generator=generator) * extent - 10  # some beyond the image
    side = torch.rand(images, points, 2, generator=generator) * 12 + 8
    logits = torch.randn(images, points, classes, generator=generator) * 3 - 3
    return logits, torch.cat((corner, corner + side), -1)


def assert_equal(one, other):
    assert torch.equal(one.boxes, other.boxes)
    assert torch.equal(one.scores, other.scores)
    assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "limits", [(0.001, 5000, 0.6, 500), (0.001, 120, 0.3, 500), (0.2, 5000, 0.6, 500), (0.001, 5000, 0.5, 20)]
)
def test_equals_plain_loops(seed, limits):
    logits, boxes = random_predictions(seed)
    (found,) = postprocess(logits, boxes, *limits)
    expected = plain_postprocess(logits[0], boxes[0], *limits)
    assert found.labels.tolist() == [label for _, label, _ in expected]
    assert found.scores.tolist() == [score for score, _, _ in expected]
    assert found.boxes.tolist() == [box for _, _, box in expected]


def test_by_hand():
    # 10 x 10 boxes at x = 0, 1, 4. The second is best. The first, shifted by 1, has IoU 90/110 = 0.82 with it
    # and goes; the third, shifted by 3, has 70/130 = 0.54 and stays.
    boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 0, 11, 10], [4, 0, 14, 10]]])
    (found,) = postprocess(logit(0.5, 0.75, 0.25)[None, :, None], boxes)
    assert found.boxes.tolist() == [[1, 0, 11, 10], [4, 0, 14, 10]]
    torch.testing.assert_close(found.scores, torch.tensor([0.75, 0.25]))
    assert found.labels.tolist() == [0, 0]


def test_classes_do_not_suppress_each_other():
    box = torch.tensor([[[0.0, 0, 10, 10]]])
    (found,) = postprocess(logit(0.5, 0.75, 0.0005)[None, None], box)
    assert found.labels.tolist() == [1, 0]  # class 2 is below the threshold


def test_classes_do_not_suppress_each_other_beyond_the_image():
    # torchvision's batched_nms shifts class 1 by the largest coordinate + 1 = 10: the second box would land
    # on the first.
    boxes = torch.tensor([[[0.0, 0, 9, 9], [-10, -10, -1, -1]]])
    logits = torch.tensor([[[1.0, -20], [-20, 0.0]]])
    assert len(batched_nms(boxes[0], torch.tensor([0.7, 0.5]), torch.tensor([0, 1]), 0.6)) == 1
    assert postprocess(logits, boxes)[0].labels.tolist() == [0, 1]


def test_many_classes_far_from_the_origin_are_exact():
    # An offset of 79 * 4001 px in float32 rounds coordinates to 1/32 px. 4 x 10 px boxes shifted by 1.01 px:
    # IoU = 2.99 / 5.01 = 0.597, below 0.6; rounded to 1 px it would be 3 / 5, to 31/32 px 0.61.
    left = torch.tensor([3800.0, 3801.01])
    boxes = torch.stack((left, left * 0 + 3990, left + 4, left * 0 + 4000), 1)
    labels = torch.tensor([79, 79])
    assert len(batched_nms(boxes, torch.tensor([0.7, 0.5]), labels, 0.5995)) == 1
    logits = torch.full((1, 2, 80), -20.0)
    logits[0, :, 79] = torch.tensor([1.0, 0])
    assert len(postprocess(logits, boxes[None], nms_iou=0.5995)[0]) == 2


def test_ties_go_to_the_lower_point_then_class():
    apart = torch.arange(40.0)[:, None] * 20 + torch.tensor([0.0, 0, 10, 10])
    logits = torch.zeros(1, 40, 2)
    logits[0, 30, 1] = 1.0
    (found,) = postprocess(logits, apart[None], pre_nms=12)
    assert torch.equal(found.boxes, torch.cat((apart[30:31], apart.repeat_interleave(2, 0)[:11])))
    assert found.labels.tolist() == [1] + [0, 1] * 5 + [0]


def test_threshold_is_strict():
    boxes = torch.tensor([[[0.0, 0, 10, 10]]])
    assert len(postprocess(torch.zeros(1, 1, 1), boxes, score_threshold=0.5)[0]) == 0
    assert len(postprocess(torch.zeros(1, 1, 1), boxes, score_threshold=0.499)[0]) == 1


def test_no_candidate():
    found = postprocess(torch.full((2, 5, 3), -20.0), torch.rand(2, 5, 4))
    assert len(found) == 2
    for one in found:
        assert one.boxes.shape == (0, 4)
        assert one.scores.shape == one.labels.shape == (0,)
        assert one.labels.dtype == torch.int64


def test_not_finite_predictions_are_no_candidates():
    logits, boxes = torch.tensor([[[float("nan")], [0.0]]]), torch.tensor([[[0.0, 0, 10, 10]] * 2])
    assert len(postprocess(logits, boxes)[0]) == 1


def test_batched_equals_one_by_one():
    logits, boxes = random_predictions(0, images=4)
    logits[2] = -20  # an image without any candidate
    for b, one in enumerate(postprocess(logits, boxes)):
        assert_equal(one, postprocess(logits[b : b + 1], boxes[b : b + 1])[0])


def test_half_precision_logits_give_float32_scores():
    logits, boxes = random_predictions(1)
    (found,) = postprocess(logits.bfloat16(), boxes)
    assert found.scores.dtype == found.boxes.dtype == torch.float32
    assert_equal(found, postprocess(logits.bfloat16().float(), boxes)[0])


def overlapping() -> Detections:
    """Three boxes in a row, each half over the next, and one apart; the second is of another class."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [2, 0, 12, 10], [50, 0, 60, 10]])
    return Detections(boxes, torch.tensor([0.9, 0.8, 0.6, 0.5]), torch.tensor([0, 1, 0, 0]))


def test_suppression_of_suppressed_ones_changes_nothing():
    logits, boxes = random_predictions(3)
    (found,) = postprocess(logits, boxes)
    assert_equal(suppress(found), found)


def test_classes_suppress_each_other_if_they_are_told_to():
    # IoU 1/3 of the first two, 2/3 of first and third, 7/13 of second and third.
    assert suppress(overlapping(), 0.3).boxes[:, 0].tolist() == [0, 5, 50]
    assert suppress(overlapping(), 0.3, class_agnostic=True).boxes[:, 0].tolist() == [0, 50]
    assert suppress(overlapping(), 0.3, 1, class_agnostic=True).boxes[:, 0].tolist() == [0]


def test_soft_suppression_by_hand():
    found = soften(overlapping(), 0.001)
    assert found.boxes[:, 0].tolist() == [0, 5, 50, 2]
    assert found.labels.tolist() == [0, 1, 0, 0]
    weakened = 0.6 * math.exp(-((2 / 3) ** 2) / 0.5)
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8, 0.5, weakened]))
    every = soften(overlapping(), 0.001, class_agnostic=True)
    second = 0.8 * math.exp(-((1 / 3) ** 2) / 0.5)
    third = weakened * math.exp(-((7 / 13) ** 2) / 0.5)
    torch.testing.assert_close(every.scores, torch.tensor([0.9, second, 0.5, third]))
    assert len(soften(overlapping(), 0.3)) == 3
    assert len(soften(overlapping(), 0.001, 2)) == 2


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_soft_suppression_equals_plain_loops(class_agnostic):
    logits, boxes = random_predictions(5)
    (found,) = postprocess(logits, boxes, suppression="soft", class_agnostic=class_agnostic, pre_nms=60)
    scores = logits[0].sigmoid()
    left = sorted(
        ([float(s), p, c] for p, row in enumerate(scores) for c, s in enumerate(row) if s > 0.001),
        key=lambda one: -one[0],
    )[:60]
    expected = []
    while left and max(one[0] for one in left) > 0.001:
        best = max(left, key=lambda one: one[0])
        left.remove(best)
        expected.append(best)
        for one in left:
            if class_agnostic or one[2] == best[2]:
                iou = float(box_iou(boxes[0, [best[1]]], boxes[0, [one[1]]]))
                one[0] *= math.exp(-(iou**2) / 0.5)
    torch.testing.assert_close(found.scores, torch.tensor([one[0] for one in expected]), rtol=1e-4, atol=1e-6)
    assert found.labels.tolist() == [one[2] for one in expected]


def test_soft_suppression_of_nothing():
    (found,) = postprocess(torch.full((1, 7, 2), -20.0), torch.zeros(1, 7, 4), suppression="soft")
    assert found.boxes.shape == (0, 4)
    assert found.labels.dtype == torch.int64


@pytest.mark.parametrize(
    "limit", [{"score_threshold": 0.2}, {"pre_nms": 50}, {"nms_iou": 0.3}, {"max_detections": 30}]
)
def test_class_passes_its_parameters(limit):
    logits, boxes = random_predictions(2)
    (whole,) = postprocess(logits, boxes)
    assert_equal(Postprocess()(logits, boxes)[0], whole)
    (found,) = Postprocess(**limit)(logits, boxes)
    assert len(found) < len(whole)
    assert_equal(found, postprocess(logits, boxes, **limit)[0])


@pytest.mark.parametrize(
    ("option", "value"), [("nms_iou", 60), ("score_threshold", 2), ("score_threshold", -1)]
)
def test_shares_are_no_percentages(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"postprocess.{option} must be 0 to"):
        Postprocess(**{option: value})

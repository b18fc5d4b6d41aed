import pytest
import torch
from assigner_cases import as_dict, assert_same, dense_assign, make_batch, one_level, pyramid
from waiting import NoWaiting

from detector import assigner as assigner_module
from detector.assigner import (
    TaskAlignedAssigner,
    assignment_statistics,
    find_levels,
    points_in_boxes,
)
from detector.networks.head import Level

# --- against the dense reference ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(200))
def test_equals_dense_reference(seed):
    counts = torch.randint(0, 25, (3,), generator=torch.Generator().manual_seed(seed)).tolist()
    strides = [(8, 16, 32), (4, 8, 16, 32), (8,), (16, 32)][seed % 4]
    batch = make_batch(seed, counts, strides=strides)
    topk = (10, 1, 3)[seed % 3]
    min_side = (None, 0.0, 5.0)[seed // 4 % 3]
    found = TaskAlignedAssigner(topk=topk, min_side=min_side)(*batch)
    assert_same(as_dict(found), dense_assign(*batch, topk=topk, min_side=min_side))


@pytest.mark.parametrize("seed", range(4))
def test_equals_dense_reference_crowded(seed):
    batch = make_batch(seed, [400, 0, 250], size=(256, 320), sides=(3, 40))
    expected = dense_assign(*batch)
    assert_same(as_dict(TaskAlignedAssigner()(*batch)), expected)
    assert len({g for _, g in expected}) > 300  # the batch is no empty exercise


def test_points_ascend_and_are_unique():
    found = TaskAlignedAssigner()(*make_batch(0, [40, 40]))
    assert (found.point.diff() > 0).all()
    assert found.score.dtype == torch.float32
    assert found.score.min() > 0
    assert found.score.max() <= 1


# --- the rules, on boxes solved by hand -------------------------------------------------------------


def test_target_score_by_hand():
    # One object [0,32]x[0,8]; all four points are inside. Every prediction has the object's centre and
    # aspect, scaled: CIoU = IoU = scale^2. Scales 1, 1/sqrt 2 -> u = 1, 0.5; t = score^0.5 * u^6.
    half = 2**-0.5
    whole, small = [0, 0, 32, 8], [16 - 16 * half, 4 - 4 * half, 16 + 16 * half, 4 + 4 * half]
    arguments = one_level([0.25, 1.0, 0.0, 0.04], [whole, small, whole, whole], [whole])
    found = TaskAlignedAssigner()(*arguments)
    # t = 0.5, 1/64, 0 (no candidate), 0.2; max u 1, max t 0.5 -> target = 2 t
    assert found.point.tolist() == [0, 1, 3]
    torch.testing.assert_close(found.score, torch.tensor([1.0, 1 / 32, 0.4]), rtol=1e-4, atol=0)


def test_score_of_the_objects_class_counts():
    whole = [0, 0, 32, 8]
    scores = [[0.9, 0.1], [0.1, 0.9], [0.1, 0.8], [0.8, 0.1]]
    assert TaskAlignedAssigner(topk=2)(*one_level(scores, [whole] * 4, [whole], [1])).point.tolist() == [1, 2]


def test_points_on_the_edge_are_outside():
    # Points x = 4 12 20 28: the box from 4 to 20 has only 12 strictly inside.
    box = [4, 0, 20, 8]
    assert TaskAlignedAssigner()(*one_level([0.5] * 4, [box] * 4, [box])).point.tolist() == [1]


def test_ties_go_to_the_lower_point():
    whole = [0, 0, 32, 8]
    assert TaskAlignedAssigner(topk=2)(*one_level([0.5] * 4, [whole] * 4, [whole])).point.tolist() == [0, 1]


def test_ties_go_to_the_lower_object():
    whole = [0, 0, 32, 8]
    found = TaskAlignedAssigner()(*one_level([0.5] * 4, [whole] * 4, [whole, whole]))
    assert found.object.tolist() == [0, 0, 0, 0]


def test_contested_point_goes_to_the_highest_overlap_among_those_that_selected_it():
    # Both objects hold point 1 (x = 12). Its prediction is object 1 exactly: object 1 takes it, although
    # object 0 aligns better by score. Object 0 keeps point 0.
    first, second = [0, 0, 16, 8], [8, 0, 24, 8]
    scores = [[0.5, 0.5], [1.0, 0.01], [0.0, 0.0], [0.0, 0.0]]
    boxes = [first, second, second, second]
    found = TaskAlignedAssigner()(*one_level(scores, boxes, [first, second], [0, 1]))
    assert as_dict(found) == pytest.approx({(0, 0): 1.0, (1, 1): 1.0}, abs=1e-5)


def test_object_that_did_not_select_a_point_does_not_claim_it():
    # With topk 1, the outer object selects point 0 (score 1), the inner one point 1, whose prediction is
    # the outer object's box: had unselected claims counted, point 1 would go to the outer.
    outer, inner = [0, 0, 32, 8], [8, 0, 24, 8]
    scores = [[1.0, 0.0], [0.5, 0.5], [0.0, 0.0], [0.0, 0.0]]
    found = TaskAlignedAssigner(topk=1)(*one_level(scores, [outer] * 4, [outer, inner], [0, 1]))
    assert list(as_dict(found)) == [(0, 0), (1, 1)]


def test_target_scores_are_scaled_by_final_positives():
    # Object 0 loses point 1, its best, to the identical-looking object 1: its remaining positive, point 0,
    # gets the whole u of that positive (0.5 by scale), not a share of what was lost.
    half = 2**-0.5
    first = [0, 0, 16, 8]
    small = [8 - 8 * half, 4 - 4 * half, 8 + 8 * half, 4 + 4 * half]
    second = [4.5, 0, 20, 8]  # holds point 1, not point 0 (on x = 4)
    arguments = one_level(
        [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]],
        [small, second, second, second],
        [first, second],
        [0, 1],
    )
    found = as_dict(TaskAlignedAssigner()(*arguments))
    assert found == pytest.approx({(0, 0): 0.5, (1, 1): 1.0}, abs=1e-4)


def test_candidate_needs_positive_alignment():
    whole = [0, 0, 32, 8]
    far = [100, 100, 110, 110]
    found = TaskAlignedAssigner()(*one_level([0.5, 0.0, 0.5, 0.5], [whole, whole, far, far], [whole]))
    assert found.point.tolist() == [0]


@pytest.mark.parametrize("min_side", [None, 0.0])
def test_widening_gives_small_objects_candidates(min_side):
    # 2 px objects on strides 8, 16, 32, at every pixel of a 32 x 32 cell. Widened to 16 px each holds a
    # point of stride 8. As they are, a box of integer corners [x, x + 2] strictly holds a point only if the
    # point is (x + 1, y + 1): there are 16 points of stride 8, and 4 and 1 others of strides 16 and 32 (on
    # multiples of 8, where stride 8 with 4 + 8 i has none): 21 of 1024 objects.
    points, strides = pyramid(64, 64)
    corner = torch.cartesian_prod(torch.arange(32.0), torch.arange(32.0))
    gt_boxes = torch.cat((corner, corner + 2), 1)
    held = 0
    for box in gt_boxes:
        prediction = box.expand(1, len(points), 4)
        found = TaskAlignedAssigner(min_side=min_side)(
            torch.ones(1, len(points), 1),
            prediction,
            points,
            strides,
            box[None],
            torch.zeros(1, dtype=torch.int64),
            torch.zeros(1, dtype=torch.int64),
        )
        held += len(found.point) > 0
    assert held == (1024 if min_side is None else 21)


def test_min_side_defaults_to_the_second_stride_or_the_only_one():
    batch = make_batch(5, [30], sides=(1, 6))
    assert as_dict(TaskAlignedAssigner()(*batch)) == as_dict(TaskAlignedAssigner(min_side=16)(*batch))
    assert as_dict(TaskAlignedAssigner()(*batch)) != as_dict(TaskAlignedAssigner(min_side=8)(*batch))
    batch = make_batch(5, [30], strides=(8,), sides=(1, 6))
    assert as_dict(TaskAlignedAssigner()(*batch)) == as_dict(TaskAlignedAssigner(min_side=8)(*batch))
    assert as_dict(TaskAlignedAssigner()(*batch)) != as_dict(TaskAlignedAssigner(min_side=16)(*batch))


# --- independence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_order_of_objects_is_irrelevant(seed):
    scores, boxes, points, strides, gt_boxes, gt_labels, image_index = make_batch(seed, [40, 60])
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat((torch.randperm(40, generator=generator), 40 + torch.randperm(60, generator=generator)))
    straight = TaskAlignedAssigner()(scores, boxes, points, strides, gt_boxes, gt_labels, image_index)
    shuffled = TaskAlignedAssigner()(
        scores, boxes, points, strides, gt_boxes[order], gt_labels[order], image_index[order]
    )
    assert torch.equal(shuffled.point, straight.point)
    assert torch.equal(order[shuffled.object], straight.object)
    torch.testing.assert_close(shuffled.score, straight.score, rtol=0, atol=1e-6)


def test_batched_equals_one_by_one():
    counts = [30, 0, 45, 1]
    scores, boxes, points, strides, gt_boxes, gt_labels, image_index = make_batch(1, counts)
    together = as_dict(
        TaskAlignedAssigner()(scores, boxes, points, strides, gt_boxes, gt_labels, image_index)
    )
    apart = {}
    for b in range(len(counts)):
        mine = (image_index == b).nonzero().squeeze(1)
        alone = TaskAlignedAssigner()(
            scores[b : b + 1], boxes[b : b + 1], points, strides, gt_boxes[mine], gt_labels[mine], mine * 0
        )
        for (point, g), score in as_dict(alone).items():
            apart[b * len(points) + point, mine[g].item()] = score
    assert together == apart


def test_empty_images_around_change_nothing():
    scores, boxes, points, strides, gt_boxes, gt_labels, image_index = make_batch(2, [50])
    alone = TaskAlignedAssigner()(scores, boxes, points, strides, gt_boxes, gt_labels, image_index)
    padded = TaskAlignedAssigner()(
        scores.expand(3, -1, -1),
        boxes.expand(3, -1, -1),
        points,
        strides,
        gt_boxes,
        gt_labels,
        image_index + 1,
    )
    assert torch.equal(padded.point, alone.point + len(points))
    assert torch.equal(padded.object, alone.object)
    assert torch.equal(padded.score, alone.score)


# --- empties and odd input ----------------------------------------------------------------------------


def test_no_object_at_all():
    found = TaskAlignedAssigner()(*make_batch(0, [0, 0]))
    assert found.point.shape == found.object.shape == found.score.shape == (0,)
    assert found.point.dtype == found.object.dtype == torch.int64
    assert found.score.dtype == torch.float32


def test_no_prediction_overlaps():
    scores, boxes, *rest = make_batch(0, [20, 20])
    found = TaskAlignedAssigner()(scores, boxes + 1000, *rest)
    assert found.point.shape == (0,)
    statistics = assignment_statistics(found, rest[2])
    assert torch.equal(statistics["unassigned"], statistics["objects"])


def test_object_outside_the_image_has_no_candidate():
    scores, boxes, points, strides, *_ = make_batch(0, [1])
    gt_boxes = torch.tensor([[-50.0, -50, -20, -20], [400, 400, 450, 450], [-1e9, 20, -1e8, 40]])
    zero = torch.zeros(3, dtype=torch.int64)
    found = TaskAlignedAssigner()(
        scores, gt_boxes[:1].expand_as(boxes), points, strides, gt_boxes, zero, zero
    )
    assert found.point.shape == (0,)


def test_degenerate_boxes_disturb_nobody():
    scores, boxes, points, strides, gt_boxes, gt_labels, image_index = make_batch(3, [20])
    flat = torch.tensor([[40.0, 40, 40, 40], [40, 40, 60, 40], [60, 60, 40, 40]])
    boxes[0, 10:20, 2:] = boxes[0, 10:20, :2]
    boxes[0, 20:30] = float("nan")
    batch = (scores, boxes, points, strides, torch.cat((gt_boxes, flat)),
             torch.cat((gt_labels, gt_labels[:3])), torch.cat((image_index, image_index[:3])))  # fmt: skip
    found = TaskAlignedAssigner()(*batch)
    assert found.score.isfinite().all()
    assert found.object.max() < 20
    alone = TaskAlignedAssigner()(scores, boxes, points, strides, gt_boxes, gt_labels, image_index)
    assert as_dict(found) == as_dict(alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_scores(dtype):
    scores, *rest = make_batch(4, [60])
    scores = scores.to(dtype)
    found = TaskAlignedAssigner()(scores, *rest)
    assert found.score.dtype == torch.float32
    assert as_dict(found) == as_dict(TaskAlignedAssigner()(scores.float(), *rest))


def test_gives_no_gradient():
    scores, boxes, *rest = make_batch(4, [10])
    assert not TaskAlignedAssigner()(
        scores.requires_grad_(), boxes.requires_grad_(), *rest
    ).score.requires_grad


def test_points_off_the_grid_are_refused():
    scores, boxes, points, *rest = make_batch(0, [3])
    with pytest.raises(AssertionError, match="grids"):
        TaskAlignedAssigner()(scores, boxes, points.roll(1, 0), *rest)
    with pytest.raises(AssertionError, match="grids"):
        TaskAlignedAssigner()(scores, boxes, points - 4, *rest)


def test_transposed_grid_of_equal_length():
    # 128 x 160 and 160 x 128 have the same number of points on each level; the grids differ.
    for size in ((128, 160), (160, 128)):
        batch = make_batch(6, [30], size=size)
        assert_same(as_dict(TaskAlignedAssigner()(*batch)), dense_assign(*batch))


# --- without waiting for a GPU ----------------------------------------------------------------------


def test_levels_are_found_in_the_points():
    assert find_levels(*pyramid(100, 160, (8, 16))) == (Level(8, 13, 20), Level(16, 7, 10))


@pytest.mark.parametrize("limit", [50, 2**18])
@pytest.mark.parametrize("seed", range(12))
def test_the_way_of_a_gpu_selects_the_same(monkeypatch, seed, limit):
    # Nothing is left out on the way, what is no candidate included: with few objects, images without any.
    counts = torch.randint(0, 25, (3,), generator=torch.Generator().manual_seed(seed)).tolist()
    batch = make_batch(seed, counts if seed else [0, 0, 0])
    batch[1][0, :40] = float("nan")
    expected = TaskAlignedAssigner()(*batch)
    monkeypatch.setattr(assigner_module, "MAX_PAIRS", limit)
    monkeypatch.setattr(assigner_module, "answers_at_once", lambda device: False)
    found = TaskAlignedAssigner()(*batch, levels=find_levels(*batch[2:4]), host=(batch[4], batch[6]))
    assert torch.equal(found.point, expected.point)
    assert torch.equal(found.object, expected.object)
    torch.testing.assert_close(found.score, expected.score, rtol=1e-5, atol=0)


def test_a_gpu_is_waited_for_once(monkeypatch):
    batch = make_batch(3, [20, 0, 30])
    levels, host = find_levels(*batch[2:4]), (batch[4], batch[6])
    pairs = list(assigner_module._pairs(*host, levels, None, batch[2].device))  # on the host, always
    monkeypatch.setattr(assigner_module, "_pairs", lambda *arguments: pairs)
    monkeypatch.setattr(assigner_module, "answers_at_once", lambda device: False)
    with NoWaiting(allowed=["nonzero"]):  # how many positives there are
        assignment = TaskAlignedAssigner()(*batch, levels=levels, host=host)
        points_in_boxes(batch[4], batch[6], *batch[2:4], levels=levels, host=host, repeated=True)
    with NoWaiting(allowed=["prod"]):  # without a gradient, it does not wait
        assignment_statistics(assignment, batch[4])


def test_repeated_points_are_those_of_each_box():
    _, _, points, strides, boxes, _, image_index = make_batch(1, [9, 0, 9], sides=(20, 90))
    once = points_in_boxes(boxes, image_index, points, strides)
    repeated = points_in_boxes(boxes, image_index, points, strides, repeated=True)
    assert len(repeated) > len(once)
    assert torch.equal(repeated.unique(), once)


@pytest.mark.gpu
def test_gpu_equals_cpu():
    batch = make_batch(0, [100, 0, 80])
    found = TaskAlignedAssigner()(*(tensor.cuda() for tensor in batch))
    assert_same(as_dict(found), as_dict(TaskAlignedAssigner()(*batch)))


def test_no_positives_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match=r"assigner\.topk must be 1 to"):
        TaskAlignedAssigner(topk=0)


@pytest.mark.parametrize("wrong", [{"alpha": -1}, {"beta": float("nan")}, {"min_side": -5}])
def test_exponents_and_sides_out_of_range(wrong):
    with pytest.raises(ValueError, match=rf"assigner\.{next(iter(wrong))} must be 0 to"):
        TaskAlignedAssigner(**wrong)

"""The total loss: terms, masks, empties, precision, ranks."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from detection_cases import (
    BINS,
    BOX_NAMES,
    CLASS_NAMES,
    GRID,
    C,
    FakeAssignment,
    FakePredictions,
    gradients,
    scene,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from waiting import NoWaiting

from losses.detection import DetectionLoss
from losses.distribution import distribution_focal, side_distances
from losses.named import named_box_loss
from losses.similarity import ciou
from losses.size_aware import HybridLoss


def test_terms():
    """Against dense references: BCE with a (B, A, C) target, CIoU and DFL summed by hand."""
    predictions, assignment, gt_boxes, gt_labels, ignored = arguments = scene()
    point, w, normaliser = assignment.point, assignment.score, assignment.score.sum()
    target, label = gt_boxes[assignment.object], gt_labels[assignment.object]

    dense, mask = torch.zeros(2 * GRID * GRID, C), torch.ones(2 * GRID * GRID, 1)
    dense[point, label] = w
    mask[[i for i in ignored.tolist() if i not in point.tolist()]] = 0
    logits = predictions.logits.flatten(0, 1)
    cls = F.binary_cross_entropy_with_logits(logits, dense, weight=mask, reduction="sum") / normaliser
    box = (w * (1 - ciou(predictions.decode(point), target))).sum() / normaliser
    place = point % (GRID * GRID)
    sides = side_distances(target, predictions.points[place], predictions.strides[place])
    dfl = distribution_focal(predictions.distances.flatten(0, 1)[point], sides, BINS)
    dfl = (w * dfl).sum() / normaliser

    terms = DetectionLoss("ciou", gain_box=2, gain_cls=3, gain_dfl=5)(*arguments)
    torch.testing.assert_close(terms["loss_box"], 2 * box)
    torch.testing.assert_close(terms["loss_cls"], 3 * cls)
    torch.testing.assert_close(terms["loss_dfl"], 5 * dfl)
    torch.testing.assert_close(terms["loss"], 2 * box + 3 * cls + 5 * dfl)
    ours = torch.autograd.grad(terms["loss"], (predictions.logits, predictions.distances))
    reference = 2 * box + 3 * cls + 5 * dfl
    torch.testing.assert_close(
        ours, torch.autograd.grad(reference, (predictions.logits, predictions.distances))
    )
    assert all(terms[name].grad_fn is None for name in ("loss_box", "loss_cls", "loss_dfl"))


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_class_weights_of_one_change_no_digit(name):
    arguments = scene()
    plain, ones = (DetectionLoss(classification=name, class_weights=w) for w in (None, [1.0] * C))
    assert plain(*arguments) == ones(*arguments)
    assert all(map(torch.equal, gradients(plain, arguments), gradients(ones, arguments)))


def test_class_weights_are_factors_of_the_terms_of_the_classes():
    # Binary losses of the classes add up, so weights (2, 1, 1) add the first class's term once more.
    def cls(*weights):
        return DetectionLoss(class_weights=weights)(*scene())["loss_cls"]

    tiny = 1e-9
    first = cls(1, tiny, tiny)
    torch.testing.assert_close(cls(2, 1, 1) - cls(1, 1, 1), first)
    torch.testing.assert_close(cls(3, 3, 3), 3 * cls(1, 1, 1))  # taken as they are
    weighted, plain = DetectionLoss(class_weights=(5, 1, 1))(*scene()), DetectionLoss()(*scene())
    assert (weighted["loss_box"], weighted["loss_dfl"]) == (plain["loss_box"], plain["loss_dfl"])


def test_class_weights_are_no_part_of_a_checkpoint():
    assert not [name for name in DetectionLoss(class_weights=[1, 2]).state_dict() if "class" in name]


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_class_weights_out_of_range(wrong):
    with pytest.raises(ValueError, match="class_weights must be positive numbers"):
        DetectionLoss(class_weights=[1.0, wrong])


def test_default_gains():
    unit = DetectionLoss(gain_box=1, gain_cls=1, gain_dfl=1)(*scene())
    default = DetectionLoss()(*scene())
    for name, gain in (("loss_box", 7.5), ("loss_cls", 0.5), ("loss_dfl", 1.5)):
        torch.testing.assert_close(default[name], gain * unit[name])


def test_calibrated_factors_weigh_the_distribution_loss():
    predictions, assignment, gt_boxes, *_ = arguments = scene()
    target, w = gt_boxes[assignment.object], assignment.score
    _, k = HybridLoss()(predictions.decode(assignment.point), target, w, w.sum())
    place = assignment.point % (GRID * GRID)
    sides = side_distances(target, predictions.points[place], predictions.strides[place])
    dfl = distribution_focal(predictions.distances.flatten(0, 1)[assignment.point], sides, BINS)
    expected = 1.5 * (w * k * dfl).sum() / w.sum()
    torch.testing.assert_close(DetectionLoss("hybrid")(*arguments)["loss_dfl"], expected.detach())
    plain = DetectionLoss("ciou")(*arguments)["loss_dfl"]
    torch.testing.assert_close(DetectionLoss(HybridLoss(calibrated=False))(*arguments)["loss_dfl"], plain)
    assert abs(expected - plain) > 1e-3


@pytest.mark.parametrize("classification", CLASS_NAMES)
def test_ignored_points_teach_nothing_unless_positive(classification):
    predictions, assignment, gt_boxes, gt_labels, _ = scene()
    inside = torch.cat((assignment.point[:4], torch.tensor([100, 101, 102]))).unique()
    negative = inside[~torch.isin(inside, assignment.point)]
    assert len(negative) > 0
    arguments = (predictions, assignment, gt_boxes, gt_labels, inside)
    gradient = gradients(DetectionLoss(classification=classification), arguments)[0].flatten(0, 1)
    assert (gradient[negative] == 0).all()
    others = torch.ones(len(gradient), dtype=torch.bool).index_fill(0, negative, False)
    assert (gradient[others] != 0).all()
    # And the value is that of the batch without those points.
    free = DetectionLoss(classification=classification)(*arguments[:4], inside[:0])
    assert free["loss_cls"] > DetectionLoss(classification=classification)(*arguments)["loss_cls"]


def empty_scene():
    predictions, _, _, _, ignored = scene()
    none = torch.zeros(0, dtype=torch.int64)
    assignment = FakeAssignment(none, none, torch.zeros(0))
    return predictions, assignment, torch.zeros(0, 4), none, ignored


@pytest.mark.parametrize("name", BOX_NAMES)
def test_empty_batch(name):
    arguments = empty_scene()
    terms = DetectionLoss(name)(*arguments)
    assert terms["loss_box"] == terms["loss_dfl"] == 0
    assert terms["loss_cls"] > 0
    logits, distances = torch.autograd.grad(terms["loss"], (arguments[0].logits, arguments[0].distances))
    assert (logits >= 0).all()
    assert (distances == 0).all()  # connected: DDP finds no unused parameter


def test_few_positives_do_not_raise_the_loss():
    # S is at least 1: one positive of score 0.01 weighs 0.01, not 1.
    predictions, assignment, gt_boxes, gt_labels, ignored = scene(positives=(1, 0))
    assignment.score = torch.tensor([0.01])
    weak = DetectionLoss("ciou")(predictions, assignment, gt_boxes, gt_labels, ignored)["loss_box"]
    assignment.score = torch.tensor([1.0])
    strong = DetectionLoss("ciou")(predictions, assignment, gt_boxes, gt_labels, ignored)["loss_box"]
    torch.testing.assert_close(weak, 0.01 * strong)


@pytest.mark.parametrize("name", BOX_NAMES)
def test_box_term_knows_no_stride(name):
    """The same boxes in pixels on two strides have the same box loss."""
    predictions, *rest = scene()
    boxes = predictions.decode(torch.arange(2 * GRID * GRID)).detach()
    values = [
        DetectionLoss(name)(FakePredictions(predictions.logits, predictions.distances, stride, boxes), *rest)[
            "loss_box"
        ]
        for stride in (8.0, 16.0)
    ]
    assert torch.equal(*values)


@pytest.mark.parametrize("name", BOX_NAMES)
def test_a_batch_twice_over_is_the_batch(name):
    predictions, assignment, gt_boxes, gt_labels, ignored = arguments = scene()
    points, objects = 2 * GRID * GRID, len(gt_boxes)
    twice = (
        FakePredictions(predictions.logits.repeat(2, 1, 1), predictions.distances.repeat(2, 1, 1, 1)),
        FakeAssignment(
            torch.cat((assignment.point, assignment.point + points)),
            torch.cat((assignment.object, assignment.object + objects)),
            assignment.score.repeat(2),
        ),
        gt_boxes.repeat(2, 1),
        gt_labels.repeat(2),
        torch.cat((ignored, ignored + points)),
    )
    torch.testing.assert_close(DetectionLoss(name)(*twice), DetectionLoss(name)(*arguments))


@pytest.mark.parametrize("name", BOX_NAMES)
@pytest.mark.parametrize("classification", ["bce", "dice"])
def test_autocast_equals_float32(name, classification):
    predictions, *rest = scene()
    half = FakePredictions(predictions.logits.bfloat16(), predictions.distances.bfloat16())
    full = FakePredictions(half.logits.float(), half.distances.float())
    expected = DetectionLoss(name, classification)(full, *rest)
    with torch.autocast("cpu", torch.bfloat16):
        terms = DetectionLoss(name, classification)(half, *rest)
    assert all(value.dtype == torch.float32 for value in terms.values())
    torch.testing.assert_close(terms, expected, rtol=0, atol=0)


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operation's result has."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return result


@pytest.mark.parametrize("name", BOX_NAMES)
def test_memory_grows_with_the_positives_not_with_their_square(name):
    n = 20_000
    pred = (torch.rand(n, 4) * 50).requires_grad_()
    target = torch.rand(n, 2).repeat(1, 2) * 50 + torch.tensor([0, 0, 9, 9])
    weight = torch.rand(n)
    with LargestTensor() as largest:
        loss, _ = named_box_loss(name)(pred, target, weight, weight.sum())
        loss.backward()
    assert largest.elements <= 4 * n


def test_no_dense_target():
    predictions, *rest = scene()
    with LargestTensor() as largest:
        DetectionLoss()(FakePredictions(predictions.logits.repeat(1, 1, 40), predictions.distances), *rest)
    assert largest.elements <= 2 * GRID * GRID * max(C * 40, 4 * len(BINS))


@pytest.mark.parametrize("name", BOX_NAMES)
def test_no_operation_needs_a_value_on_the_host(name):
    arguments = scene()
    losses = [DetectionLoss(name, classification) for classification in CLASS_NAMES]
    with NoWaiting():
        for loss in losses:
            loss(*arguments)["loss"].backward()


def test_waiting_operations_are_refused():
    x = torch.rand(3, requires_grad=True)
    for waits in (lambda: x[x > 0].sum(), lambda: x.sum().item(), lambda: x.prod(0)):
        with NoWaiting(), pytest.raises(AssertionError):
            waits()


@pytest.mark.gpu
@pytest.mark.parametrize("name", BOX_NAMES)
def test_no_host_synchronisation(name):
    predictions, assignment, gt_boxes, gt_labels, ignored = scene()
    boxes = predictions.decode(torch.arange(2 * GRID * GRID)).detach().cuda().requires_grad_()
    # Leaves on the GPU: the gradient of a leaf on the CPU would be copied there, which waits.
    resident = SimpleNamespace(
        **{
            key: getattr(predictions, key).detach().cuda().requires_grad_() for key in ("logits", "distances")
        },
        **{key: getattr(predictions, key).cuda() for key in ("points", "strides", "bins")},
        decode=lambda index: boxes[index],
    )
    on_gpu = SimpleNamespace(**{key: value.cuda() for key, value in vars(assignment).items()})
    arguments = resident, on_gpu, gt_boxes.cuda(), gt_labels.cuda(), ignored.cuda()
    losses = [DetectionLoss(name, classification).cuda() for classification in CLASS_NAMES]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for loss in losses:
            loss(*arguments)["loss"].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")

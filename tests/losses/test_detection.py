"""The total loss: terms, masks, empties, precision, ranks."""

import os
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from waiting import NoWaiting

from losses.detection import DetectionLoss
from losses.distribution import distribution_focal, side_distances
from losses.named import BoxLossName, ClassificationName, named_box_loss
from losses.regression import WiseIoUV2Loss, WiseIoUV3Loss
from losses.similarity import ciou
from losses.size_aware import DynamicLoss, FocalLogLoss, HybridLoss, InverseSqrtLoss, NormalizedSqrtLoss

BOX_NAMES, CLASS_NAMES = get_args(BoxLossName), get_args(ClassificationName)
SIZE_AWARE = (InverseSqrtLoss, FocalLogLoss, DynamicLoss, NormalizedSqrtLoss, HybridLoss)
GRID, C, BINS = 8, 3, torch.arange(-2.0, 14.0)


@dataclass
class FakePredictions:
    """B images with one level of GRID x GRID points."""

    logits: Tensor
    distances: Tensor
    stride: float = 8.0
    boxes: Tensor | None = None  # (B * A, 4) given boxes instead of decoded ones

    @property
    def points(self):
        axis = (torch.arange(GRID, dtype=torch.float32, device=self.logits.device) + 0.5) * self.stride
        return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).flatten(0, 1)

    @property
    def strides(self):
        return torch.full((GRID * GRID,), self.stride, device=self.logits.device)

    @property
    def bins(self):
        return BINS.to(self.logits.device)

    def decode(self, index):
        if self.boxes is not None:
            return self.boxes[index]
        sides = self.distances.flatten(0, 1)[index].float().softmax(-1) @ self.bins * self.stride
        points = self.points[index % len(self.points)]
        return torch.cat((points - sides[:, :2], points + sides[:, 2:]), -1)


@dataclass
class FakeAssignment:
    point: Tensor
    object: Tensor
    score: Tensor


def scene(images: int = 2, positives: tuple[int, ...] = (9, 3), seed: int = 0):
    """Arguments of `DetectionLoss.forward`; image i has `positives[i]` positives and as many objects."""
    generator = torch.Generator().manual_seed(seed)
    a = GRID * GRID
    predictions = FakePredictions(
        torch.randn(images, a, C, generator=generator).requires_grad_(),
        torch.randn(images, a, 4, len(BINS), generator=generator).requires_grad_(),
    )
    place = [
        torch.randperm(a, generator=generator)[:n].sort().values + i * a for i, n in enumerate(positives)
    ]
    point = torch.cat(place)
    middle = predictions.points[point % a] + torch.rand(len(point), 2, generator=generator) * 6 - 3
    half = torch.rand(len(point), 2, generator=generator) * 20 + 2
    objects = torch.randperm(len(point), generator=generator)
    gt_boxes = torch.empty(len(point), 4)
    gt_boxes[objects] = torch.cat((middle - half, middle + half), -1)
    score = 0.5 + torch.rand(len(point), generator=generator) / 2
    gt_labels = torch.randint(0, C, (len(point),), generator=generator)
    ignored = torch.arange(3, images * a, 7)
    return predictions, FakeAssignment(point, objects, score), gt_boxes, gt_labels, ignored


def gradients(loss, arguments):
    total = loss(*arguments)["loss"]
    return torch.autograd.grad(total, (arguments[0].logits, arguments[0].distances))


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


# Ranks.

VARIANTS = [
    *((name, "bce") for name in BOX_NAMES),
    *((cls.__name__, "bce") for cls in SIZE_AWARE),
    *(("ciou", name) for name in CLASS_NAMES),
]


def build(box: str, classification: str) -> DetectionLoss:
    """A loss by name; the class name of a size-aware loss stands for its uncalibrated form."""
    tuned = {
        **{cls.__name__: cls(calibrated=False) for cls in SIZE_AWARE},
        "wise_iou_v2": WiseIoUV2Loss(half_life=1),  # a short memory, so that a step shows in the running mean
        "wise_iou_v3": WiseIoUV3Loss(half_life=1),
    }
    return DetectionLoss(tuned.get(box, box), classification, class_weights=(0.5, 1, 2))


def image_of(arguments, image):
    """The part of a scene that belongs to one image."""
    predictions, assignment, gt_boxes, gt_labels, ignored = arguments
    a = GRID * GRID
    mine, its_ignored = assignment.point // a == image, ignored[ignored // a == image]
    return (
        FakePredictions(
            predictions.logits[image : image + 1].detach().requires_grad_(),
            predictions.distances[image : image + 1].detach().requires_grad_(),
        ),
        FakeAssignment(assignment.point[mine] - image * a, assignment.object[mine], assignment.score[mine]),
        gt_boxes,
        gt_labels,
        its_ignored - image * a,
    )


SCENES = {"uneven": (9, 3), "one rank without": (9, 0)}


def rank_gradients(rank: int, rendezvous: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{rendezvous}", timeout=timedelta(seconds=60), rank=rank, world_size=2
    )
    results = {}
    for key, positives in SCENES.items():
        for variant in VARIANTS:
            loss = build(*variant)
            if rank == 0:  # one more validation batch than the other rank has
                with torch.no_grad():
                    loss.eval()(*image_of(scene(seed=1), rank))
            loss.train()
            found = gradients(loss, image_of(scene(positives=positives), rank))
            results[key, variant] = found, loss.state_dict()
    torch.save(results, os.path.join(folder, f"rank{rank}.pt"))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results_by_rank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(rank_gradients, (str(folder / "rendezvous"), str(folder)), nprocs=2)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("key", SCENES)
@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_two_processes_have_the_gradient_of_one(results_by_rank, key, variant):
    loss = build(*variant)
    single = gradients(loss, scene(positives=SCENES[key]))
    for rank, results in enumerate(results_by_rank):
        (logits, distances), state = results[key, variant]
        # DDP averages over ranks; a rank's image has a gradient on that rank alone.
        torch.testing.assert_close(logits[0] / 2, single[0][rank], rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(distances[0] / 2, single[1][rank], rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(state, loss.state_dict())  # Wise-IoU's running mean

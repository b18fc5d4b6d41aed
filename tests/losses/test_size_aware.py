"""The six size-aware losses: what the notebook wrote, what it intended, and the calibrated form."""

import math

import pytest
import torch

from losses.regression import SimilarityLoss
from losses.similarity import ciou, iou
from losses.size_aware import (
    DynamicLoss,
    FocalLogLoss,
    HybridLoss,
    InverseSqrtLoss,
    NormalizedSqrtLoss,
    calibrated_factors,
)
from losses.tunable import NWD, Similarity

LOSSES = (InverseSqrtLoss, FocalLogLoss, DynamicLoss, NormalizedSqrtLoss, HybridLoss)
BOTH_FORMS = [(cls, calibrated) for cls in LOSSES for calibrated in (True, False)]


def batch(n: int = 64, jitter: float = 0.15, seed: int = 0):
    """Targets with sides of 4 to 130 px, predictions jittered in proportion, target scores, and S."""
    generator = torch.Generator().manual_seed(seed)
    side = torch.exp(torch.rand(n, 2, generator=generator, dtype=torch.float64) * 3.5 + 1.4)
    centre = torch.rand(n, 2, generator=generator, dtype=torch.float64) * 600
    target = torch.cat((centre - side / 2, centre + side / 2), -1)
    noise = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    pred = (target + jitter * noise * side.repeat(1, 2)).requires_grad_()
    weight = torch.rand(n, generator=generator, dtype=torch.float64)
    return pred, target, weight, weight.sum().clamp(min=1)


def shifted(sides: list[float], share: float = 0.25):
    """Squares of the given sides, each prediction shifted right by the same share of its side."""
    side = torch.tensor(sides, dtype=torch.float64)
    target = torch.stack((torch.zeros_like(side), torch.zeros_like(side), side, side), -1)
    step = torch.stack((share * side, torch.zeros_like(side)), -1).repeat(1, 2)
    return (target + step).requires_grad_(), target


def gradient_norms(loss, pred, target, weight=None):
    weight = torch.ones(len(pred), dtype=pred.dtype) if weight is None else weight
    value, _ = loss(pred, target, weight, weight.sum().clamp(min=1))
    return torch.autograd.grad(value, pred)[0].norm(dim=-1)


# Formulas, box by box in plain Python.


def plain_loop(cls, calibrated, pred, target, weight):
    """Loss and factors k by the formulas of the design, written as loops over floats."""
    c = [1 - value for value in ciou(pred, target).tolist()]
    areas = [max((x2 - x1) * (y2 - y1), 1) for x1, y1, x2, y2 in target.tolist()]
    w, n, mean_area = weight.tolist(), len(c), sum(areas) / len(areas)
    every = range(n)
    total = max(sum(w), 1)
    if not calibrated:
        if cls is InverseSqrtLoss:
            loss = sum(w[i] * c[i] * 0.5 / math.sqrt(areas[i]) for i in every) / total
        elif cls is FocalLogLoss:
            loss = sum(w[i] * c[i] ** 2 * 0.5 / math.log(areas[i] + 1) for i in every) / sum(w)
        elif cls is DynamicLoss:
            gamma = 0.5 + sum(c) / n
            terms = (
                w[i] * c[i] ** 2 * gamma / math.log(areas[i] + 1) * c[i] ** 2 / (c[i] ** 2 + 0.5)
                for i in every
            )
            loss = sum(terms) / sum(w)
        elif cls is NormalizedSqrtLoss:
            focused = sum(value**1.5 for value in c)
            loss = sum(c[i] ** 2.5 * math.sqrt(mean_area / areas[i]) for i in every) / focused
        else:
            loss = sum(c[i] * c[i] ** 1.5 * 0.3 / math.sqrt(areas[i]) for i in every) / n
        return loss, [1.0] * n
    by_log = cls in (FocalLogLoss, DynamicLoss)
    size = [1 / math.log(area + 1) if by_log else 1 / math.sqrt(area) for area in areas]
    focal = {
        InverseSqrtLoss: lambda x: 1.0,
        FocalLogLoss: lambda x: x,
        DynamicLoss: lambda x: x**3 / (x**2 + 0.5),
    }.get(cls, lambda x: x**1.5)
    mean_size = sum(w[i] * size[i] for i in every) / sum(w)
    s = [min(max(value / mean_size, 0.25), 4) for value in size]
    mean_focal = sum(w[i] * s[i] * focal(c[i]) for i in every) / sum(w[i] * s[i] for i in every)
    k = [s[i] * focal(c[i]) / mean_focal for i in every]
    return sum(w[i] * k[i] * c[i] for i in every) / total, k


@pytest.mark.parametrize(("cls", "calibrated"), BOTH_FORMS)
def test_equals_a_plain_loop(cls, calibrated):
    pred, target, weight, normaliser = batch()
    loss, factors = cls(calibrated=calibrated)(pred, target, weight, normaliser)
    expected, k = plain_loop(cls, calibrated, pred.detach(), target, weight)
    torch.testing.assert_close(loss.item(), expected)
    torch.testing.assert_close(factors.tolist(), k)


@pytest.mark.parametrize(("cls", "calibrated"), BOTH_FORMS)
def test_every_box_follows_its_own_weight(cls, calibrated):
    """The gradient is that of sum w_i u_i c_i with constants u_i; no other box's size enters u_i's ratio."""
    pred, target, weight, normaliser = batch()
    loss, _ = cls(calibrated=calibrated)(pred, target, weight, normaliser)
    gradient = torch.autograd.grad(loss, pred)[0]
    plain = torch.autograd.grad((1 - ciou(pred, target)).sum(), pred)[0]
    u = (gradient * plain).sum(-1) / plain.square().sum(-1)
    torch.testing.assert_close(gradient, u[:, None] * plain)
    assert (u > 0).all()  # nothing is pushed to lower IoU


@pytest.mark.parametrize("cls", LOSSES)
def test_calibrated_factors_have_no_gradient(cls):
    pred, target, weight, normaliser = batch()
    loss, factors = cls()(pred, target, weight, normaliser)
    assert not factors.requires_grad
    frozen = (weight * factors * (1 - ciou(pred, target))).sum() / normaliser
    torch.testing.assert_close(*(torch.autograd.grad(value, pred)[0] for value in (loss, frozen)))


def test_uncalibrated_leaves_the_distribution_loss_alone():
    for cls in LOSSES:
        assert (cls(calibrated=False)(*batch())[1] == 1).all()


# Findings.


def notebook_first_attempt(pred, target, weight, area):
    """The notebook's form: iou and weight are (n, 1), area is (n,), so the product is (n, n)."""
    value = ciou(pred, target)[:, None]
    product = (1 - value) * weight[:, None] * (0.5 / area.sqrt())
    assert product.shape == (len(pred), len(pred))
    return product.sum() / weight.sum()


def test_broadcasting_bug_hides_the_size_of_a_box():
    pred, target, weight, _ = batch(8)
    area = (target[:, 2:] - target[:, :2]).prod(-1).clamp(min=1)

    # The sum factorises: loss without size times the sum of all size factors.
    as_written = notebook_first_attempt(pred, target, weight, area)
    without_size = (weight * (1 - ciou(pred, target))).sum() / weight.sum()
    torch.testing.assert_close(as_written, without_size * (0.5 / area.sqrt()).sum())

    # So exchanging the areas of two boxes changes no gradient; in ours, it would.
    gradient = torch.autograd.grad(as_written, pred)[0]
    exchanged = notebook_first_attempt(pred, target, weight, area.flip(0))
    torch.testing.assert_close(torch.autograd.grad(exchanged, pred)[0], gradient)

    # Boxes that are equally off in proportion: as written, a box of a quarter of the side has 4 times the
    # gradient, which is CIoU's own; the intended form has 16 times.
    pred, target = shifted([8, 32])
    area = (target[:, 2:] - target[:, :2]).prod(-1)
    ones = torch.ones(2, dtype=torch.float64)
    small, large = torch.autograd.grad(notebook_first_attempt(pred, target, ones, area), pred)[0].norm(dim=-1)
    torch.testing.assert_close(small / large, torch.tensor(4.0, dtype=torch.float64))
    small, large = gradient_norms(InverseSqrtLoss(calibrated=False), pred, target)
    torch.testing.assert_close(small / large, torch.tensor(16.0, dtype=torch.float64))


def copies(n: int, *tensors: torch.Tensor) -> list[torch.Tensor]:
    return [tensor.detach().repeat(n, *[1] * (tensor.ndim - 1)) for tensor in tensors]


def test_broadcasting_bug_grows_with_the_number_of_boxes():
    pred, target, weight, _ = batch(8)
    area = (target[:, 2:] - target[:, :2]).prod(-1).clamp(min=1)
    one, five = notebook_first_attempt(pred, target, weight, area), copies(5, pred, target, weight, area)
    torch.testing.assert_close(notebook_first_attempt(*five), 5 * one)


@pytest.mark.parametrize(("cls", "calibrated"), BOTH_FORMS)
def test_copies_of_a_batch_change_nothing(cls, calibrated):
    pred, target, weight, normaliser = batch(8)
    one, _ = cls(calibrated=calibrated)(pred, target, weight, normaliser)
    pred, target, weight = copies(5, pred, target, weight)
    five, _ = cls(calibrated=calibrated)(pred, target, weight, 5 * normaliser)
    torch.testing.assert_close(five, one)


def test_area_in_grid_cells_confuses_small_objects_and_favours_coarse_levels():
    def cells(side, stride):
        return max((side / stride) ** 2, 1)

    # As written, all boxes below one cell are alike, and the same box weighs more on a coarser level.
    assert cells(2, 8) == cells(8, 8) == 1
    assert 1 / math.sqrt(cells(32, 32)) == 4 / math.sqrt(cells(32, 8))
    # In pixels, the 2 px box weighs 4 times as much as the 8 px box, and no stride exists.
    pred, target = shifted([2, 8])
    small, large = gradient_norms(InverseSqrtLoss(calibrated=False), pred, target)
    torch.testing.assert_close(small / large, torch.tensor(4.0 * 4.0, dtype=torch.float64))


def test_boxes_below_one_pixel_are_alike():
    pred, target = shifted([0.25, 0.5, 1.0])
    weight = torch.ones(3, dtype=torch.float64)
    _, factors = InverseSqrtLoss()(pred, target, weight, weight.sum())
    assert factors.tolist() == [1, 1, 1]


def test_gradient_by_side():
    # CIoU alone: 1 / side. Times 1 / sqrt A: 1 / side^2.
    pred, target = shifted([4, 8, 16, 64])
    side = torch.tensor([4, 8, 16, 64], dtype=torch.float64)
    plain = gradient_norms(SimilarityLoss("ciou"), pred, target)
    torch.testing.assert_close(plain * side / (plain * side)[0], torch.ones(4, dtype=torch.float64))
    raw = gradient_norms(InverseSqrtLoss(calibrated=False), pred, target)
    torch.testing.assert_close(raw * side**2 / (raw * side**2)[0], torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("jitter", [0.05, 0.15, 0.3])
def test_calibration_keeps_the_loss_near_the_plain_one(jitter):
    def loss_and_gradient(loss):
        pred, *rest = batch(512, jitter)
        value, _ = loss(pred, *rest)
        return value.item(), torch.autograd.grad(value, pred)[0].norm().item()

    plain, plain_gradient = loss_and_gradient(SimilarityLoss("ciou"))
    for cls in LOSSES:
        value, gradient = loss_and_gradient(cls())
        assert 0.95 < value / plain < 1.4
        assert 1.0 < gradient / plain_gradient < 2.2
        if cls is not NormalizedSqrtLoss:  # its own normaliser keeps it
            assert loss_and_gradient(cls(calibrated=False))[0] < plain / 3


def test_focal_weight_stops_refinement_near_iou_090():
    # A shift by 1/19 of the side: IoU = (18/19) / (20/19) = 0.9.
    pred, target = shifted([19.0], share=1 / 19)
    torch.testing.assert_close(iou(pred, target), torch.tensor([0.9], dtype=torch.float64))
    hybrid = gradient_norms(HybridLoss(calibrated=False, gain=19.0), pred, target)  # gain / sqrt A = 1
    assert hybrid / gradient_norms(SimilarityLoss("ciou"), pred, target) < 0.04


def test_normalized_sqrt_with_gradients_through_its_focal_weights_pushes_boxes_away():
    for jitter in (0.05, 0.15, 0.3):
        pred, target, weight, normaliser = batch(512, jitter)
        c = (1 - ciou(pred.detach(), target)).requires_grad_()
        area = (target[:, 2:] - target[:, :2]).prod(-1).clamp(min=1)
        size = (area.mean() / area).sqrt()
        not_detached = (c**1.5 * c * size).sum() / (c**1.5).sum()
        reversed_share = (torch.autograd.grad(not_detached, c)[0] < 0).double().mean()
        assert 0.44 < reversed_share < 0.5

        value, _ = NormalizedSqrtLoss(calibrated=False)(pred, target, weight, normaliser)
        torch.testing.assert_close(value, not_detached)  # the same value; only the gradient differs
        gradient = torch.autograd.grad(value, pred, retain_graph=True)[0]
        plain = torch.autograd.grad((1 - ciou(pred, target)).sum(), pred)[0]
        assert ((gradient * plain).sum(-1) > 0).all()


def test_dynamic_gamma_is_one_number_without_gradient():
    pred, target, weight, normaliser = batch(8)
    loss, _ = DynamicLoss(calibrated=False)(pred, target, weight, normaliser)
    c = 1 - ciou(pred, target)
    gamma = 0.5 + c.mean().item()
    area = (target[:, 2:] - target[:, :2]).prod(-1).clamp(min=1)
    frozen = (weight * gamma * c**4 / (c**2 + 0.5) / (area + 1).log()).sum() / weight.sum()
    torch.testing.assert_close(*(torch.autograd.grad(value, pred)[0] for value in (loss, frozen)))


class AboveOne(Similarity):
    """A similarity with a rounding error: 1 + 1e-6 for equal boxes."""

    def __call__(self, a, b):
        return iou(a, b) + 1e-6


@pytest.mark.parametrize(("cls", "calibrated"), BOTH_FORMS)
def test_a_slightly_negative_cost_is_clamped(cls, calibrated):
    _, target, weight, normaliser = batch(8)
    pred = target.clone().requires_grad_()
    assert ((1 - AboveOne()(pred, target)) ** 1.5).isnan().all()
    loss, factors = cls(AboveOne(), calibrated=calibrated)(pred, target, weight, normaliser)
    loss.backward()
    assert loss == 0
    assert factors.isfinite().all()
    assert pred.grad.isfinite().all()


# Forms.


def test_calibrated_normalized_sqrt_hybrid_and_hybrid_scaled_coincide():
    data = batch()
    loss, factors = HybridLoss()(*data)
    for other in (NormalizedSqrtLoss(), HybridLoss(gain=0.3 / 99)):
        torch.testing.assert_close(other(*data), (loss, factors))


def test_constants_cancel_in_the_calibrated_form():
    data = batch()
    for cls in (InverseSqrtLoss, FocalLogLoss, HybridLoss):
        torch.testing.assert_close(cls(gain=7.0)(*data), cls()(*data))
        changed, plain = cls(gain=7.0, calibrated=False)(*data)[0], cls(calibrated=False)(*data)[0]
        assert changed > 10 * plain  # 7 / 0.5 or 7 / 0.3


def test_size_weights_are_bounded():
    # 400 px against 1 px boxes: without bounds, s of the large ones is 1 / 400 of the small ones'.
    target = torch.tensor([[0.0, 0, 400, 400], [0, 0, 1, 1]], dtype=torch.float64)
    weight = torch.tensor([1.0, 1e-4], dtype=torch.float64)
    _, factors = InverseSqrtLoss()(target + 0.1, target, weight, weight.sum())
    assert factors[1] / factors[0] < 16.1
    assert factors[1] > factors[0]


def test_factors_average_to_the_size_weight():
    _, _, weight, _ = batch()
    size, focal = torch.rand(64, dtype=torch.float64) + 0.5, torch.rand(64, dtype=torch.float64)
    factors = calibrated_factors(size, focal, weight)
    torch.testing.assert_close((weight * factors).sum(), weight.sum(), rtol=1e-6, atol=0)  # s unclipped here


@pytest.mark.parametrize("calibrated", [True, False])
def test_rides_on_any_similarity(calibrated):
    pred, target, weight, normaliser = batch()
    named = HybridLoss("nwd", calibrated)(pred, target, weight, normaliser)
    torch.testing.assert_close(HybridLoss(NWD(12.8), calibrated)(pred, target, weight, normaliser), named)
    tuned, _ = HybridLoss(NWD(30), calibrated)(pred, target, weight, normaliser)
    assert (tuned - named[0]).abs() > 1e-3 * named[0]


@pytest.mark.parametrize(("cls", "calibrated"), BOTH_FORMS)
def test_no_positive(cls, calibrated):
    pred = torch.zeros(0, 4, requires_grad=True)
    none = torch.zeros(0)
    loss, factors = cls(calibrated=calibrated)(pred, torch.zeros(0, 4), none, torch.ones(()))
    assert loss == 0
    assert factors.shape == (0,)
    loss.backward()  # connected to the graph
    assert pred.grad is not None


@pytest.mark.parametrize(("cls", "calibrated"), BOTH_FORMS)
def test_positives_without_weight(cls, calibrated):
    pred, target, weight, _ = batch(4)
    none = torch.zeros_like(weight)
    loss, factors = cls(calibrated=calibrated)(pred, target, none, torch.ones((), dtype=torch.float64))
    loss.backward()
    assert loss.isfinite()
    assert factors.isfinite().all()
    assert pred.grad.isfinite().all()


@pytest.mark.parametrize("cls", LOSSES)
def test_a_column_of_weights_is_refused(cls):
    pred, target, weight, normaliser = batch(4)
    with pytest.raises(AssertionError):
        cls()(pred, target, weight[:, None], normaliser)


@pytest.mark.parametrize(
    ("cls", "wrong", "message"),
    [
        (FocalLogLoss, {"power": 0.5}, "power is 0.5, but must be at least 1"),
        (DynamicLoss, {"power": 0.5}, "power is 0.5, but must be at least 1"),
        (NormalizedSqrtLoss, {"gamma": -1}, "gamma is -1, but must be at least 0"),
        (HybridLoss, {"gamma": -1}, "gamma is -1, but must be at least 0"),
    ],
)
def test_impossible_exponents(cls, wrong, message):
    with pytest.raises(ValueError, match=message):
        cls(**wrong)

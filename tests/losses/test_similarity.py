"""Similarities against golden values, torchvision, and their own properties."""

import json
import math
from pathlib import Path
from typing import get_args

import pytest
import torch
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from losses import gaussian, similarity, tunable
from losses.boxes import enclosing_size, size
from losses.tunable import SimilarityName, resolve

NAMES = get_args(SimilarityName)
OVERLAP_ALONE = ("iou", "dice", "alpha_iou", "inner_iou", "focaler_iou")
SCALE_DEPENDENT = ("mpdiou", "sdiou", "nwd", "ciou_nwd")
ASYMMETRIC = ("piou", "piou2", "sdiou", "kld")
LOWEST = {
    **dict.fromkeys((*OVERLAP_ALONE, "nwd", "gcd", "kld"), 0.0),
    **dict.fromkeys(("giou", "diou", "piou"), -1.0),
    **dict.fromkeys(("ciou", "sdiou", "ciou_nwd"), -1.5),
    **dict.fromkeys(("siou", "mpdiou"), -2.0),
    "eiou": -3.0,
    "shape_iou": -2.5,
    "wise_iou": 1 - math.e,
    "piou2": -1.6,
}
GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())
GOLDEN_VALUES = {
    "ciou_gated": tunable.CIoU(gate=0.5),
    "mpdiou640": tunable.MPDIoU(width=640, height=640),
    "inner1_25": tunable.InnerIoU(ratio=1.25),
    "shape0": tunable.ShapeIoU(scale=0),
    "nwd12_8": tunable.NWD(constant=12.8),
    "alpha3": tunable.AlphaIoU(alpha=3),
    "kld_loss": lambda a, b: 1 - gaussian.kld(a, b),
    "piou1_loss": lambda a, b: 1 - similarity.piou(a, b),
    "piou2_loss": lambda a, b: 1 - similarity.piou2(a, b),
    "wiou1_loss": lambda a, b: 1 - similarity.wise_iou(a, b),
    **{name: resolve(name) for name in ("iou", "giou", "diou", "ciou", "eiou", "siou", "gcd", "sdiou")},
}


def pairs(n: int = 200, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions that are jittered copies of targets with sides of 2 to 60 px: overlapping, not equal."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    corner, side = uniform(n, 2) * 100, 2 + 58 * uniform(n, 2)
    target = torch.cat((corner, corner + side), -1)
    pred = target + (uniform(n, 4) - 0.5) * 0.6 * side.repeat(1, 2)
    return pred.to(dtype), target.to(dtype)


@pytest.mark.parametrize("field", [key for key in GOLDEN[0] if key not in ("pred", "target")])
def test_golden_values(field):
    pred, target, value = (
        torch.tensor([row[key] for row in GOLDEN], dtype=torch.float64) for key in ("pred", "target", field)
    )
    torch.testing.assert_close(GOLDEN_VALUES[field](pred, target), value, rtol=0, atol=2e-7)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("giou", generalized_box_iou_loss),
        ("diou", distance_box_iou_loss),
        ("ciou", complete_box_iou_loss),
    ],
)
def test_equals_torchvision(name, reference):
    pred, target = pairs()
    pred = torch.cat((pred, pred + 200)).requires_grad_()  # the second half is disjoint from its targets
    target = torch.cat((target, target))
    ours, theirs = 1 - resolve(name)(pred, target), reference(pred, target)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    gradients = [torch.autograd.grad(loss.sum(), pred)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


def test_diagonal_boxes():
    # Two unit squares that touch at a corner: no overlap; the hull is 2 x 2, half empty. The centres are
    # (1, 1) apart, the diagonal of the hull is (2, 2): DIoU is -2 / 8.
    a, b = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 2.0, 2.0])
    assert similarity.iou(a, b) == 0
    assert similarity.giou(a, b) == -0.5
    assert similarity.diou(a, b) == -0.25


def test_mixes_and_dice():
    # Shifted by half a side: intersection 2 x 4, union 24, so IoU 1/3 and Dice 2 * 8 / 32 = 1/2.
    a, b = torch.tensor([0.0, 0.0, 4.0, 4.0]), torch.tensor([2.0, 0.0, 6.0, 4.0])
    torch.testing.assert_close(similarity.dice(a, b), torch.tensor(0.5))
    torch.testing.assert_close(
        gaussian.ciou_nwd(a, b, ratio=0.25, constant=8),
        0.75 * similarity.ciou(a, b) + 0.25 * gaussian.nwd(a, b, constant=8),
    )
    # From [0.1, 0.6] to [0, 1]: (1/3 - 0.1) / 0.5.
    torch.testing.assert_close(similarity.focaler_iou(a, b, 0.1, 0.6), torch.tensor((1 / 3 - 0.1) / 0.5))


def test_shape_iou_weighs_by_the_target_shape():
    # Target 8 x 2, scale 1: ww = 2 * 8 / 10 = 1.6, hh = 0.4. The prediction is shifted by 1 in x: hull 9 x 2.
    target = torch.tensor([0.0, 0.0, 8.0, 2.0])
    in_x, in_y = target + torch.tensor([1.0, 0, 1, 0]), target + torch.tensor([0.0, 1, 0, 1])
    expected = 14 / 18 - 0.4 * 1 / (81 + 4)
    torch.testing.assert_close(similarity.shape_iou(in_x, target, scale=1), torch.tensor(expected))
    expected = 8 / 24 - 1.6 * 1 / (64 + 9)
    torch.testing.assert_close(similarity.shape_iou(in_y, target, scale=1), torch.tensor(expected))


@pytest.mark.parametrize("name", NAMES)
def test_pairwise_equals_aligned(name):
    a, b = pairs(6)
    table = resolve(name)(a[:, None], b[None])
    assert table.shape == (6, 6)
    loop = torch.stack([torch.stack([resolve(name)(x, y) for y in b]) for x in a])
    torch.testing.assert_close(table, loop)


@pytest.mark.parametrize("name", NAMES)
def test_translation_and_transpose_change_nothing(name):
    a, b = pairs()
    value = resolve(name)(a, b)
    torch.testing.assert_close(resolve(name)(a + 37, b + 37), value)
    swap = [1, 0, 3, 2]
    torch.testing.assert_close(resolve(name)(a[:, swap], b[:, swap]), value)


@pytest.mark.parametrize("name", NAMES)
def test_scale(name):
    a, b = pairs()
    grown, value = resolve(name)(a * 8, b * 8), resolve(name)(a, b)
    if name in SCALE_DEPENDENT:
        assert (grown - value).abs().max() > 1e-3
    else:
        torch.testing.assert_close(grown, value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_symmetry(name):
    a, b = pairs()
    swapped, value = resolve(name)(b, a), resolve(name)(a, b)
    if name in ASYMMETRIC:
        assert (swapped - value).abs().max() > 1e-3
    else:
        torch.testing.assert_close(swapped, value)


def test_shape_iou_with_a_scale_is_asymmetric():
    a, b = pairs()
    assert (similarity.shape_iou(a, b, 1.0) - similarity.shape_iou(b, a, 1.0)).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_disjoint_boxes(name):
    # A gap of 4 px; inner_iou's auxiliary boxes, 1.25 times as large, reach to 9 and from 11.
    a = torch.tensor([[0.0, 0.0, 8.0, 8.0]], requires_grad=True)
    resolve(name)(a, torch.tensor([[12.0, 3.0, 20.0, 11.0]])).sum().backward()
    assert (a.grad == 0).all() == (name in OVERLAP_ALONE)


def test_inner_iou_reaches_further_than_iou():
    # 8 px boxes 1 px apart; grown by 1.25 about their centres they overlap by 1 px.
    a = torch.tensor([0.0, 0.0, 8.0, 8.0], requires_grad=True)
    inner = similarity.inner_iou(a, torch.tensor([9.0, 0.0, 17.0, 8.0]), ratio=1.25)
    inner.backward()
    torch.testing.assert_close(inner, torch.tensor(10.0 / 190.0))
    assert (a.grad != 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_ranges(name):
    a, b = pairs(2000)
    far = torch.cat((a, a + 300, b + 0.01 * (a - b))), torch.cat((b, b, b))
    value = resolve(name)(*far)
    assert value.max() <= 1
    assert value.min() >= LOWEST[name]


@pytest.mark.parametrize("name", NAMES)
def test_equal_boxes(name):
    for dtype in (torch.float32, torch.float64):
        box = pairs(dtype=dtype)[1].requires_grad_()
        value = resolve(name)(box, box.detach())
        value.sum().backward()
        torch.testing.assert_close(value, torch.ones_like(value), rtol=0, atol=2e-7)
        assert box.grad.isfinite().all()


# The parts that are constants for the gradient, frozen at the point of the check.


def _frozen_ciou(p, t):
    mismatch = similarity._aspect_mismatch(p, t).detach()
    alpha = mismatch / (1 - similarity.iou(p, t).detach() + mismatch)
    return lambda q: similarity.diou(q, t) - alpha * similarity._aspect_mismatch(q, t)


def _frozen_sdiou(p, t):
    frozen, beta = _frozen_ciou(p, t), 0.5 * (size(t).prod(-1) / 81).clamp(max=1)

    def value(q):
        distance = similarity.iou(q, t) - similarity.diou(q, t)
        return 1 - (0.5 + beta) * (1 - frozen(q) - distance) - (1.5 - beta) * distance

    return value


def _frozen_piou2(p, t):
    factor = ((1 - similarity.piou2(p, t)) / (1 - similarity.piou(p, t))).detach()
    return lambda q: 1 - factor * (1 - similarity.piou(q, t))


def _frozen_wise_iou(p, t):
    diagonal = enclosing_size(p, t).square().sum(-1).detach()

    def value(q):
        distance = ((q - t)[:, :2] + (q - t)[:, 2:]).square().sum(-1) / 4
        return 1 - torch.exp(distance / diagonal) * (1 - similarity.iou(q, t))

    return value


def _frozen_ciou_nwd(p, t):
    frozen = _frozen_ciou(p, t)
    return lambda q: 0.5 * frozen(q) + 0.5 * gaussian.nwd(q, t)


FROZEN = {
    "ciou": _frozen_ciou,
    "sdiou": _frozen_sdiou,
    "piou2": _frozen_piou2,
    "wise_iou": _frozen_wise_iou,
    "ciou_nwd": _frozen_ciou_nwd,
}


@pytest.mark.parametrize("name", NAMES)
def test_gradient(name):
    pred, target = pairs(12)
    pred = torch.cat((pred, pred[:4] + 300)).requires_grad_()
    target = torch.cat((target, target[:4]))

    def function(q):
        return resolve(name)(q, target)

    if name in FROZEN:
        frozen = FROZEN[name](pred, target)
        torch.testing.assert_close(frozen(pred), function(pred))
        gradients = [torch.autograd.grad(f(pred).sum(), pred)[0] for f in (function, frozen)]
        torch.testing.assert_close(*gradients)
        function = frozen
    assert torch.autograd.gradcheck(function, pred)


@pytest.mark.parametrize("name", NAMES)
def test_no_nan_in_ten_thousand_boxes(name):
    generator = torch.Generator().manual_seed(1)
    boxes = torch.rand(2, 10_000, 4, generator=generator) * 2000 - 500  # about three quarters are inverted
    boxes[:, :2000, 2:] = boxes[:, :2000, :2] + torch.rand(2, 2000, 2, generator=generator) * 20
    boxes[:, 2000:2500, 2:] = boxes[:, 2000:2500, :2]  # points
    boxes[:, 2500:3000, 2] = boxes[:, 2500:3000, 0]  # vertical lines
    boxes[:, 3000:3500, 3] = boxes[:, 3000:3500, 1] + 1e-6  # hair lines
    boxes[0, 3500:4000] = boxes[1, 3500:4000]  # equal, ordered or not
    boxes[0, 4000:4250], boxes[1, 4000:4250] = boxes[1, 2000:2250], boxes[1, 2000:2250]  # equal points
    boxes[:, 4250:4500] *= 1e4
    pred = boxes[0].requires_grad_()
    value = resolve(name)(pred, boxes[1])
    value.sum().backward()
    assert value.isfinite().all()
    assert pred.grad.isfinite().all()


def test_float32_overlap_never_exceeds_one():
    # Rounding is monotonic: the intersection is at most either area, the union at least the intersection.
    target = pairs(50_000, torch.float32)[1]
    noise = torch.rand(target.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    for scale in (1e-7, 1e-6, 1e-5):
        assert similarity.iou(target * (1 + scale * noise), target).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing(name):
    pred, target = pairs(dtype=torch.float32)
    expected = resolve(name)(pred, target)
    with torch.autocast("cpu", torch.bfloat16):
        value = resolve(name)(pred, target)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)

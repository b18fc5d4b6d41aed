"""Box losses that are more than a similarity."""

import pytest
import torch
import torch.nn.functional as F

from losses.gaussian import nwd
from losses.regression import BoxLoss, RunningMean, SimilarityLoss, SmoothL1Loss, WiseIoUV2Loss, WiseIoUV3Loss
from losses.similarity import iou, wise_iou
from losses.tunable import NWD

TARGET = torch.tensor([[0.0, 0.0, 8.0, 8.0], [20.0, 20.0, 36.0, 28.0], [50.0, 50.0, 54.0, 54.0]])
PRED = TARGET + torch.tensor([[1.0, 0.0, 2.0, 1.0], [-3.0, 2.0, 0.0, 1.0], [2.0, 1.0, 2.0, 2.0]])
WEIGHT = torch.tensor([0.9, 0.5, 0.3])
NORMALISER = WEIGHT.sum().clamp(min=1)


def test_similarity_loss():
    loss, factors = SimilarityLoss("iou")(PRED, TARGET, WEIGHT, NORMALISER)
    torch.testing.assert_close(loss, (WEIGHT * (1 - iou(PRED, TARGET))).sum() / 1.7)
    assert factors.tolist() == [1, 1, 1]
    tuned, _ = SimilarityLoss(NWD(20))(PRED, TARGET, WEIGHT, NORMALISER)
    torch.testing.assert_close(tuned, (WEIGHT * (1 - nwd(PRED, TARGET, 20))).sum() / 1.7)


def test_running_mean():
    # Half-life 1: each batch counts one half. From 1: (1 + 3) / 2 = 2, then (2 + 5) / 2 = 3.5.
    mean = RunningMean(half_life=1)
    assert mean(torch.tensor([2.0, 4.0])) == 2
    assert mean(torch.zeros(0)) == 2  # a batch without a value
    assert mean(torch.tensor([5.0])) == 3.5
    assert mean.eval()(torch.tensor([9.0])) == 3.5
    assert mean.train()(torch.tensor([3.5])) == 3.5


def test_running_mean_halves_in_its_half_life():
    mean = RunningMean(half_life=100)
    for _ in range(100):
        mean(torch.zeros(1))
    torch.testing.assert_close(mean.mean, torch.tensor(0.5))


@pytest.mark.parametrize("cls", [WiseIoUV2Loss, WiseIoUV3Loss])
def test_running_mean_is_checkpointed(cls):
    first, second = cls(half_life=2), cls(half_life=2)
    first(PRED, TARGET, WEIGHT, NORMALISER)
    second.load_state_dict(first.state_dict())
    assert first.running_mean.mean != 1
    assert second.running_mean.mean == first.running_mean.mean
    batch = (PRED + 0.5, TARGET, WEIGHT, NORMALISER)
    torch.testing.assert_close(second(*batch), first(*batch))


def test_wise_iou_focus():
    # Half-life 1: the mean moves half-way from 1 to the batch's mean of 1 - IoU.
    cost = 1 - iou(PRED, TARGET)
    beta = cost / ((1 + cost.mean()) / 2)
    plain = WEIGHT * (1 - wise_iou(PRED, TARGET))
    v2, factors = WiseIoUV2Loss(half_life=1)(PRED, TARGET, WEIGHT, NORMALISER)
    torch.testing.assert_close(v2, (plain * beta.sqrt()).sum() / NORMALISER)
    assert factors.tolist() == [1, 1, 1]
    v3, _ = WiseIoUV3Loss(half_life=1)(PRED, TARGET, WEIGHT, NORMALISER)
    torch.testing.assert_close(v3, (plain * beta / (3 * 1.9 ** (beta - 3))).sum() / NORMALISER)


@pytest.mark.parametrize("loss", [WiseIoUV2Loss(half_life=1), WiseIoUV3Loss(half_life=1)])
def test_wise_iou_focus_has_no_gradient(loss):
    pred = PRED.clone().requires_grad_()
    value, _ = loss.eval()(pred, TARGET, WEIGHT, NORMALISER)
    plain = torch.autograd.grad((1 - wise_iou(pred, TARGET)).sum(), pred, retain_graph=True)[0]
    gradient = torch.autograd.grad(value, pred)[0]
    scale = (gradient * plain).sum(-1, keepdim=True) / plain.square().sum(-1, keepdim=True)
    torch.testing.assert_close(gradient, scale * plain)


def test_wise_iou_v3_favours_middling_boxes():
    # r = beta / (delta alpha^(beta - delta)) peaks at beta = 1 / ln alpha = 1.56 and is 1 at beta = delta.
    loss = WiseIoUV3Loss().eval()  # running mean 1: beta is 1 - IoU, at most 1
    loss.running_mean.mean.fill_(0.2)  # beta up to 5
    pred = torch.tensor([[0.3, 0, 10.3, 10], [1.8, 0, 11.8, 10], [10.0, 0, 20, 10]])  # IoU 0.94, 0.69, 0
    target = torch.tensor([[0.0, 0, 10, 10]]).expand(3, 4)
    ratio = [
        (loss(p[None], t[None], torch.ones(1), torch.ones(()))[0] / (1 - wise_iou(p, t))).item()
        for p, t in zip(pred, target, strict=True)
    ]
    assert ratio[1] > 2 * ratio[0]
    assert ratio[1] > 2 * ratio[2]


def test_smooth_l1():
    loss, factors = SmoothL1Loss(beta=0.5, unit=4)(PRED, TARGET, WEIGHT, NORMALISER)
    errors = F.smooth_l1_loss(PRED / 4, TARGET / 4, beta=0.5, reduction="none")
    torch.testing.assert_close(loss, (errors.sum(-1) / 4 * WEIGHT).sum() / NORMALISER)
    assert factors.tolist() == [1, 1, 1]


def test_smooth_l1_meets_the_iou_gradient_at_one_unit():
    # Both 16 px boxes are shifted by 8 px, that is 0.5 units, beyond beta; the gradients of the shift agree
    # within a factor of two.
    target = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    shift = torch.tensor(8.0, requires_grad=True)
    pred = target + torch.stack((shift, torch.zeros(()), shift, torch.zeros(())))
    one = torch.ones(1)
    gradients = [
        torch.autograd.grad(loss(pred, target, one, torch.ones(()))[0], shift, retain_graph=True)[0]
        for loss in (SmoothL1Loss(), SimilarityLoss("iou"))
    ]
    assert 0.5 < gradients[0] / gradients[1] < 2


@pytest.mark.parametrize("cls", [SimilarityLoss, SmoothL1Loss, WiseIoUV2Loss, WiseIoUV3Loss])
def test_no_positive_is_a_connected_zero(cls):
    loss: BoxLoss = cls()
    pred = torch.zeros(0, 4, requires_grad=True)
    value, factors = loss(pred, torch.zeros(0, 4), torch.zeros(0), torch.ones(()))
    assert value == 0
    assert factors.shape == (0,)
    value.backward()
    assert pred.grad is not None

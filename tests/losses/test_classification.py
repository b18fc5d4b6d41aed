"""Sparse classification losses against dense references."""

from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from losses.classification import (
    BCELoss,
    ClassificationLoss,
    ClassTargets,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    QualityFocalLoss,
    VarifocalLoss,
)

N, C = 40, 3
POINT, LABEL = torch.tensor([3, 4, 17, 30]), torch.tensor([0, 2, 1, 1])
SCORE = torch.tensor([0.9, 0.4, 0.75, 0.05], dtype=torch.float64)
IGNORED = torch.tensor([0, 5, 6, 39])
ONES, WEIGHTS = torch.ones(C, dtype=torch.float64), torch.tensor([0.5, 1, 3], dtype=torch.float64)
ALL = ClassificationLoss.__subclasses__()


def inputs(positives: bool = True, weights=WEIGHTS):
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(N, C, generator=generator, dtype=torch.float64) - 2).requires_grad_()
    valid = torch.ones(N, dtype=torch.float64).index_fill(0, IGNORED, 0)
    if positives:
        return logits, ClassTargets(valid, POINT, LABEL, SCORE, SCORE.sum().clamp(min=1), weights)
    none = torch.zeros(0, dtype=torch.int64)
    return logits, ClassTargets(valid, none, none, SCORE[:0], torch.ones((), dtype=torch.float64), weights)


def dense(weights):
    """Targets (N, C) and the weights of all entries, 0 for ignored ones."""
    target = torch.zeros(N, C, dtype=torch.float64)
    target[POINT, LABEL] = SCORE
    mask = weights.repeat(N, 1)
    mask[IGNORED] = 0
    return target, mask


def bce(logits, weights):
    target, mask = dense(weights)
    return F.binary_cross_entropy_with_logits(logits, target, weight=mask, reduction="sum") / SCORE.sum()


def cross_entropy(logits, weights):
    # A background class of logit 0 in front; it takes what the positive leaves. A point has one weight: its
    # class's, 1 in the background.
    target, mask = dense(ONES)
    mask[POINT, 0] = weights[LABEL]
    target = torch.cat((1 - target.sum(-1, keepdim=True), target), -1)
    with_background = torch.cat((torch.zeros(N, 1, dtype=torch.float64), logits), -1)
    return (F.cross_entropy(with_background, target, reduction="none") * mask[:, 0]).sum() / SCORE.sum()


def focal(logits, weights):
    target, mask = dense(weights)
    return (sigmoid_focal_loss(logits, (target > 0).double(), 0.25, 2.0) * mask).sum() / len(POINT)


def quality_focal(logits, weights):
    target, mask = dense(weights)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((target - logits.sigmoid()) ** 2 * entropy * mask).sum() / SCORE.sum()


def varifocal(logits, weights):
    target, mask = dense(weights)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = torch.where(target > 0, target, 0.75 * logits.sigmoid() ** 2)
    return (weight * entropy * mask).sum() / SCORE.sum()


def dice(logits, weights):
    target, mask = dense(weights)
    p = logits.sigmoid()
    sizes = ((p.square() + target.square()) * mask).sum()
    return 1 - (2 * (p * target * mask).sum() + 1) / (sizes + 1)


@pytest.mark.parametrize("weights", [ONES, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (BCELoss(), bce),
        (CrossEntropyLoss(), cross_entropy),
        (FocalLoss(), focal),
        (QualityFocalLoss(), quality_focal),
        (VarifocalLoss(), varifocal),
        (DiceLoss(), dice),
    ],
    ids=lambda case: getattr(case, "__name__", ""),
)
def test_equals_the_dense_form(loss, reference, weights):
    logits, targets = inputs(weights=weights)
    ours, theirs = loss(logits, targets), reference(logits, weights)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("cls", ALL)
def test_ignored_points_have_no_gradient_and_all_others_do(cls):
    logits, targets = inputs()
    cls()(logits, targets).backward()
    assert (logits.grad[IGNORED] == 0).all()
    others = torch.ones(N, dtype=torch.bool).index_fill(0, IGNORED, False)
    assert (logits.grad[others] != 0).all()


@pytest.mark.parametrize("cls", ALL)
def test_without_positives_it_is_positive_and_pushes_down(cls):
    logits, targets = inputs(positives=False)
    loss = cls()(logits, targets)
    assert loss > 0
    loss.backward()
    assert (logits.grad >= 0).all()
    assert logits.grad.sum() > 0


@pytest.mark.parametrize(
    "loss",
    [*(cls() for cls in ALL), FocalLoss(gamma=0.5), VarifocalLoss(gamma=0.5)],
    ids=lambda loss: f"{type(loss).__name__}{getattr(loss, 'gamma', '')}",
)
def test_extreme_logits_stay_finite(loss):
    logits, targets = inputs()
    extreme = (logits.detach().float() * 1000).requires_grad_()
    values = {field.name: getattr(targets, field.name) for field in fields(targets)}
    single = {name: value.float() if value.is_floating_point() else value for name, value in values.items()}
    value = loss(extreme, ClassTargets(**single))
    value.backward()
    assert value.isfinite()
    assert extreme.grad.isfinite().all()


def test_one_class_softmax_is_the_binary_loss():
    logits, targets = inputs()
    one = (logits[:, :1], replace(targets, label=torch.zeros_like(LABEL), weights=ONES[:1]))
    torch.testing.assert_close(CrossEntropyLoss()(*one), BCELoss()(*one))


def test_focal_without_focus_is_half_the_binary_loss_of_hard_targets():
    logits, targets = inputs()
    hard = replace(targets, score=torch.ones_like(SCORE), normaliser=torch.tensor(float(len(POINT))).double())
    torch.testing.assert_close(FocalLoss(alpha=0.5, gamma=0)(logits, targets), BCELoss()(logits, hard) / 2)


@pytest.mark.parametrize("cls", [BCELoss, CrossEntropyLoss, QualityFocalLoss])
def test_class_weights_leave_the_minimum_where_it_is(cls):
    # Probabilities that meet their targets, at a positive and at its point's other classes (probability 0).
    target = SCORE[:1]
    at = torch.logit(target)
    logits = torch.full((1, C), -40.0, dtype=torch.float64)
    logits[0, 2] = at
    logits.requires_grad_()
    zero = torch.zeros(1, dtype=torch.int64)
    loss = cls()(logits, ClassTargets(ONES[:1], zero, zero + 2, target, ONES[0], WEIGHTS))
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))

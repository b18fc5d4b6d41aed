"""Losses by name."""

from typing import get_args

import pytest
import torch

from losses.classification import ClassificationLoss
from losses.named import BoxLossName, ClassificationName, named_box_loss, named_classification_loss
from losses.regression import BoxLoss
from losses.size_aware import HybridLoss

BOX_NAMES, CLASS_NAMES = get_args(BoxLossName), get_args(ClassificationName)


@pytest.mark.parametrize("name", BOX_NAMES)
def test_every_box_name_builds(name):
    assert isinstance(named_box_loss(name), BoxLoss)


def test_hybrid_scaled_is_hybrid_over_99():
    scaled = named_box_loss("hybrid_scaled")
    assert scaled.gain == HybridLoss().gain / 99
    data = torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([[1.0, 0, 9, 8]]), torch.ones(1), torch.ones(())
    scaled.calibrated = False
    torch.testing.assert_close(99 * scaled(*data)[0], HybridLoss(calibrated=False)(*data)[0])


def ours(base):
    """Subclasses in our own package; tests and examples have others."""
    return {cls for cls in base.__subclasses__() if cls.__module__.startswith("losses.")}


def test_every_loss_class_is_reachable_by_name():
    assert {type(named_box_loss(name)) for name in BOX_NAMES} == ours(BoxLoss)
    assert {type(named_classification_loss(name)) for name in CLASS_NAMES} == ours(ClassificationLoss)

"""Similarities by name and with constants of one's own."""

import inspect
from typing import get_args

import pytest
import torch

from losses import gaussian, similarity
from losses.tunable import NWD, Similarity, SimilarityName, SIoU, resolve

FUNCTIONS = vars(similarity) | vars(gaussian)
CLASSES = [cls for cls in Similarity.__subclasses__() if cls.__module__ == "losses.tunable"]
BY_CLASS = {
    "CIoUNWD": "ciou_nwd",
    "AlphaIoU": "alpha_iou",
    "InnerIoU": "inner_iou",
    "FocalerIoU": "focaler_iou",
    "ShapeIoU": "shape_iou",
}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_class_holds_the_parameters_of_its_function(cls):
    b = torch.tensor([[4.0, 4, 20, 12], [0, 0, 7, 5], [30, 10, 80, 60]], dtype=torch.float64)
    a = b + torch.tensor([1.0, -2, 4, 0.5])
    name = BY_CLASS.get(cls.__name__, cls.__name__.lower())
    function = FUNCTIONS[name]
    parameters = {
        key: parameter.default
        for key, parameter in inspect.signature(function).parameters.items()
        if key not in ("a", "b")
    }
    assert {
        key: parameter.default for key, parameter in inspect.signature(cls).parameters.items()
    } == parameters
    torch.testing.assert_close(cls()(a, b), function(a, b))
    for key, value in parameters.items():  # each one arrives where it belongs
        changed = {key: value * 0.5 if value else 0.7}
        torch.testing.assert_close(cls(**changed)(a, b), function(a, b, **changed))
        assert (cls(**changed)(a, b) - cls()(a, b)).abs().max() > 1e-7


def test_names_are_functions():
    for name in get_args(SimilarityName):
        assert resolve(name) is FUNCTIONS[name]
    tuned = NWD(8)
    assert resolve(tuned) is tuned


@pytest.mark.parametrize("theta", [0.5, float("nan")])
def test_an_exponent_without_a_gradient(theta):
    with pytest.raises(ValueError, match=r"theta is (0\.5|nan), but must be at least 1"):
        SIoU(theta)
    assert SIoU(1).theta == 1

"""The two forms in which the command line takes a loss: a name, or a class with its own parameters."""

import pytest
from jsonargparse import ArgumentParser, Namespace

from losses.classification import FocalLoss
from losses.detection import DetectionLoss
from losses.regression import SimilarityLoss, WiseIoUV3Loss
from losses.size_aware import HybridLoss
from losses.tunable import NWD


class Model:
    """Stands for the detector's module.

    Args:
        loss: the total loss.
    """

    def __init__(self, loss: DetectionLoss) -> None:
        self.loss = loss


def parse(*arguments: str) -> DetectionLoss:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Model, "model")
    config: Namespace = parser.parse_args([f"--model.loss.{argument}" for argument in arguments])
    return parser.instantiate(config).model.loss


def test_command_line_takes_a_name():
    assert isinstance(parse().box, SimilarityLoss)
    assert isinstance(parse("box=hybrid").box, HybridLoss)
    assert isinstance(parse("box=wise_iou_v3").box, WiseIoUV3Loss)
    assert isinstance(parse("classification=focal").classification, FocalLoss)
    assert parse("box=ciou", "gain_box=5").gain_box == 5


def test_command_line_takes_class_weights():
    assert parse().class_weights.ndim == 0
    assert parse("class_weights=[1, 2.5]").class_weights.tolist() == [1, 2.5]


def test_command_line_takes_a_tuned_object():
    box = parse("box=HybridLoss", "box.gamma=2", "box.calibrated=false").box
    assert isinstance(box, HybridLoss)
    assert (box.gamma, box.calibrated) == (2.0, False)
    box = parse("box=HybridLoss", "box.similarity=NWD", "box.similarity.constant=20").box
    assert box.similarity == NWD(20)
    box = parse("box=SimilarityLoss", "box.similarity=NWD", "box.similarity.constant=20").box
    assert isinstance(box, SimilarityLoss)
    assert box.similarity == NWD(20)
    assert parse("classification=FocalLoss", "classification.gamma=1").classification.gamma == 1


@pytest.mark.parametrize("wrong", [["box=cious"], ["box=hybrid", "box.gamma=2"], ["classification=ce"]])
def test_command_line_names_the_choices(wrong):
    with pytest.raises(Exception, match=r"'bce'" if "classification" in wrong[0] else r"'hybrid_scaled'"):
        parse(*wrong)

"""Norms with common statistics, as far as a CPU knows them: in evaluation."""

import copy

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from detector.networks.base import DetectionNetwork
from detector.networks.fusion import fuse
from detector.networks.network import Network
from detector.networks.norms import synchronised
from detector.networks.yolov9.network import YOLOv9
from detector.training.norm_statistics import CommonNorms
from pinpoint.cli.detection import DetectionCLI


def of_timm() -> Network:
    return Network(2, (64, 64), "mobilenetv4_conv_small_050", strides=(8, 16), channels=16)


@pytest.fixture(scope="module", params=[of_timm, lambda: YOLOv9(2, (64, 64), "t")], ids=["timm", "yolov9"])
def network(request: pytest.FixtureRequest) -> DetectionNetwork:
    """With norms that do something."""
    torch.manual_seed(0)
    made = request.param().eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return made


def logits(network: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return network(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))).logits


def kinds(network: nn.Module) -> list[type]:
    return [type(module) for module in network.modules()]


def test_conversion_changes_neither_predictions_nor_names(network: DetectionNetwork) -> None:
    converted = synchronised(copy.deepcopy(network))
    assert not {nn.BatchNorm2d, BatchNormAct2d} & set(kinds(converted))
    assert list(converted.state_dict()) == list(network.state_dict())
    assert torch.equal(logits(converted), logits(network))
    assert [p.shape for p in converted.parameters()] == [
        p.shape for p in network.parameters()
    ]  # of the average


def test_they_are_folded_for_validation_like_others(network: DetectionNetwork) -> None:
    folded, expected = fuse(synchronised(copy.deepcopy(network))), fuse(network)
    assert kinds(folded) == kinds(expected)
    assert torch.equal(logits(folded), logits(expected))


def test_conversion_back_leaves_nothing_behind(network: DetectionNetwork) -> None:
    plugin = CommonNorms()
    again = plugin.revert(plugin.apply(copy.deepcopy(network)))
    assert kinds(again) == kinds(network)
    for now, before in zip(again.modules(), network.modules(), strict=True):
        if isinstance(before, nn.BatchNorm2d):
            assert (now.eps, now.momentum, now.training) == (before.eps, before.momentum, before.training)
    assert torch.equal(logits(again), logits(network))
    assert list(again.state_dict()) == list(network.state_dict())


def test_torchs_own_conversion_loses_activations() -> None:
    # The reason for all this: no error, other predictions. When this fails, timm's norms need no care.
    plain = of_timm().eval()
    assert not torch.allclose(
        logits(nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain))), logits(plain)
    )


def test_on_a_cpu_one_sentence_says_where_it_works() -> None:
    options = ["--data=ScenesDataModule", "--trainer.accelerator=cpu", "--trainer.logger=false"]
    options += ["--model.network.backbone=mobilenetv4_conv_small_050", "--trainer.sync_batchnorm=true"]
    DetectionCLI([*options, "--trainer.devices=1"])  # there is nothing to bring together
    with pytest.raises(ValueError, match="on GPUs alone; leave it out on a CPU"):
        DetectionCLI([*options, "--trainer.devices=2", "--trainer.strategy=ddp"])

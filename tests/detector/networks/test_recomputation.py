import copy

import formula
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from detector.networks.base import DetectionNetwork
from detector.networks.network import Network
from detector.networks.recomputation import recomputed
from detector.networks.yolov9.network import YOLOv9


def step(network: DetectionNetwork, images: Tensor) -> tuple[Tensor, int]:
    """A loss of both outputs, after its backward pass, and the bytes that were kept for that."""
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        predictions = network(images)
        loss = predictions.logits.square().sum() + predictions.distances.square().sum()
    loss.backward()
    return loss, sum(kept.values())


@pytest.mark.parametrize(
    "network",
    [
        Network(2, (64, 64), "mobilenetv4_conv_small_050", channels=16),
        Network(2, (64, 64), "resnet10t", channels=16),
        YOLOv9(2, (64, 64), size="t"),
    ],
    ids=["mobilenetv4", "resnet10t", "yolov9"],
)
def test_the_step_is_the_same_and_keeps_less(network: DetectionNetwork) -> None:
    network.load_state_dict(formula.fill(network.state_dict()))
    before, again = copy.deepcopy(network.state_dict()), copy.deepcopy(network).train()
    network.train()
    images = formula.image(64, 96).float().expand(2, -1, -1, -1)
    loss, kept = step(network, images)
    with recomputed(again):
        other, less = step(again, images)
    assert torch.equal(other, loss)
    assert less < kept / 2
    for (name, one), two in zip(network.named_parameters(), again.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(two.grad, one.grad, msg=name)
    # The running statistics of norms and their counts, moved once.
    assert all(map(torch.equal, network.state_dict().values(), again.state_dict().values()))
    for name, buffer in again.state_dict().items():
        assert torch.equal(buffer, before[name] + 1) or not name.endswith("num_batches_tracked")
        assert not torch.equal(buffer, before[name]) or not name.endswith("running_mean")


def test_the_network_is_as_it_was_afterwards() -> None:
    network = Network(2, (64, 64), "mobilenetv4_conv_small_050", channels=16)
    before = {name: set(vars(module)) for name, module in network.named_modules()}
    with pytest.raises(RuntimeError), recomputed(network):
        network(torch.zeros(2, 5, 64, 64))
    assert before == {name: set(vars(module)) for name, module in network.named_modules()}


def test_a_block_that_changes_its_input_is_refused() -> None:
    network = nn.ModuleDict({"a": nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(1, 1, 1))})
    said = r"Sequential of this backbone changes its input in place"
    with recomputed(network), pytest.raises(ValueError, match=said):
        network.a(torch.ones(1, 1, 2, 2))

import formula
import pytest
import torch
from torch import Tensor, nn

from detector.networks.base import DetectionNetwork
from detector.networks.fusion import Activated, activate, fuse
from detector.networks.network import Network
from detector.networks.yolov9.network import YOLOv9


@pytest.mark.parametrize(
    "network",
    [
        YOLOv9(3, size="t", strides=(4, 8, 16, 32)),
        YOLOv9(3, size="m"),
        Network(3, backbone="mobilenetv4_conv_small_050", channels=16),
    ],
    ids=["t", "m", "mobilenetv4"],
)
def test_a_fused_network_predicts_the_same(network: DetectionNetwork) -> None:
    network.load_state_dict(formula.fill(network.state_dict()))
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    image = formula.image(64, 96).float()
    fused = fuse(network)
    with torch.no_grad():
        before, after = network.eval()(image), fused(image)
    assert before.logits.std() > 0.01  # an answer to the image, not a constant
    torch.testing.assert_close(after.logits, before.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(after.distances, before.distances, rtol=0, atol=1e-5)
    torch.testing.assert_close(after.boxes() / 96, before.boxes() / 96, rtol=0, atol=1e-5)
    assert all(map(torch.equal, weights.values(), network.state_dict().values()))
    assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]


def test_convolutions_that_compute_their_activations_predict_the_same() -> None:
    network = Network(3, backbone="mobilenetv4_conv_small_050", channels=16)
    network.load_state_dict(formula.fill(network.state_dict()))
    fused = fuse(network)
    activated = activate(fused)
    # Copies share nothing, and two of them run beside each other on batches of other shapes.
    for shape in ((1, 64, 96), (3, 128, 64)):
        image = torch.rand(shape[0], 3, *shape[1:])
        with torch.inference_mode():
            before, after = fused(image), activated(image)
        torch.testing.assert_close(after.logits, before.logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(after.boxes() / 128, before.boxes() / 128, rtol=0, atol=1e-5)
    assert sum(isinstance(m, Activated) for m in activated.modules()) > 30
    assert not [m for m in activated.modules() if isinstance(m, nn.SiLU)]
    assert [m for m in fused.modules() if isinstance(m, nn.SiLU)]


def test_without_the_operation_a_network_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    network = fuse(Network(3, backbone="mobilenetv4_conv_small_050", channels=16))
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert activate(network) is network


class Leaking(nn.Module):
    """A backbone that goes on with what its convolution gives, beside the norm of it."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.conv, self.norm = backbone, nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.norm.running_var.fill_(4)

    def forward(self, images: Tensor) -> list[Tensor]:
        made = self.conv(images)
        return self.backbone(made + self.norm(made))


def test_a_backbone_that_cannot_be_folded_stays_as_it_is() -> None:
    network = Network(3, backbone="mobilenetv4_conv_small_050", channels=16)
    network.load_state_dict(formula.fill(network.state_dict()))
    network.backbone = Leaking(network.backbone)
    image = formula.image(64, 96).float()
    fused = fuse(network)
    with torch.no_grad():
        torch.testing.assert_close(fused(image).logits, network.eval()(image).logits, rtol=0, atol=1e-5)
    assert [m for m in fused.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not [m for m in fused.neck.modules() if isinstance(m, nn.BatchNorm2d)]

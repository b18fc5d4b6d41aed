import formula
import pytest
import torch
from torch import nn

from detector.networks.base import DetectionNetwork
from detector.networks.fusion import fuse
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
    for part in (fused.neck, fused.head):
        assert not [m for m in part.modules() if isinstance(m, nn.BatchNorm2d)]

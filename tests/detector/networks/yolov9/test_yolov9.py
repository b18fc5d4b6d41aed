import json
from pathlib import Path

import formula
import pytest
import torch
from tiny import tiny_scenes

from detector.networks.base import count
from detector.networks.fusion import fuse
from detector.networks.yolov9.network import YOLOv9
from pinpoint.cli.detection import DetectionCLI

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())
"""Sums over the outputs of the implementation that the public weights belong to, with `formula`'s tensors."""


def filled(size: str, classes: int = 80, **options: object) -> YOLOv9:
    """A network in float64 whose every tensor follows from its name."""
    network = YOLOv9(classes, size=size, **options).double().eval()
    network.load_state_dict(formula.fill(network.state_dict()))
    return network


# Parameters as published (Wang, Yeh and Liao 2024, table 1: 2.0, 7.1, 20.0, 25.3 M after fusion), to the last
# one by the reference implementation; GMACs are half of the published 7.7, 26.4, 76.3, 102.1 GFLOPs.
@pytest.mark.parametrize(
    ("size", "parameters", "auxiliary", "deployed", "gmacs"),
    [
        ("t", 2_036_544, 2_905_488, 2_001_824, 3.86),
        ("s", 7_226_192, 9_804_480, 7_105_872, 13.19),
        ("m", 20_123_984, 32_878_400, 19_978_656, 38.15),
        ("c", 25_498_736, 51_182_048, 25_288_752, 51.07),
    ],
)
def test_parameters_and_macs(size: str, parameters: int, auxiliary: int, deployed: int, gmacs: float) -> None:
    with torch.device("meta"):
        network, larger = YOLOv9(80, size=size), YOLOv9(80, size=size, auxiliary=True)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert sum(p.numel() for p in larger.parameters()) == auxiliary
    fused = fuse(network.to_empty(device="cpu"))
    assert sum(p.numel() for p in fused.parameters()) == deployed
    _, macs = count(fused, (64, 64))  # a hundredth of 640 x 640
    assert macs * 100 / 1e9 == pytest.approx(gmacs, rel=0.01)


def test_stride_4_costs_far_less_than_a_dense_head_would() -> None:
    # Dense, the level would double the cost to 7.75 GMACs.
    with torch.device("meta"):
        network = YOLOv9(80, size="t", strides=(4, 8, 16, 32))
    _, macs = count(fuse(network.to_empty(device="cpu")), (64, 64))
    assert macs * 100 / 1e9 < 5.6


@pytest.mark.parametrize("size", ["t", "s", *(pytest.param(s, marks=pytest.mark.slow) for s in "mc")])
def test_outputs_are_those_of_the_implementation_that_the_public_weights_belong_to(size: str) -> None:
    classes = 40 if size == "t" else 80
    network, golden = filled(size, classes, auxiliary=True), GOLDEN[size]
    image = formula.image(64, 96)
    with torch.no_grad():
        backbone = network.backbone(image)
        maps = network.neck(backbone)
        predictions, auxiliary = network(image), network.auxiliary(image, backbone)
    assert [m.abs().sum().item() for m in maps] == pytest.approx(golden["maps"], rel=1e-10)
    assert predictions.logits.sum().item() == pytest.approx(golden["logits"], rel=1e-10)
    assert predictions.logits.abs().sum().item() == pytest.approx(golden["logits_abs"], rel=1e-10)
    assert predictions.distances.abs().sum().item() == pytest.approx(golden["distances_abs"], rel=1e-10)
    assert auxiliary.logits.sum().item() == pytest.approx(golden["auxiliary_logits"], rel=1e-10)
    # Decoded in float32.
    assert predictions.boxes().sum((0, 1)).tolist() == pytest.approx(golden["boxes"], rel=1e-6)
    assert auxiliary.boxes().sum((0, 1)).tolist() == pytest.approx(golden["auxiliary_boxes"], rel=1e-6)


@pytest.mark.parametrize("strides", [(8, 16, 32), (4, 8, 16, 32), (4, 8, 16), (8,), (16, 32)])
def test_every_parameter_learns(strides: tuple[int, ...]) -> None:
    network = YOLOv9(2, (64, 64), "t", strides)
    predictions = network(torch.rand(2, 3, 64, 64))
    assert predictions.strides.unique().tolist() == list(strides)
    (predictions.logits.square().sum() + predictions.boxes().square().sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("size", ["t", "m"])  # one for each kind of branch
def test_the_auxiliary_branch_takes_part_in_training_alone(size: str) -> None:
    network, images = YOLOv9(2, (64, 64), size, auxiliary=True), torch.rand(2, 3, 64, 64)
    predictions = network(images)
    for one in (predictions, predictions.auxiliary):
        (one.logits.square().sum() + one.boxes().square().sum()).backward(retain_graph=True)
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    assert predictions.auxiliary.logits.shape == predictions.logits.shape
    assert network.eval()(images).auxiliary is None


def test_any_image_size_passes() -> None:
    predictions = YOLOv9(1, size="t", strides=(4, 8, 16, 32)).eval()(torch.rand(1, 3, 75, 101))
    # Each step halves and rounds up in the first two, down in the others: 19 x 26, 9 x 13, 4 x 6, 2 x 3.
    assert len(predictions.points) == 19 * 26 + 9 * 13 + 4 * 6 + 2 * 3


@pytest.mark.parametrize("strides", [(8, 32), (2, 4), (), (16, 8), (32, 64)])
def test_strides_that_are_no_neighbours_are_refused(strides: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be neighbours among \[4, 8, 16, 32\]"):
        YOLOv9(1, strides=strides)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match="sizes t, s, m, c, not 'x'"):
        YOLOv9(1, size="x")


@pytest.mark.parametrize(("network", "fill"), [("YOLOv9", 114), ("Network", 127)])
def test_images_get_the_grey_around_them_that_the_weights_know(
    tmp_path: Path, network: str, fill: int
) -> None:
    options = [*tiny_scenes(tmp_path, images=2), "--trainer.logger=false", f"--model.network={network}"]
    # The scenes are square: a wide canvas has grey on both sides, in training up to the shift.
    options += ["--data.image_size=[96,384]", "--data.augment.translate=0"]
    cli = DetectionCLI(options, keep_config=False)
    cli.datamodule.prepare_data()
    cli.datamodule.setup("fit")
    for loader in (cli.datamodule.train_dataloader(), cli.datamodule.val_dataloader()):
        assert (next(iter(loader)).images == fill).float().mean() > 0.2

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm import create_model
from torch._dynamo.testing import CompileCounter

from detector.networks.backbone import Backbone
from detector.networks.base import count
from detector.networks.neck import PAN
from detector.networks.network import Network

TINY = "mobilenetv4_conv_small_050"


def test_the_nano_network_keeps_its_budget() -> None:
    # At 320 px on strides 8 to 32, next to YOLO11n's 2.59 M and 0.81 GMACs.
    parameters, macs = count(Network(80, (320, 320), channels=80), (320, 320))
    assert parameters <= 2.6e6
    assert macs <= 0.85e9


def test_macs_grow_with_the_area_and_counting_changes_nothing() -> None:
    network = Network(1, (64, 64), TINY, channels=16)
    weights = [p.clone() for p in network.state_dict().values()]
    _, small = count(network, (64, 64))
    _, large = count(network, (128, 128))
    assert large == 4 * small
    assert network.training
    assert all(map(torch.equal, weights, network.state_dict().values()))


@pytest.mark.parametrize("strides", [(4, 8, 16), (8, 16, 32), (4, 8, 16, 32), (8,)])
def test_levels_can_be_chosen(strides: tuple[int, ...]) -> None:
    predictions = Network(3, (64, 96), TINY, strides=strides, channels=16)(torch.rand(2, 3, 64, 96))
    points = sum((64 // s) * (96 // s) for s in strides)
    assert predictions.logits.shape == (2, points, 3)
    assert predictions.distances.shape == (2, points, 4, 16)
    assert predictions.points.shape == (points, 2)
    assert predictions.strides.unique().tolist() == list(strides)


def test_any_image_size_passes() -> None:
    network = Network(1, (64, 64), TINY, channels=16).eval()
    predictions = network(torch.rand(1, 3, 75, 101))  # not a multiple of any stride
    assert len(predictions.points) == 10 * 13 + 5 * 7 + 3 * 4


@pytest.mark.parametrize("backbone", [TINY, "hgnetv2_b0", "efficientnet_lite0", "resnet18", "convnext_atto"])
def test_every_parameter_learns(backbone: str) -> None:
    # DDP stops at parameters without a gradient, such as those of layers beyond the last level.
    network = Network(2, (64, 64), backbone, strides=(8, 16), channels=16)
    predictions = network(torch.rand(2, 3, 64, 64))
    (predictions.logits.square().sum() + predictions.boxes().square().sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_features_are_timms_own() -> None:
    backbone, images = Backbone(TINY, (4, 8, 16)).eval(), torch.rand(1, 3, 64, 64)
    reference = create_model(TINY, features_only=True, out_indices=[1, 2, 3]).eval()
    weights = {name.removeprefix("features.model."): value for name, value in backbone.state_dict().items()}
    reference.load_state_dict(weights, strict=False)  # its layers beyond the last map stay unused
    assert all(map(torch.equal, backbone(images), reference(images)))


def test_neck_carries_both_ways() -> None:
    neck = PAN([4, 8], channels=8).eval()
    fine, coarse = torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)
    before = neck([fine, coarse])
    moved_coarse, moved_fine = neck([fine, coarse + 1]), neck([fine + 1, coarse])
    assert not torch.equal(before[0], moved_coarse[0])  # context reaches the fine level
    assert not torch.equal(before[1], moved_fine[1])  # detail reaches the coarse level


def test_grey_images_and_more_channels() -> None:
    network = Network(1, (64, 64), TINY, channels=16, in_channels=1)
    assert network.mean.shape == (1, 1, 1)
    assert network(torch.rand(1, 1, 64, 64)).logits.shape == (1, 84, 1)


def test_backbones_that_round_halves_down() -> None:
    network = Network(2, (120, 152), "test_convnext", channels=16)
    predictions = network(torch.rand(1, 3, 120, 152))
    assert [(level.rows, level.columns) for level in predictions.levels] == [(15, 19), (7, 9), (3, 4)]
    predictions.logits.sum().backward()


def test_a_backbone_that_takes_no_odd_sides_says_so() -> None:
    with pytest.raises(ValueError, match="takes no 120 x 152 px, multiples of 32 may do"):
        Network(2, (120, 152), "hrnet_w18_small", channels=16)


def test_a_layout_in_which_torch_computes_rightly() -> None:
    assert Network(2, (64, 64), TINY, channels=16).layout == torch.channels_last
    # Its first layer is a 1x1 convolution of three channels with a stride of 2.
    network = Network(2, (64, 64), "repvgg_a0", channels=16)
    assert network.layout == torch.contiguous_format
    for _ in range(3):
        network(torch.rand(2, 3, 64, 64)).logits.sum().backward()


def test_strides_ascend() -> None:
    with pytest.raises(ValueError, match="strides must ascend, got 16, 8"):
        Network(2, (64, 64), TINY, strides=(16, 8))


def test_an_unknown_backbone_gets_close_names() -> None:
    with pytest.raises(ValueError, match=r"no backbone 'mobilenetv4_conv_smal'.*mobilenetv4_conv_small"):
        Backbone("mobilenetv4_conv_smal", (8,))


def test_a_backbone_without_the_stride_says_which_it_has() -> None:
    with pytest.raises(ValueError, match=r"no features at stride \[2\], only at \[4, 8, 16, 32\]"):
        Backbone("hgnetv2_b0", (2, 4))


def test_a_backbone_whose_maps_are_not_where_timm_says_is_refused() -> None:
    # Convolutions without padding: 192 px end in 21 and 10 cells, not in 24 and 12.
    with pytest.raises(ValueError, match=r"maps of 21 x 29, 10 x 14 at strides \(8, 16\) of 192 x 256 px"):
        Backbone("inception_v3", (8, 16))


@pytest.mark.parametrize(
    ("name", "strides"),
    [("swin_tiny_patch4_window7_224", (4, 8)), ("vit_tiny_patch16_224", (16,)), ("hardcorenas_b", (8, 16))],
)
def test_what_timm_gives_for_one_size_only_is_asked_for_any(name: str, strides: tuple[int, ...]) -> None:
    with torch.device("meta"):
        maps = Backbone(name, strides).eval()(torch.empty(1, 3, 320, 448))
    assert [tuple(one.shape[-2:]) for one in maps] == [(320 // s, 448 // s) for s in strides]


def test_of_several_maps_of_a_stride_the_last_is_taken() -> None:
    # A plain transformer has twelve maps at stride 16, one a block.
    assert Backbone("vit_tiny_patch16_224", (16,)).features.out_indices == [11]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "works"),
    [
        ("convnext_atto", True),
        ("resnet18", True),
        ("repvgg_b0", True),
        ("fastvit_t8", True),
        ("rexnet_100", True),
        ("densenet121", True),
        ("focalnet_tiny_lrf", True),
        ("tiny_vit_5m_224", True),
        ("swinv2_tiny_window8_256", True),
        ("hieradet_small", True),
        ("coat_tiny", False),
        ("cait_xxs24_224", False),
        ("inception_resnet_v2", False),
        ("levit_128", False),
        ("maxvit_tiny_tf_224", False),
        ("xcit_nano_12_p8_224", False),
    ],
)
def test_a_family_of_timm_works_or_is_refused_in_one_message(name: str, works: bool) -> None:
    # All families: benchmarks/backbones.py.
    message, maps = "", []
    with torch.device("meta"):
        try:
            maps = Backbone(name, (8, 16, 32)).eval()(torch.empty(2, 3, 448, 320))
        except ValueError as error:
            message = str(error)
    if works:
        assert [tuple(one.shape[-2:]) for one in maps] == [(56, 40), (28, 20), (14, 10)]
    else:
        assert name in message
        assert "choose" in message
        assert "\n" not in message


def test_weights_from_a_local_file(tmp_path: Path) -> None:
    source = create_model(TINY)
    file = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), file)
    backbone = Backbone(TINY, (8, 16), pretrained=file)
    assert torch.equal(backbone.features.model.conv_stem.weight, source.conv_stem.weight)


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(create_model("resnet10t").state_dict(), file)
    with pytest.raises(ValueError, match="do not fit"):
        Backbone(TINY, (8, 16), pretrained=file)


@pytest.mark.parametrize("prefix", ["", "backbone.", "model.", "module.encoder."])
def test_weights_under_other_names(tmp_path: Path, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = create_model(TINY).state_dict()
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": {prefix + name: value for name, value in source.items()}}, file)
    backbone = Backbone(TINY, (8, 16), pretrained=file)
    assert torch.equal(backbone.features.model.conv_stem.weight, source["conv_stem.weight"])
    assert "100.0% of the backbone's parameters come from the file" in capsys.readouterr().err


def test_weights_that_are_hardly_there_are_refused(tmp_path: Path) -> None:
    source, file = create_model(TINY).state_dict(), tmp_path / "weights.pth"
    torch.save({}, file)
    with pytest.raises(ValueError, match="holds no tensors by name"):
        Backbone(TINY, (8, 16), pretrained=file)
    torch.save(dict(list(source.items())[:60]), file)
    with pytest.raises(ValueError, match=r"\d\.\d% of the backbone's parameters are in the file"):
        Backbone(TINY, (8, 16), pretrained=file)


def test_a_missing_weight_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no weights at .*absent\.bin"):
        Backbone(TINY, (8,), pretrained=tmp_path / "absent.bin")


def test_offline_weights_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", offline)
    with pytest.raises(ValueError, match=r"cannot be downloaded.*pretrained=FILE.*pretrained=false"):
        Backbone(TINY, (8,), pretrained=True)


@pytest.mark.slow
def test_the_compiled_network_is_one_graph_for_images_of_every_size() -> None:
    counter = CompileCounter()  # traces as a compiler would, then runs eagerly
    network = Network(2, (64, 64), "mobilenetv4_conv_small_050", strides=(8, 16), channels=16)
    plain = copy.deepcopy(network)
    network.compile(backend=counter, dynamic=True, fullgraph=True)
    images = [torch.rand(batch, 3, height, 96) for batch, height in ((2, 64), (3, 160))]
    for batch in images:
        trained, expected = network(batch), plain(batch)
        assert torch.equal(trained.logits, expected.logits)
        assert torch.equal(trained.points, expected.points)
    assert counter.frame_count == 1

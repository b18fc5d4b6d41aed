import io
import json
import re
import zlib
from pathlib import Path

import formula
import pytest
import torch
import yaml
from loopback import Site, answer
from safetensors.torch import load_file, save_file
from tiny import TINY_MODEL, Run

import train
from detector.initial_weights import SCENES, start_from
from detector.networks.network import Network
from detector.networks.yolov9 import public_weights
from detector.networks.yolov9.network import YOLOv9
from detector.weights import HUB_WEIGHTS
from pinpoint.cli.detection import DetectionCLI, load_checkpoint

GOLDEN = json.loads((Path(__file__).parent / "networks" / "yolov9" / "golden.json").read_text())
TINY = "mobilenetv4_conv_small_050"


def release(
    size: str = "t", classes: int = 80, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of the public weights, auxiliary branch and all."""
    branch = public_weights.TOP_DOWN_AUXILIARY if size in "ts" else public_weights.ROUTED_AUXILIARY
    layers = {place: number for number, place in (public_weights.LAYERS | branch).items()}
    state = {}
    for name, value in YOLOv9(classes, size=size, auxiliary=True).state_dict().items():
        place = max((p for p in layers if name.startswith(f"{p}.")), key=len)
        rest = name.removeprefix(f"{place}.")
        if place.startswith("auxiliary.routes"):
            rest = f"conv.{rest}"
        for kind, theirs in (("classes", "class"), ("distances", "anchor")):
            for level, stride in enumerate((8, 16, 32)):
                rest = rest.replace(f"{kind}.{stride}.", f"heads.{level}.{theirs}_conv.")
        filled = formula.tensor(name, tuple(value.shape))
        state[f"{layers[place]}.{rest}"] = filled.to(dtype) if value.is_floating_point() else filled
    heads = {key.split(".")[0] for key in state if ".heads." in key}
    for head in heads:
        for level in range(3):
            bins = torch.arange(16, dtype=dtype).reshape(1, 16, 1, 1, 1)
            state[f"{head}.heads.{level}.anc2vec.anc2vec.weight"] = bins
    return state


def saved(content: object, file: Path) -> str:
    torch.save(content, file)
    return str(file)


@pytest.mark.parametrize("size", ["t", "s", "m", "c"])
def test_names_and_shapes_are_those_of_the_reference_implementation(size: str) -> None:
    with torch.device("meta"):
        state = release(size, 40 if size == "t" else 80)
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in state.items())
    assert len(lines) == GOLDEN[size]["keys"]
    assert zlib.crc32("\n".join(lines).encode()) == GOLDEN[size]["keys_crc32"]
    assert public_weights.size_of(state) == size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("prefix", ["", "model.model."])  # the release, and its tool's own checkpoints
def test_public_weights_fill_everything_but_new_classes(
    tmp_path: Path, dtype: torch.dtype, prefix: str
) -> None:
    state = release(dtype=dtype)
    content = {prefix + key: value for key, value in state.items()}
    file = saved({"state_dict": content} if prefix else content, tmp_path / "v9-t.pt")
    network = YOLOv9(3, size="t")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    report = start_from(file, network, ["van", "Car", "person"])
    after = network.state_dict()
    fresh = [name for name in after if torch.equal(after[name], before[name])]
    assert fresh == []  # of the class rows, some
    assert torch.equal(after["backbone.stem.conv.weight"], state["0.conv.weight"].float())
    rows, theirs = after["head.classes.16.2.weight"], state["22.heads.1.class_conv.2.weight"].float()
    assert torch.equal(rows[0], before["head.classes.16.2.weight"][0])  # no van in COCO
    assert torch.equal(rows[1], theirs[2])
    assert torch.equal(rows[2], theirs[0])
    assert "2 of 3 classes kept by name: Car, person" in report
    # Three rows of 80 + 1 numbers on three levels are fresh: 243 of 2,030,370 parameters.
    assert re.search(r"fresh +6 +243 +0\.0%", report)
    # What the release has beyond: the auxiliary branch's 868,944.
    assert re.search(r"left aside +\d+ +8\d{5} .*auxiliary\.top_down", report)


def test_a_level_that_is_added_keeps_the_rest(tmp_path: Path) -> None:
    network = YOLOv9(80, size="t", strides=(4, 8, 16, 32))
    report = start_from(saved(release(), tmp_path / "v9-t.pt"), network, public_weights.COCO)
    filled = YOLOv9(80, size="t")
    filled.load_state_dict(formula.fill(filled.state_dict()))
    state = network.state_dict()
    for name, value in filled.state_dict().items():
        assert torch.equal(state[name], value), name
    assert "80 of 80 classes" in report
    assert "head.classes.4" in report or "neck.downs.8" in report


def test_the_auxiliary_branch_gets_its_weights_too(tmp_path: Path) -> None:
    network = YOLOv9(80, size="m", auxiliary=True)
    report = start_from(saved(release("m"), tmp_path / "v9-m.pt"), network, public_weights.COCO)
    assert re.search(r"fresh +0 +0 ", report)
    assert re.search(r"left aside +0 +0 ", report)


# The download


def test_coco_is_fetched_once(site: Site, tmp_path: Path, monkeypatch, capsys) -> None:
    buffer = io.BytesIO()
    torch.save(release(), buffer)
    data = buffer.getvalue()
    site.files["/v9-t.pt"] = data
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(public_weights, "RELEASE", site.base)
    # It breaks off, goes on, and breaks off again.
    site.answers = [answer(breaks_after=len(data) // 2), answer(breaks_after=1000)]
    report = start_from("coco", YOLOv9(80, size="t"), public_weights.COCO)
    assert "80 of 80 classes" in report
    assert site.sent == len(data)
    assert "MIT licence" in capsys.readouterr().err
    start_from("coco", YOLOv9(80, size="t"), public_weights.COCO)
    assert len(site.requests) == 3
    assert "MIT" not in capsys.readouterr().err  # said once
    folder = tmp_path / "hub" / "checkpoints"
    (folder / "v9-t.pt").write_bytes(data[:-1] + b"x")
    with pytest.raises(ValueError, match="has the SHA-256"):
        start_from("coco", YOLOv9(80, size="t"), public_weights.COCO)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"<!DOCTYPE html><html>Log in", {}, r"not a complete zip archive; it begins with b'<!DOCTYPE html>"),
        (b"PK" + bytes(1000), {"length": 2000, "mark": None}, "broke after 1002 of 2000 bytes"),
        (b"PK" + bytes(1000), {"length": 500}, "not a complete zip archive"),
    ],
    ids=["a page", "more was announced", "less was announced"],
)
def test_what_a_server_should_not_send(
    site: Site, tmp_path: Path, monkeypatch, content: bytes, options: dict[str, object], message: str
) -> None:
    site.files["/v9-t.pt"] = content
    site.answers = [answer(**options)] * 10
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(public_weights, "RELEASE", site.base)
    with pytest.raises(ValueError, match=message) as caught:
        start_from("coco", YOLOv9(80, size="t"), public_weights.COCO)
    file = tmp_path / "hub" / "checkpoints" / "v9-t.pt"
    assert f"{site.base}/v9-t.pt could not be fetched" in str(caught.value)
    assert str(caught.value).endswith(f"put it at {file}")
    assert not file.exists()


# Checkpoints of ours


def test_a_checkpoint_of_other_classes_and_levels(run: Run) -> None:
    # The run: strides 8, 16, 32, classes person, car, truck.
    theirs = torch.load(run.best, weights_only=True)["state_dict"]
    network = Network(2, (64, 64), TINY, strides=(4, 8, 16), channels=16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    report = start_from(str(run.best), network, ["truck", "boat"])
    state = network.state_dict()
    # Level 1 here and level 0 there both have stride 8.
    for ours, their in (
        ("neck.lateral.1.0.weight", "neck.lateral.0.0.weight"),
        ("neck.top_down.1.out.0.weight", "neck.top_down.0.out.0.weight"),
        ("neck.downsample.1.0.weight", "neck.downsample.0.0.weight"),
        ("neck.bottom_up.1.out.0.weight", "neck.bottom_up.0.out.0.weight"),
        ("head.distances.1.2.weight", "head.distances.0.2.weight"),
    ):
        assert torch.equal(state[ours], theirs[f"network.{their}"]), ours
    for name in ("neck.lateral.0.0.weight", "neck.bottom_up.0.out.0.weight", "head.distances.0.2.weight"):
        assert torch.equal(state[name], before[name]), name
    rows = state["head.classes.2.2.bias"]
    assert rows[0] == theirs["network.head.classes.1.2.bias"][2]  # truck
    assert rows[1] == before["head.classes.2.2.bias"][1]  # boat
    assert "1 of 2 classes kept by name: truck" in report


def test_a_plain_state_dict_is_taken_to_end_at_the_same_level(tmp_path: Path) -> None:
    source = Network(2, (64, 64), TINY, strides=(8, 16), channels=16)
    source.load_state_dict(formula.fill(source.state_dict()))
    network = Network(2, (64, 64), TINY, strides=(4, 8, 16), channels=16)
    report = start_from(saved(source.state_dict(), tmp_path / "x.pth"), network, ["a", "b"])
    state, theirs = network.state_dict(), source.state_dict()
    assert torch.equal(state["head.classes.1.2.bias"], theirs["head.classes.0.2.bias"])
    assert torch.equal(state["neck.lateral.2.0.weight"], theirs["neck.lateral.1.0.weight"])
    assert "names no classes" in report


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = saved(release(), tmp_path / "v9-t.pt")
    names = public_weights.COCO
    with pytest.raises(ValueError, match=r"weights of YOLOv9-t: add .*--model\.network\.size=t"):
        start_from(file, YOLOv9(80, size="s"), names)
    with pytest.raises(ValueError, match=r"weights of YOLOv9-t: add --config configs/yolov9_s\.yaml"):
        start_from(file, Network(80, (64, 64), TINY), names)
    with pytest.raises(
        ValueError, match=r"has weights for YOLOv9 alone: add --config configs/yolov9_s\.yaml"
    ):
        start_from("coco", Network(80, (64, 64), TINY), names)
    other = saved({"layer.weight": torch.ones(3)}, tmp_path / "other.pt")
    with pytest.raises(
        ValueError, match=r"has 0\.0% of the parameters.*holds layer\.weight.*pretrained=FILE"
    ):
        start_from(other, YOLOv9(80, size="t"), names)


def test_a_shared_model_is_fetched(tmp_path: Path, monkeypatch) -> None:
    network = Network(2, (64, 64), TINY, strides=(8, 16), channels=16)
    save_file(formula.fill(network.state_dict()), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"class_names": ["a", "b"]}')
    monkeypatch.setattr("detector.hub.snapshot_download", lambda name, **_: {"org/boats": tmp_path}[name])
    report = start_from("hf://org/boats", network, ["b", "c"])
    assert "matched" in report
    assert "1 of 2 classes kept by name: b" in report
    with pytest.raises(ValueError, match=r"hf://org/cars cannot be fetched"):
        start_from("hf://org/cars", network, ["b", "c"])


def test_going_on_and_starting_point_to_each_other(run: Run, tmp_path: Path) -> None:
    network = Network(3, (96, 96), TINY, channels=16)
    report = start_from(str(run.last), network, ["person", "car", "truck"])
    assert report.endswith(f"To go on with the one that wrote them: --ckpt_path={run.last}")
    plain = saved(network.state_dict(), tmp_path / "x.pth")
    assert "--ckpt_path" not in start_from(plain, network, ["person", "car", "truck"])
    for file in (plain, "coco"):
        with pytest.raises(ValueError, match=r"A new training starts from .*weights with --model\.init_from"):
            load_checkpoint(file)


def test_weights_of_a_training_that_failed_are_refused(tmp_path: Path) -> None:
    state = Network(2, (64, 64), TINY, channels=16).state_dict()
    state["head.classes.0.2.bias"] = state["head.classes.0.2.bias"] * float("nan")
    with pytest.raises(ValueError, match=r"not finite, in head\.classes\.0\.2\.bias: its training"):
        start_from(saved(state, tmp_path / "x.pth"), Network(2, (64, 64), TINY, channels=16), ["a", "b"])


def test_a_training_that_starts_from_a_run_with_a_frozen_backbone(run: Run, tmp_path: Path, caplog) -> None:
    options = [*run.scenes, *TINY_MODEL, "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
    options += [f"--trainer.logger.init_args.save_dir={tmp_path}", "--model.freeze=backbone"]
    with caplog.at_level("INFO"):
        train.main([*options, f"--model.init_from={run.best}"])
    assert re.search(r"left aside +0 +0 ", caplog.text)
    (file,) = tmp_path.rglob("last.ckpt")
    before = torch.load(run.best, weights_only=True)["state_dict"]
    after = load_checkpoint(str(file))
    changed = {name for name, value in before.items() if not torch.equal(value, after["state_dict"][name])}
    assert {name.split(".")[1] for name in changed} == {"neck", "head"}
    # Of the averaged weights and of those that were trained; the norms' statistics too.
    raw = after["current_model_state"]
    assert [n for n, v in before.items() if ".backbone." in n and not torch.equal(v, raw[n])] == []
    # Scoring needs the checkpoint alone.
    config = yaml.safe_load(after["config"])
    assert config["model"]["init_from"] == str(run.best)
    without = after["config"].replace(str(run.best), str(tmp_path / "gone"))
    cli = DetectionCLI.from_checkpoint(after | {"config": without}, [])
    first = DetectionCLI.from_checkpoint(load_checkpoint(str(run.best)), [])  # both are fused
    frozen = cli.model.network.backbone.state_dict()
    assert all(torch.equal(v, frozen[n]) for n, v in first.model.network.backbone.state_dict().items())


def test_a_run_that_goes_on_needs_no_start(run: Run, tmp_path: Path) -> None:
    options = [*run.scenes, *TINY_MODEL, "--trainer.logger=false", f"--model.init_from={tmp_path / 'gone'}"]
    with pytest.raises(ValueError, match="no weights at"):
        DetectionCLI(options, keep_config=False)
    DetectionCLI([*options, f"--ckpt_path={run.last}"], keep_config=False)


def test_the_scenes_weights_fit_the_default_network() -> None:
    shipped = load_file(SCENES / HUB_WEIGHTS)
    name = "head.distances.{}.0.0.weight"
    network = Network(4, (256, 320), channels=80)
    table = start_from("scenes", network, ["Person", "boat", "Car", "tree"])
    assert re.search(r"matched +276 +\d+ +100.0%", table)
    assert "2 of 4 classes kept by name: Person, Car" in table
    assert torch.equal(network.state_dict()[name.format(0)], shipped[f"network.{name.format(0)}"].float())
    finer = Network(4, (256, 320), channels=80, strides=(4, 8, 16, 32))
    start_from("scenes", finer, ["Person", "boat", "Car", "tree"])
    assert torch.equal(finer.state_dict()[name.format(1)], shipped[f"network.{name.format(0)}"].float())

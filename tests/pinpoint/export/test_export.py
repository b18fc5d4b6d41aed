"""export.py as a user calls it: files that do what the checkpoint does, and a gate that refuses others."""

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, numpy_helper
from tiny import Run, tiny_scenes
from torch import Tensor
from torch.export import ExportedProgram

from detector import load
from detector.checkpoint import build, load_checkpoint
from detector.exported import ExportedForward
from detector.inference import Model
from detector.networks.network import Network
from detector.postprocess import postprocess
from pinpoint.cli import evaluate, train
from pinpoint.export import exporter, gate, graph, onnx_file
from pinpoint.export.__main__ import main
from pinpoint.export.share import write_hub
from pinpoint.predict.__main__ import main as predict

SMALLEST_MODEL = [
    "--model.network.backbone=test_efficientnet",
    "--model.network.channels=16",
    "--model.network.strides=[8,16]",
]
"""Few layers: every one of them is traced, translated and quantised."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained for long enough that scores differ: among equal ones, rounding decides which box is first."""
    root = tmp_path_factory.mktemp("run")
    scenes = tiny_scenes(root)
    options = ["--trainer.max_epochs=20", "--trainer.check_val_every_n_epoch=20", "--trainer.accelerator=cpu"]
    names = [f"--trainer.logger.init_args.save_dir={root}", "--trainer.logger.init_args.name=tiny"]
    train.main([*scenes, *SMALLEST_MODEL, *options, *names])
    return Run(root / "tiny" / "version_0", scenes)


@pytest.fixture(scope="module")
def checkpoint(run: Run) -> str:
    return str(run.best)


@pytest.fixture(scope="module", autouse=True)
def traced_once(checkpoint: str):
    """Tracing and translating take seconds each, and it is always the same network."""
    traced = cache(lambda half: graph.trace(build(load_checkpoint(checkpoint))[0], half=half))
    translated = cache(lambda program: onnx_file.to_onnx(program).SerializeToString())

    def to_onnx(program: ExportedProgram, calibration: Iterable[Tensor] | None = None) -> onnx.ModelProto:
        model = onnx.load_from_string(translated(program))
        return model if calibration is None else onnx_file._quantise(model, calibration)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "trace", lambda network, half: traced(half))
        patch.setattr(exporter, "to_onnx", to_onnx)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


def write(checkpoint: str, path: Path, kind: str, *options: str) -> Path:
    assert main(["--ckpt_path", checkpoint, "--format", kind, "--output", str(path), *options]) == 0
    return path


@pytest.fixture(scope="module")
def onnx_path(checkpoint: str, folder: Path) -> Path:
    """With suppression inside, which leaves boxes and scores as they are."""
    return write(checkpoint, folder / "model.onnx", "onnx", "--nms")


@pytest.fixture(scope="module")
def openvino_path(checkpoint: str, folder: Path, onnx_path: Path) -> Path:
    return write(checkpoint, folder / "model.xml", "openvino", "--nms")


@pytest.fixture(scope="module")
def program_path(checkpoint: str, folder: Path) -> Path:
    return write(checkpoint, folder / "model.pt2", "pt2")


FORMATS = ["onnx_path", "openvino_path", "program_path"]


def noise(batch: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_computes_what_the_checkpoint_does(name: str, checkpoint: str, request) -> None:
    exported, torch_model = load(request.getfixturevalue(name)), load(checkpoint, "cpu")
    # One image and several, the size of training and others, sides that no stride divides.
    for images in (noise(1, 96, 96), noise(3, 64, 160), noise(2, 101, 75)):
        logits, boxes = exported.forward(images)
        expected_logits, expected_boxes = torch_model.forward(images)
        torch.testing.assert_close(boxes, expected_boxes, atol=1e-3, rtol=0)
        torch.testing.assert_close(logits.sigmoid(), expected_logits.sigmoid(), atol=1e-5, rtol=0)
        assert boxes.dtype == logits.dtype == torch.float32
    assert exported.facts == torch_model.facts


@pytest.mark.slow
def test_any_size_where_a_backbone_rounds_halves_down() -> None:
    network = Network(2, (64, 64), backbone="test_convnext", strides=[8, 16], channels=8).eval()
    program = graph.trace(network).module()
    for images in (noise(1, 96, 96), noise(2, 101, 75), noise(1, 72, 120)):
        with torch.inference_mode():
            expected = network(images.float() / 255)
            boxes, scores = program(images)
        torch.testing.assert_close(boxes, expected.boxes(), atol=1e-3, rtol=0)
        torch.testing.assert_close(scores, expected.logits.sigmoid(), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS[:2])
def test_suppression_inside_finds_what_ours_finds(name: str, request) -> None:
    exported = ExportedForward(request.getfixturevalue(name))
    images = noise(2, 96, 96)
    for inside, ours in zip(exported.suppressed(images), postprocess(*exported(images)), strict=True):
        assert len(ours) == 500
        # Scores lie close together: equal ones may change places.
        torch.testing.assert_close(inside.scores, ours.scores, atol=1e-5, rtol=0)
        same = (inside.labels == ours.labels) & ((inside.boxes - ours.boxes).abs().amax(1) < 1e-2)
        assert same.float().mean() > 0.98


@pytest.mark.slow
def test_predict_takes_every_kind_of_file(run: Run, checkpoint: str, request, tmp_path: Path) -> None:
    images = max((run.folder.parents[1] / "scenes").rglob("*-val3/images"))

    def found(path: object, name: str) -> list[dict[str, object]]:
        options = ["--ckpt_path", str(path), "--output", str(tmp_path / name), "--save", "coco"]
        assert predict([str(images), *options, "--threshold", "0.01", "--device", "cpu"]) == 0
        return json.loads((tmp_path / name / "coco.json").read_text())["annotations"]

    expected = found(checkpoint, "checkpoint")
    assert len(expected) > 10
    for name in FORMATS:
        mine = found(request.getfixturevalue(name), name)
        assert len(mine) == pytest.approx(len(expected), abs=1)  # one may lie at the threshold
        for row in sorted(expected, key=lambda row: row["score"])[-10:]:
            same = [one for one in mine if np.abs(np.subtract(one["bbox"], row["bbox"])).max() < 0.01]
            assert row["score"] in [pytest.approx(one["score"], abs=1e-5) for one in same], (name, row)


@pytest.mark.slow
def test_every_kind_of_file_scores_alike(run: Run, request, tmp_path: Path) -> None:
    def score(path: object) -> dict[str, float]:
        # As a whole and in tiles, in one go.
        evaluate.main(["--ckpt_path", str(path), "--output", str(tmp_path), "--no-report", "--tile", "64"])
        return json.loads((tmp_path / "metrics.json").read_text())

    expected = score(run.best)
    assert expected["AR"] > 0.1
    for name in FORMATS:
        scores = score(request.getfixturevalue(name))
        for key in ("AP", "AP50", "AR"):
            assert scores[key] == pytest.approx(expected[key], abs=1e-3), (name, key)
            whole = expected["whole_images"][key]
            assert scores["whole_images"][key] == pytest.approx(whole, abs=1e-3), (name, key)


@pytest.mark.slow
def test_images_that_a_file_cannot_take(onnx_path: Path, program_path: Path) -> None:
    short = noise(1, 16, 96)  # a side as long as the largest stride
    for path, images, size in (
        (program_path, short, "16 x 96"),
        (onnx_path, short[:, :2], "1 x 2 x 16 x 96"),
    ):
        complaint = f"{path.name} cannot be run on images of .*{size} .*larger than the largest stride"
        with pytest.raises(ValueError, match=complaint):
            load(path).forward(images)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS[:2])
def test_a_file_carries_its_check_sum(name: str, request, tmp_path: Path) -> None:
    path = request.getfixturevalue(name)
    for part in path.parent.glob(f"{path.stem}.{'onnx' if name == 'onnx_path' else '[xb]*'}"):
        content = bytearray(part.read_bytes())
        (tmp_path / part.name).write_bytes(content)
    assert len(load(tmp_path / path.name).facts.class_names) == 3
    content[len(content) // 2] ^= 1
    (tmp_path / part.name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{path.name} has changed since"):
        load(tmp_path / path.name)


def test_int8_says_what_it_costs(checkpoint: str, tmp_path: Path, capsys) -> None:
    small = write(checkpoint, tmp_path / "int8.onnx", "onnx", "--int8")
    assert "cost" in capsys.readouterr().out
    model = onnx.load(small)
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    kernels = [one for one in model.graph.initializer if one.data_type == TensorProto.INT8 and one.dims[1:]]
    assert len(kernels) == convolutions > 30
    # What decodes distances to boxes is not quantised: it takes no product of integers.
    made_by = {output: node for node in model.graph.node for output in node.output}
    (product,) = (node for node in model.graph.node if node.op_type == "MatMul")
    assert made_by[product.input[0]].op_type != "DequantizeLinear"
    _, boxes = load(small).forward(noise(1, 96, 96))
    assert boxes.isfinite().all()


@pytest.mark.slow
def test_openvino_in_half_precision_and_int8(checkpoint: str, openvino_path: Path, tmp_path: Path) -> None:
    weights = openvino_path.with_suffix(".bin").stat().st_size
    half = write(checkpoint, tmp_path / "half.xml", "openvino", "--half")
    assert half.with_suffix(".bin").stat().st_size < 0.6 * weights
    small = write(checkpoint, tmp_path / "int8.xml", "openvino", "--int8")
    assert small.with_suffix(".bin").stat().st_size < 0.5 * weights
    assert load(small).facts == load(checkpoint, "cpu").facts


# The gate


def spoil(model: onnx.ModelProto, name: str, change) -> None:
    (tensor,) = (one for one in model.graph.initializer if one.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)).astype(np.float32), name))


@pytest.mark.parametrize(
    ("weight", "change", "complaint"),
    [
        ("network.head.distances.0.2.bias", lambda x: x + np.arange(x.size) / x.size, "boxes move by up to"),
        ("network.head.classes.0.2.bias", lambda x: x + 0.5, "scores change by up to"),
        ("network.head.distances.0.2.bias", lambda x: x * np.nan, "not finite"),
    ],
)
def test_a_broken_export_is_refused(
    checkpoint: str, tmp_path: Path, monkeypatch, capsys, weight: str, change, complaint: str
) -> None:
    whole = exporter.to_onnx

    def broken(*args):
        model = whole(*args)
        spoil(model, weight, change)
        return model

    monkeypatch.setattr(exporter, "to_onnx", broken)
    (tmp_path / "model.onnx").write_text("of last week")
    assert main(["--ckpt_path", checkpoint, "--format=onnx", f"--output={tmp_path / 'model.onnx'}"]) == 1
    assert complaint in capsys.readouterr().err
    # Nothing of it is left, and the good one of last week is where it was.
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("model.onnx", "of last week")]


# Weights and the hub


def same_predictions(one: Model, other: Model) -> bool:
    images = noise(1, 96, 96)
    return all(torch.equal(a, b) for a, b in zip(one.forward(images), other.forward(images), strict=True))


def test_weights_alone_are_smaller_and_score_alike(run: Run, checkpoint: str, tmp_path: Path) -> None:
    path = write(str(run.last), tmp_path / "weights.ckpt", "weights")
    assert path.stat().st_size < 0.4 * run.last.stat().st_size
    assert same_predictions(load(path, "cpu"), load(run.last, "cpu"))
    half = write(str(run.last), tmp_path / "half.ckpt", "weights", "--half")
    assert half.stat().st_size < 0.7 * path.stat().st_size
    assert load(half, "cpu").facts == load(run.last, "cpu").facts


def test_a_hub_folder_is_a_model_again(run: Run, checkpoint: str, tmp_path: Path, capsys) -> None:
    folder = write(checkpoint, tmp_path / "hub", "hub", "--licence", "cc-by-4.0")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert same_predictions(load(folder, "cpu"), load(checkpoint, "cpu"))
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    for part in ("person, car, truck", "96 x 96", "ScenesDataModule", "on 3 validation images", "below 8 px"):
        assert part in card, part
    # Nobody learns the folders of its author.
    config = (folder / "config.json").read_text()
    assert str(run.folder.parents[2]) not in config + card
    assert json.loads(config)["class_names"] == ["person", "car", "truck"]

    root = next(option for option in run.scenes if option.startswith("--data.root="))
    evaluate.main(["--ckpt_path", str(folder), root, "--output", str(tmp_path / "scores"), "--no-report"])
    scores = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert f"| all | {scores['AP']:.3f} |" in card


# What a user can mend


def test_a_hub_folder_keeps_its_authors_folders_to_itself(checkpoint: str, tmp_path: Path) -> None:
    content = load_checkpoint(checkpoint)
    config = yaml.safe_load(content["config"])
    config["model"]["init_from"] = "/home/alice/client/best.ckpt"
    config["model"]["network"].get("init_args", config["model"]["network"])["pretrained"] = "/home/alice/w.pt"
    config["data"]["init_args"] |= {"val_groups": "alice.csv", "splits": ["/home/alice/a", "b"]}
    write_hub({**content, "config": yaml.safe_dump(config)}, tmp_path / "hub", half=False, licence="mit")
    assert "alice" not in (tmp_path / "hub" / "config.json").read_text()
    assert same_predictions(load(tmp_path / "hub", "cpu"), load(checkpoint, "cpu"))


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--halff", "there is no option --halff"),
        ("--model.network.channels=32", "--model.network.channels=32, trained with 16"),
        ("--data.image_size=64", r"--data.image_size=\[64, 64\], trained with \[96, 96\]"),
        ("--model.optimizer.lr=1", "--model.optimizer.lr=1.0, trained with"),
        ("--config={}", "--model.network.backbone=resnet18, trained with test_efficientnet"),
    ],
)
def test_options_that_would_change_nothing(
    checkpoint: str, tmp_path: Path, option: str, complaint: str
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {network: {init_args: {backbone: resnet18}}}")
    out = ["--format=weights", f"--output={tmp_path / 'weights.ckpt'}", "--unchecked"]
    with pytest.raises(ValueError, match=complaint):
        main(["--ckpt_path", checkpoint, *out, option.format(recipe)])
    assert list(tmp_path.iterdir()) == [recipe]


@pytest.mark.slow
def test_a_file_has_the_postprocessing_asked_for(checkpoint: str, tmp_path: Path, monkeypatch) -> None:
    seen = []

    def compare(reference: Model, *others):
        seen.append(reference.postprocess.arguments())
        return gate.compare(reference, *others)

    monkeypatch.setattr(exporter, "compare", compare)
    names = {"score_threshold": 0.02, "nms_iou": 0.5, "max_detections": 7}
    options = [f"--model.postprocess.{name}={value}" for name, value in names.items()]
    # What is as it was is no other model.
    path = write(checkpoint, tmp_path / "m.onnx", "onnx", "--nms", "--model.network.channels=16", *options)
    before, exported = load(checkpoint, "cpu").facts, ExportedForward(path)
    expected = {**before.postprocess, **names}
    assert exported.facts == replace(before, postprocess=expected)
    assert yaml.safe_load(exported.config)["model"]["postprocess"] == expected
    assert seen == [expected]
    images = noise(2, 96, 96)
    for inside, ours in zip(
        exported.suppressed(images), load(path).postprocess(*exported(images)), strict=True
    ):
        assert 0 < len(inside) == len(ours) <= 7
        torch.testing.assert_close(inside.scores, ours.scores, atol=1e-5, rtol=0)
    constants = {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}
    assert constants["nms_score"] == np.float32(0.02)
    hub = write(checkpoint, tmp_path / "hub", "hub", "--unchecked", *options)
    assert load(hub, "cpu").facts == exported.facts


def test_without_data_the_file_is_written_unchecked(checkpoint: str, tmp_path: Path) -> None:
    nowhere = ["--data.root=nowhere"]
    path = write(checkpoint, tmp_path / "model.onnx", "onnx", "--unchecked", *nowhere)
    assert load(path).facts.class_names == ("person", "car", "truck")

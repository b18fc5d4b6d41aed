"""The scripts as a user calls them: runs, configs, mistakes."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import TINY_MODEL, Run, tiny_scenes
from tiny_data import write_visdrone, write_voc, write_yolo

import evaluate
import train
from datamodules.batch import Batch
from detector.checkpoint import load_checkpoint
from detector.module import Detector
from pinpoint.cli.detection import DetectionCLI
from pinpoint.cli.errors import user_errors
from pinpoint.cli.recipes import DEFAULTS

CONFIGS = sorted(path for path in DEFAULTS.parent.glob("*.yaml") if path != DEFAULTS)


def events(run: Run) -> EventAccumulator:
    accumulator = EventAccumulator(str(run.folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return accumulator


def write_coco(folder: Path, images: int = 2, names: tuple[str, ...] = ("car",), size: int = 96) -> Path:
    """A COCO data set of grey images with one box of every class each; returns the annotation file."""
    folder.mkdir(parents=True)
    for i in range(images):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((size, size, 3), 99, np.uint8))
    annotations = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": size, "height": size} for i in range(images)],
        "categories": [{"id": c + 1, "name": name} for c, name in enumerate(names)],
        "annotations": [
            {
                "id": i * 10 + c,
                "image_id": i,
                "category_id": c + 1,
                "bbox": [9, 9, 20, 20],
                "area": 400,
                "iscrowd": 0,
            }
            for i in range(images)
            for c in range(len(names))
        ],
    }
    file = folder / "annotations.json"
    file.write_text(json.dumps(annotations))
    return file


def coco_options(file: Path) -> list[str]:
    folder = file.parent
    return [
        "--data=CocoDataModule",
        f"--data.train_images={folder}",
        f"--data.train_annotations={file}",
        f"--data.val_images={folder}",
        f"--data.val_annotations={file}",
        "--data.image_size=[96,96]",
        "--data.batch_size=2",
        "--data.num_workers=0",
    ]


def log_to(folder: Path) -> list[str]:
    return [f"--trainer.logger.init_args.save_dir={folder}"]


def fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, main, args: list[str]) -> str:
    """Run a script that must refuse its arguments; returns the message."""
    monkeypatch.delenv("PINPOINT_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as stop, user_errors():
        main(args)
    assert stop.value.code not in (0, None)
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message[message.index("error: ") :]


# Runs


def test_the_run_folder_keeps_config_checkpoints_and_events(run: Run) -> None:
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert config["model"]["network"]["init_args"]["channels"] == 16
    assert run.best.is_file()
    assert run.last.is_file()
    assert list(run.folder.glob("events*"))


def test_tensorboard_shows_what_was_promised(run: Run) -> None:
    tags = events(run).Tags()
    scalars, images = set(tags["scalars"]), set(tags["images"])
    losses = {
        f"{stage}/{term}"
        for stage in ("train", "val")
        for term in ("loss", "loss_box", "loss_cls", "loss_dfl")
    }
    scores = {f"val/{name}" for name in ("map", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR")}
    by_class = {f"val/AP/{name}" for name in ("person", "car", "truck")}
    assigner = {"assigner/unassigned_8_16", "assigner/target_score_8_16"}
    network = {"network/parameters", "network/macs"}
    assert sorted(scalars)[0] == "Scores/AP"  # what TensorBoard shows first
    assert not any("hp_metric" in name for name in scalars)
    assert losses | scores | by_class | assigner | network <= scalars
    assert any(name.startswith("lr-") for name in scalars)
    assert "predictions/0" in images


@pytest.mark.slow
def test_evaluate_gives_the_score_that_training_logged(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The network has hardly learned, yet every score must come out the same, the loss too.
    evaluate.main(["--ckpt_path", str(run.best), "--output", str(tmp_path)])
    assert "object size, px" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    scalars = events(run)
    epoch = load_checkpoint(str(run.best))["epoch"]
    for name in ("AP50", "AP75", "AP_small", "AR", "AP/car"):
        assert metrics[name] == pytest.approx(scalars.Scalars(f"val/{name}")[epoch].value, abs=1e-6), name
    assert metrics["AP"] == pytest.approx(scalars.Scalars("val/map")[epoch].value, abs=1e-6)
    assert metrics["AR"] > 0  # not the equality of nothing with nothing
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert predictions[0].keys() == {"image_id", "category_id", "bbox", "score"}
    assert {p["category_id"] for p in predictions} <= {1, 2, 3}


@pytest.mark.slow
def test_evaluate_takes_other_data_and_matches_classes_by_name(run: Run, tmp_path: Path) -> None:
    # "truck" is the data set's first category, and class 2 of the model.
    file = write_coco(tmp_path / "data", names=("truck",))
    evaluate.main(["--ckpt_path", str(run.best), "--output", str(tmp_path), *coco_options(file)])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["AP/truck"] is not None
    assert metrics["AP/car"] is None  # no car to find


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_stopped(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The run of the fixture again, broken off in the second epoch: 6 steps, the fifth fails.
    options = [
        *run.scenes,
        *TINY_MODEL,
        *log_to(tmp_path),
        "--trainer.accelerator=cpu",
        "--trainer.max_epochs=2",
    ]
    step = Detector.training_step

    def failing(self: Detector, batch: Batch, batch_idx: int) -> torch.Tensor:
        if self.global_step == 4:
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Detector, "training_step", failing)
        with pytest.raises(RuntimeError, match="power cut"):
            train.main(options)
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    assert load_checkpoint(str(checkpoint))["global_step"] == 4
    train.main([*options, f"--ckpt_path={checkpoint}"])
    resumed, whole = load_checkpoint(str(max(tmp_path.rglob("last.ckpt")))), load_checkpoint(str(run.last))
    assert resumed["global_step"] == whole["global_step"] == 6
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name]), name


def test_checkpoints_hold_the_average_and_the_raw_weights(run: Run) -> None:
    checkpoint = load_checkpoint(str(run.last))
    name = "network.head.classes.0.2.bias"
    assert not torch.equal(checkpoint["state_dict"][name], checkpoint["current_model_state"][name])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "limit"), [("best", []), ("last", ["--trainer.limit_val_batches=0"])], ids=["best", "last"]
)
def test_a_run_ends_with_what_to_do_next_and_without_advertising(
    name: str, limit: list[str], tmp_path: Path, caplog
) -> None:
    options = [*tiny_scenes(tmp_path, 2), *TINY_MODEL, *log_to(tmp_path), "--trainer.accelerator=cpu"]
    with caplog.at_level("INFO", "lightning.pytorch"):
        train.main([*options, *limit, "--trainer.max_epochs=1", "--trainer.num_sanity_val_steps=0"])
    (file,) = tmp_path.rglob(f"{name}.ckpt")
    assert f"All scores and a report: python -m pinpoint evaluate --ckpt_path {file}" in caplog.text
    assert "litlogger" not in caplog.text


def test_a_run_says_what_it_was_trained_on(run: Run) -> None:
    hparams = yaml.safe_load((run.folder / "hparams.yaml").read_text())
    assert hparams["data"]["class_path"].endswith("ScenesDataModule")
    assert hparams["model"]["network"]["init_args"]["channels"] == 16


@pytest.mark.slow
@pytest.mark.parametrize(
    "loggers",
    [
        ["--trainer.logger+=CSVLogger", "--trainer.logger.save_dir=more"],
        ["--trainer.logger=true"],
        ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=only"],
        ["--trainer.logger=false"],
    ],
    ids=["two", "true", "csv", "none"],
)
def test_any_loggers(loggers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = [*tiny_scenes(tmp_path, 2), *TINY_MODEL, "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
    train.main([*options, *loggers])
    pictures = {"two": 1, "true": 1}.get("two" if "+=" in loggers[0] else loggers[0].split("=")[1], 0)
    events = [file for file in tmp_path.rglob("events*")]
    assert len(events) == pictures
    for file in events:
        accumulator = EventAccumulator(str(file.parent))
        accumulator.Reload()
        assert "evaluation/sizes" in accumulator.Tags()["images"]
    assert len(list(tmp_path.rglob("config.yaml"))) == ("false" not in loggers[0])


def test_without_a_logger_no_other_training_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [*tiny_scenes(tmp_path, 2), *TINY_MODEL, "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
    options.append("--trainer.logger=false")
    train.main(options)
    saved = {path: path.read_bytes() for path in Path("checkpoints").glob("*.ckpt")}
    assert saved
    with pytest.raises(ValueError, match=r"last\.ckpt is of another training.*--trainer\.default_root_dir"):
        train.main(options)
    assert {path: path.read_bytes() for path in Path("checkpoints").glob("*.ckpt")} == saved
    here = tmp_path / "checkpoints"
    assert DetectionCLI([*options, f"--ckpt_path={here}/last.ckpt"])._run_folder() == here
    assert (
        DetectionCLI([*options, "--trainer.default_root_dir=other"])._run_folder()
        == tmp_path / "other/checkpoints"
    )


@pytest.mark.slow
def test_checkpoints_can_be_left_out(tmp_path: Path) -> None:
    options = [*tiny_scenes(tmp_path, 2), *TINY_MODEL, "--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
    train.main([*options, *log_to(tmp_path), "--trainer.enable_checkpointing=false"])
    assert not list(tmp_path.rglob("*.ckpt"))


def test_grey_networks_take_colour_and_others_say_what_they_need(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*tiny_scenes(tmp_path, 2), *TINY_MODEL, *log_to(tmp_path), "--trainer.accelerator=cpu"]
    train.main([*options, "--model.network.in_channels=1", "--trainer.fast_dev_run=1"])
    message = fails(capsys, monkeypatch, train.main, [*options, "--model.network.in_channels=4"])
    assert "the images have 3 channels, the network takes 4: use --model.network.in_channels=3" in message


def test_a_picture_that_fails_ends_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("detector.training.pictures.draw_all", broken)
    monkeypatch.setattr("detector.training.pictures.draw", broken)
    options = [*tiny_scenes(tmp_path, 2), *TINY_MODEL, *log_to(tmp_path), "--trainer.accelerator=cpu"]
    with pytest.warns(UserWarning, match="the picture evaluation cannot be drawn: MemoryError"):
        train.main([*options, "--trainer.max_epochs=1"])
    assert list(tmp_path.rglob("best.ckpt"))


# Configs


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_recipe_runs(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = recipe_data(yaml.safe_load(config.read_text()).get("data", {}), tmp_path)
    small = ["--data.image_size=[96,96]", "--data.batch_size=2", "--data.num_workers=0"]
    here = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.precision=32-true"]
    alone = "class_path" in yaml.safe_load(config.read_text()).get("data", {})  # others go on top of a recipe
    options = [f"--config={config}", *data] if alone else [*data, f"--config={config}"]
    train.main([*options, *small, *here, "--trainer.fast_dev_run=true"])
    assert not Path("checkpoints").exists()  # a dry run leaves nothing


def recipe_data(data: dict[str, object], root: Path) -> list[str]:
    """Options that point a recipe's data at something small of the same format."""
    match data.get("class_path"):
        case "CocoDataModule":
            return [o for o in coco_options(write_coco(root / "coco")) if not o.startswith("--data=")]
        case "VisDroneDataModule":
            write_visdrone(root)
            return [f"--data.root={root}"]
        case "YoloDataModule":
            return [f"--data.yaml={write_yolo(root)}"]
        case "VocDataModule":
            write_voc(root)
            return [f"--data.root={root}"]
        case "ScenesDataModule":
            return [
                f"--data.root={root}",
                "--data.train_count=2",
                "--data.val_count=1",
                "--data.scene_size=[96,96]",
            ]
        case _:
            return tiny_scenes(root, images=2)


@pytest.mark.parametrize("config", [*CONFIGS, DEFAULTS], ids=lambda path: path.stem)
def test_every_recipe_says_where_it_comes_from(config: Path) -> None:
    header = "".join(line for line in config.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert "python train.py" in header or "python compare.py" in header
    wanted = ["Source:", "Hardware:", "Time:", "Expected:"] if config != DEFAULTS else []
    assert [word for word in wanted if word not in header] == []


# Mistakes


def test_unknown_option(capsys, monkeypatch) -> None:
    message = fails(capsys, monkeypatch, train.main, ["--model.network.depht=3"])
    assert "depht" in message
    assert len(message.splitlines()) < 10


def test_wrong_type(capsys, monkeypatch) -> None:
    message = fails(capsys, monkeypatch, train.main, ["--data=ScenesDataModule", "--data.batch_size=many"])
    assert "batch_size" in message
    assert "many" in message


def test_true_half_precision(capsys, monkeypatch, tmp_path: Path) -> None:
    options = [*tiny_scenes(tmp_path, 2), *TINY_MODEL, *log_to(tmp_path), "--trainer.accelerator=cpu"]
    message = fails(capsys, monkeypatch, train.main, [*options, "--trainer.precision=bf16-true"])
    assert "use bf16-mixed" in message


def test_unknown_loss_lists_the_names(capsys, monkeypatch) -> None:
    message = fails(capsys, monkeypatch, train.main, ["--data=ScenesDataModule", "--model.loss.box=cious"])
    assert message.count("hybrid,") == 1
    assert "did you mean ciou" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "name", "wrong", "meant"),
    [("box", "HybridLoss", "gama", "gamma"), ("classification", "FocalLoss", "gamm", "gamma")],
)
def test_options_of_the_chosen_loss_are_known(option: str, name: str, wrong: str, meant: str) -> None:
    loss = f"--model.loss.{option}"
    said = f"no option {loss}.{wrong}; did you mean {loss}.{meant}"
    with pytest.raises(ValueError, match=said):
        DetectionCLI(["--data=ScenesDataModule", f"{loss}={name}", f"{loss}.{wrong}=2"])


def test_missing_config_file(capsys, monkeypatch) -> None:
    assert "absent.yaml" in fails(capsys, monkeypatch, train.main, ["--config=absent.yaml"])


def test_no_data(capsys, monkeypatch) -> None:
    assert "data" in fails(capsys, monkeypatch, train.main, ["--trainer.fast_dev_run=true"])


def test_missing_annotation_file(capsys, monkeypatch, tmp_path: Path) -> None:
    options = coco_options(tmp_path / "absent.json")
    message = fails(capsys, monkeypatch, train.main, options)
    assert message.startswith(f"error: {tmp_path / 'absent.json'} cannot be read")
    assert message.count("\n") == 1


def test_option_of_data_outside_its_range(capsys, monkeypatch) -> None:
    options = ["--data=ScenesDataModule", "--data.augment.flip=3"]
    message = fails(capsys, monkeypatch, train.main, options)
    assert message == "error: augment.flip must lie in [0, 1], got 3.0\n"


def test_empty_data_set(capsys, monkeypatch, tmp_path: Path) -> None:
    options = coco_options(write_coco(tmp_path / "data", images=0))
    message = fails(capsys, monkeypatch, train.main, [*options, "--trainer.fast_dev_run=true"])
    assert str(tmp_path / "data") in message


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_image(capsys, monkeypatch, tmp_path: Path, workers: int) -> None:
    file = write_coco(tmp_path / "data", images=4)
    (tmp_path / "data" / "1.png").write_bytes(b"not an image")
    options = [*coco_options(file), *TINY_MODEL, *log_to(tmp_path), f"--data.num_workers={workers}"]
    options += ["--trainer.accelerator=cpu", "--trainer.num_sanity_val_steps=0", "--trainer.max_epochs=1"]
    message = fails(capsys, monkeypatch, train.main, options)
    assert str(tmp_path / "data" / "1.png") in message
    assert len(message.splitlines()) < 5


def test_resuming_with_other_classes(run: Run, capsys, monkeypatch, tmp_path: Path) -> None:
    file = write_coco(tmp_path / "data", names=("car", "boat"))
    options = [*coco_options(file), *TINY_MODEL, *log_to(tmp_path), f"--ckpt_path={run.last}"]
    message = fails(capsys, monkeypatch, train.main, options)
    assert "boat" in message
    assert "person" in message


def test_evaluating_data_with_an_unknown_class(run: Run, capsys, monkeypatch, tmp_path: Path) -> None:
    file = write_coco(tmp_path / "data", names=("car", "boat"))
    args = ["--ckpt_path", str(run.best), "--output", str(tmp_path), *coco_options(file)]
    message = fails(capsys, monkeypatch, evaluate.main, args)
    assert "boat" in message
    assert "ignore_categories" in message


def test_scoring_a_test_split_that_is_not_there(run: Run, capsys, monkeypatch) -> None:
    args = ["--ckpt_path", str(run.best), "--split", "test"]
    assert "no test split" in fails(capsys, monkeypatch, evaluate.main, args)


def test_evaluating_with_another_network(run: Run, capsys, monkeypatch) -> None:
    args = ["--ckpt_path", str(run.best), "--model.network.channels=24"]
    assert "do not fit" in fails(capsys, monkeypatch, evaluate.main, args)


def test_missing_and_broken_checkpoints(capsys, monkeypatch, tmp_path: Path) -> None:
    absent, broken, foreign = tmp_path / "absent.ckpt", tmp_path / "broken.ckpt", tmp_path / "foreign.ckpt"
    broken.write_bytes(b"PK")
    torch.save({"state_dict": {}}, foreign)
    assert "no checkpoint at" in fails(capsys, monkeypatch, evaluate.main, ["--ckpt_path", str(absent)])
    options = ["--data=ScenesDataModule", f"--data.root={tmp_path}", *log_to(tmp_path)]
    for wrong in (absent, tmp_path):
        message = fails(capsys, monkeypatch, train.main, [*options, f"--ckpt_path={wrong}"])
        assert message.startswith(f"error: no checkpoint at {wrong}: give")
    message = fails(capsys, monkeypatch, evaluate.main, ["--ckpt_path", str(broken)])
    assert "is the file complete" in message
    assert len(message.splitlines()) == 1  # without torch's page on pickles
    assert "was not written by train.py" in fails(
        capsys, monkeypatch, evaluate.main, ["--ckpt_path", str(foreign)]
    )


def test_resuming_from_a_missing_checkpoint(capsys, monkeypatch, tmp_path: Path) -> None:
    options = [*tiny_scenes(tmp_path, 2), *TINY_MODEL, *log_to(tmp_path), f"--ckpt_path={tmp_path}/no.ckpt"]
    assert "no.ckpt" in fails(capsys, monkeypatch, train.main, options)


def test_the_run_folder_is_named_after_its_recipes(tmp_path: Path) -> None:
    config, more = tmp_path / "my_recipe.yaml", tmp_path / "larger.yaml"
    config.write_text("data: {class_path: ScenesDataModule}\n")
    more.write_text("model: {network: {channels: 32}}\n")
    for recipes, name in (([config], "my_recipe"), ([config, more], "my_recipe-larger")):
        configs = [f"--config={recipe}" for recipe in recipes]
        cli = DetectionCLI([*configs, *TINY_MODEL, *log_to(tmp_path)])
        assert Path(cli.trainer.logger.log_dir) == tmp_path / name / "version_0"


def test_a_config_beside_a_tuned_loss(tmp_path: Path) -> None:
    loss = ["--model.loss.box=HybridLoss", "--model.loss.box.gamma=2"]
    cli = DetectionCLI(["--data=ScenesDataModule", *TINY_MODEL, "--trainer.logger=false", *loss])
    assert cli.model.loss.box.gamma == 2
